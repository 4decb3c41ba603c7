// Maximum flows and minimum cuts in whole units.
//
// Incremental breadth-first search: a tree grows from the source and one from the target, by a level at a time in turn. Where they
// meet, flow goes along a shortest path. Nodes whose arc towards the root is full look for another parent, as near to the root as
// before or else nearest, and those that find none leave the tree; so what has been searched once is kept, and only mended. When a
// tree cannot grow, the flow is greatest.
//
// Whole numbers, so flow and cut have the same value exactly. The nodes on the source's side are those that it still reaches,
// which is the smallest such set, whatever the flow.
// Source: Goldberg, Hed, Kaplan, Tarjan, Werneck, "Maximum flows by incremental breadth-first search" (2011).
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <vector>

#include "flow_graph.hpp"
#include "parallel.hpp"

namespace {

using flow::Arc;
using flow::Batch;
using flow::Graph;
using flow::kNone;
using flow::Link;

constexpr int32_t kRoot = -2, kOrphan = -3;  // in place of an arc towards the root

/// Which end of the flow a tree grows from.
enum Tree { kSource = 0, kTarget = 1 };

class Search {
 public:
  explicit Search(int64_t nodes) : nodes_(nodes) {}

  void solve(Graph& graph, const Batch& batch, int64_t b) {
    graph_ = &graph, arcs_ = graph.arcs.data();
    const int64_t* capacity = batch.capacity + b * batch.size;
    fill(batch, capacity);
    plant();
    while (rooted() && !waiting_[kSource].empty() && !waiting_[kTarget].empty())
      top_[kSource] <= top_[kTarget] ? grow<kSource>() : grow<kTarget>();
    reach(batch.side + b * batch.nodes);
    write(batch, capacity, batch.flow + b * batch.size);
  }

 private:
  struct Node {
    int64_t excess;  // what may still come from the source, or with the other sign, go to the target
    int32_t level;   // how many arcs from the source, or with the other sign, to the target; 0: in neither tree
    int32_t parent;  // the arc towards the root
    int32_t next;    // arcs before this one lead to no other parent on the same level
  };

  Graph* graph_;
  Arc* arcs_;
  std::vector<Node> nodes_;
  std::vector<int64_t> given_, taken_;  // of each node, all that source and target allow
  std::vector<int32_t> waiting_[2], growing_, orphans_;
  int64_t roots_[2];   // nodes with excess of that sign
  int32_t top_[2];     // the greatest level of each tree; its nodes wait to grow
  Tree tree_;          // that grows from `growing_`, from the level below the greatest

  void fill(const Batch& batch, const int64_t* capacity) {
    for (Arc& arc : graph_->arcs) arc.room = 0;
    for (int64_t e = 0; e < batch.size; ++e) {
      if (graph_->place[e] < 0) continue;
      Arc& arc = arcs_[graph_->place[e]];
      arc.room += capacity[e];
      if (!batch.directed) arcs_[arc.back].room += capacity[e];
    }
    given_.assign(nodes_.size(), 0), taken_.assign(nodes_.size(), 0);
    for (const Link& link : graph_->from_source) given_[link.node] += capacity[link.edge];
    for (const Link& link : graph_->to_target) taken_[link.node] += capacity[link.edge];
  }

  void plant() {
    waiting_[kSource].clear(), waiting_[kTarget].clear();
    top_[kSource] = top_[kTarget] = 1;
    for (int32_t v = 0; v < int32_t(nodes_.size()); ++v) {
      const int64_t excess = given_[v] - taken_[v];
      nodes_[v] = {excess, (excess > 0) - (excess < 0), kRoot, graph_->first[v]};
      if (excess) waiting_[excess > 0 ? kSource : kTarget].push_back(v);
    }
    for (const Tree tree : {kSource, kTarget}) roots_[tree] = int64_t(waiting_[tree].size());
  }

  /// Whether anything is left to carry; if not, trees need no mending.
  bool rooted() const { return roots_[kSource] && roots_[kTarget]; }

  /// How many arcs a node is from the root; not positive if it is not in this tree.
  template <Tree tree>
  int32_t level(int32_t v) const {
    return tree == kSource ? nodes_[v].level : -nodes_[v].level;
  }

  /// Whether the tree may reach where an arc leads from where it starts: flow has room from the source, or to the target.
  template <Tree tree>
  bool leads_away(const Arc& arc) const {
    return (tree == kSource ? arc.room : arcs_[arc.back].room) > 0;
  }

  /// The arc for the flow between a node and its parent, given the arc towards the parent.
  template <Tree tree>
  Arc& carrier(int32_t towards) const {
    return arcs_[tree == kSource ? arcs_[towards].back : towards];
  }

  template <Tree tree>
  void grow() {
    growing_.swap(waiting_[tree]);
    waiting_[tree].clear();
    ++top_[tree];
    tree_ = tree;
    for (size_t i = 0; i < growing_.size(); ++i) grow_from<tree>(growing_[i]);
    growing_.clear();
  }

  template <Tree tree>
  void grow_from(int32_t v) {
    for (int32_t i = graph_->first[v]; i < graph_->first[v + 1];) {
      if (!rooted() || level<tree>(v) != top_[tree] - 1) return;
      const Arc& arc = arcs_[i];
      Node& other = nodes_[arc.head];
      if (level<tree>(arc.head) > 0 || !leads_away<tree>(arc)) {
        ++i;
      } else if (other.level == 0) {
        join<tree>(arc.head, top_[tree], arc.back);
        other.next = graph_->first[arc.head];
        ++i;
      } else {
        augment(tree == kSource ? i : arc.back);  // and look at the arc again
      }
    }
  }

  template <Tree tree>
  void join(int32_t v, int32_t level, int32_t parent) {
    nodes_[v].level = tree == kSource ? level : -level;
    nodes_[v].parent = parent;
    if (level == top_[tree]) waiting_[tree].push_back(v);
    else if (tree == tree_ && level == top_[tree] - 1) growing_.push_back(v);
  }

  /// As much flow as the path carries that an arc from the source's tree to the target's closes.
  void augment(int32_t i) {
    const int32_t tail = arcs_[arcs_[i].back].head, head = arcs_[i].head;
    const int64_t most = std::min({arcs_[i].room, carried<kSource>(tail), carried<kTarget>(head)});
    arcs_[i].room -= most, arcs_[arcs_[i].back].room += most;
    push<kSource>(tail, most);
    push<kTarget>(head, most);
  }

  template <Tree tree>
  int64_t carried(int32_t v) const {
    int64_t most = std::numeric_limits<int64_t>::max();
    for (; nodes_[v].parent != kRoot; v = arcs_[nodes_[v].parent].head)
      most = std::min(most, carrier<tree>(nodes_[v].parent).room);
    return std::min<int64_t>(most, std::llabs(nodes_[v].excess));
  }

  template <Tree tree>
  void push(int32_t v, int64_t most) {
    orphans_.clear();
    for (int32_t above; nodes_[v].parent != kRoot; v = above) {
      above = arcs_[nodes_[v].parent].head;
      Arc& arc = carrier<tree>(nodes_[v].parent);
      arc.room -= most, arcs_[arc.back].room += most;
      if (arc.room == 0) orphan(v);
    }
    nodes_[v].excess -= tree == kSource ? most : -most;
    if (nodes_[v].excess == 0) orphan(v), --roots_[tree];
    std::reverse(orphans_.begin(), orphans_.end());  // those nearest to the root first
    for (size_t k = 0; k < orphans_.size() && rooted(); ++k) adopt<tree>(orphans_[k]);
  }

  void orphan(int32_t v) {
    nodes_[v].parent = kOrphan;
    orphans_.push_back(v);
  }

  /// Finds a parent for a node, on the same level as before or else nearest to the root, or lets it leave the tree. Where its
  /// level changes, its children are orphans.
  template <Tree tree>
  void adopt(int32_t v) {
    Node& node = nodes_[v];
    const int32_t begin = graph_->first[v], end = graph_->first[v + 1], before = level<tree>(v);
    for (int32_t& i = node.next; i < end; ++i)
      if (level<tree>(arcs_[i].head) == before - 1 && before > 1 && carrier<tree>(i).room > 0) {
        node.parent = i;
        return;
      }
    int32_t nearest = top_[tree], parent = kNone;
    for (int32_t i = begin; i < end; ++i) {
      const int32_t other = level<tree>(arcs_[i].head);
      if (0 < other && other < nearest && carrier<tree>(i).room > 0) nearest = other, parent = i;
    }
    for (int32_t i = begin; i < end; ++i) {
      const int32_t child = arcs_[i].head;
      if (nodes_[child].parent == arcs_[i].back && level<tree>(child) > 0) orphan(child);
    }
    node.next = parent;
    if (parent == kNone) node.level = 0, node.parent = kNone;
    else join<tree>(v, nearest + 1, parent);
  }

  /// Which nodes the source still reaches.
  void reach(uint8_t* side) {
    std::vector<int32_t>& queue = growing_;
    for (int32_t v = 0; v < int32_t(nodes_.size()); ++v)
      if ((side[v] = nodes_[v].excess > 0)) queue.push_back(v);
    side[graph_->source] = 1;
    for (size_t k = 0; k < queue.size(); ++k)
      for (int32_t i = graph_->first[queue[k]]; i < graph_->first[queue[k] + 1]; ++i) {
        const Arc& arc = arcs_[i];
        if (!side[arc.head] && arc.room > 0) side[arc.head] = 1, queue.push_back(arc.head);
      }
    queue.clear();
  }

  void write(const Batch& batch, const int64_t* capacity, int64_t* flow) {
    for (int64_t e = 0; e < batch.size; ++e) {
      const int32_t place = graph_->place[e];
      const int64_t net = place < 0 ? 0 : capacity[e] - arcs_[place].room;
      flow[e] = batch.directed ? std::max<int64_t>(net, 0) : net;
    }
    for (const Link& link : graph_->across) flow[link.edge] = link.sign * capacity[link.edge];
    for (int32_t v = 0; v < int32_t(nodes_.size()); ++v) {  // from here on what is still to be carried
      given_[v] -= std::max<int64_t>(nodes_[v].excess, 0);
      taken_[v] -= std::max<int64_t>(-nodes_[v].excess, 0);
    }
    share(graph_->from_source, given_, capacity, flow);
    share(graph_->to_target, taken_, capacity, flow);
  }

  /// Hands out what each node gets, or gives, to its edges.
  static void share(const std::vector<Link>& links, std::vector<int64_t>& left, const int64_t* capacity, int64_t* flow) {
    for (const Link& link : links) {
      const int64_t part = std::min(left[link.node], capacity[link.edge]);
      left[link.node] -= part;
      flow[link.edge] = link.sign * part;
    }
  }
};

}  // namespace

/// Returns -1 if memory ran out, and 0 otherwise.
extern "C" __attribute__((visibility("default"))) int64_t solverlayers_max_flow(
    const int64_t* capacity, const int64_t* edges, int own, int directed, int64_t count, int64_t nodes, int64_t size,
    const int64_t* source, const int64_t* target, int64_t* flow, uint8_t* side, int threads) {
  const Batch batch{capacity, edges, own != 0, directed != 0, count, nodes, size, source, target, flow, side};
  const double cost = 500 + 60.0 * double(size);
  const bool done = parallel::for_parts(count, cost, threads, [&](int64_t begin, int64_t end) {
    Search search(nodes);
    std::optional<Graph> graph;
    for (int64_t b = begin; b < end; ++b) {
      if (own || !graph || graph->source != source[b] || graph->target != target[b]) graph.emplace(batch, b);
      search.solve(*graph, batch, b);
    }
  });
  return done ? 0 : -1;
}
