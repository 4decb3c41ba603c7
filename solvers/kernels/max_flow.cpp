// Maximum flows and minimum cuts in whole units.
//
// Dinic's algorithm: distances to the target, by breadth-first search over the arcs that have room, and then flow along arcs that
// come one step nearer, by depth-first search that remembers which arcs of a node are used up, until nothing more gets through.
// Whole numbers, so flow and cut have the same value exactly. The nodes on the source's side are those that it still reaches,
// which is the smallest such set, whatever the flow.
// Source: E. A. Dinic, "Algorithm for solution of a problem of maximum flow in networks with power estimation" (1970).
#include <algorithm>
#include <vector>

#include "parallel.hpp"

namespace {

struct Batch {
  const int64_t* capacity;
  const int64_t* edges;  // tails, then heads
  bool own;              // each instance has edges of its own
  bool directed;
  int64_t count, nodes, size;
  const int64_t *source, *target;
  int64_t* flow;
  uint8_t* side;
};

struct Arc {
  int64_t room;
  int32_t head, back;  // where it leads, and which arc leads back
};

/// The arcs of each node side by side, forward and backward, and where those of an edge are.
class Graph {
 public:
  Graph(const int64_t* tails, const int64_t* heads, int64_t nodes, int64_t size) : first(nodes + 1), arcs(2 * size), place(size) {
    for (int64_t e = 0; e < size; ++e) ++first[tails[e] + 1], ++first[heads[e] + 1];
    for (int64_t v = 0; v < nodes; ++v) first[v + 1] += first[v];
    std::vector<int32_t> next(first.begin(), first.end() - 1);
    for (int64_t e = 0; e < size; ++e) {
      const int32_t ahead = next[tails[e]]++, back = next[heads[e]]++;
      arcs[ahead] = {0, int32_t(heads[e]), back};
      arcs[back] = {0, int32_t(tails[e]), ahead};
      place[e] = ahead;
    }
  }

  std::vector<int32_t> first;
  std::vector<Arc> arcs;
  std::vector<int32_t> place;
};

class Dinic {
 public:
  explicit Dinic(int64_t nodes) : next_(nodes), level_(nodes), queue_(nodes) {}

  void solve(Graph& graph, const Batch& batch, int64_t b) {
    const int64_t* capacity = batch.capacity + b * batch.size;
    for (int64_t e = 0; e < batch.size; ++e) {
      Arc& arc = graph.arcs[graph.place[e]];
      graph.arcs[arc.back].room = batch.directed ? 0 : capacity[e];
      arc.room = capacity[e];
    }
    const int source = int(batch.source[b]), target = int(batch.target[b]);
    while (search(graph, target, source)) {
      std::copy(graph.first.begin(), graph.first.end() - 1, next_.begin());
      push(graph, source, target);
    }
    reach(graph, source, batch.side + b * batch.nodes);
    for (int64_t e = 0; e < batch.size; ++e) batch.flow[b * batch.size + e] = capacity[e] - graph.arcs[graph.place[e]].room;
  }

 private:
  std::vector<int32_t> next_, level_, queue_, path_;

  /// Distances to the target along arcs with room; whether the source has one.
  bool search(const Graph& graph, int target, int source) {
    std::fill(level_.begin(), level_.end(), -1);
    int begin = 0, end = 0;
    level_[target] = 0, queue_[end++] = target;
    while (begin < end && level_[source] < 0) {
      const int v = queue_[begin++];
      for (int i = graph.first[v]; i < graph.first[v + 1]; ++i) {
        const Arc& arc = graph.arcs[i];
        if (level_[arc.head] < 0 && graph.arcs[arc.back].room > 0) level_[arc.head] = level_[v] + 1, queue_[end++] = arc.head;
      }
    }
    return level_[source] >= 0;
  }

  /// A blocking flow: paths along which the distance to the target falls by one, until there is none.
  void push(Graph& graph, int source, int target) {
    Arc* arcs = graph.arcs.data();
    path_.clear();
    for (int v = source;;) {
      if (v == target) {
        v = fill(arcs, source);
        continue;
      }
      int& i = next_[v];
      const int end = graph.first[v + 1], nearer = level_[v] - 1;
      while (i < end && !(arcs[i].room > 0 && level_[arcs[i].head] == nearer)) ++i;
      if (i < end) {
        path_.push_back(i);
        v = arcs[i].head;
      } else if (path_.empty()) {
        return;
      } else {
        level_[v] = -1;  // a dead end
        v = arcs[arcs[path_.back()].back].head;
        path_.pop_back();
      }
    }
  }

  /// As much as the path carries; the node before the first arc that is full, where the search goes on.
  int fill(Arc* arcs, int source) {
    int64_t most = arcs[path_[0]].room;
    for (const int i : path_) most = std::min(most, arcs[i].room);
    size_t keep = path_.size();
    for (size_t k = path_.size(); k-- > 0;) {
      Arc& arc = arcs[path_[k]];
      arc.room -= most, arcs[arc.back].room += most;
      if (arc.room == 0) keep = k;
    }
    path_.resize(keep);
    return keep ? arcs[path_.back()].head : source;
  }

  /// Which nodes the source still reaches.
  void reach(const Graph& graph, int source, uint8_t* side) {
    std::fill_n(side, level_.size(), uint8_t(0));
    int begin = 0, end = 0;
    side[source] = 1, queue_[end++] = source;
    while (begin < end) {
      const int v = queue_[begin++];
      for (int i = graph.first[v]; i < graph.first[v + 1]; ++i) {
        const Arc& arc = graph.arcs[i];
        if (!side[arc.head] && arc.room > 0) side[arc.head] = 1, queue_[end++] = arc.head;
      }
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
  if (double(count) * cost < 200e3) threads = 1;
  const int64_t together = threads > 1 ? std::max<int64_t>(1, int64_t(50e3 / cost)) : std::max<int64_t>(1, count);
  const bool done = parallel::parallel_for((count + together - 1) / together, threads, [&](int64_t chunk) {
    Dinic dinic(nodes);
    const int64_t begin = chunk * together, end = std::min(count, begin + together);
    if (!batch.own) {
      Graph graph(edges, edges + size, nodes, size);
      for (int64_t b = begin; b < end; ++b) dinic.solve(graph, batch, b);
    } else {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t* tails = edges + 2 * b * size;
        Graph graph(tails, tails + size, nodes, size);
        dinic.solve(graph, batch, b);
      }
    }
  });
  return done ? 0 : -1;
}
