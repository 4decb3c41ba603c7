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

/// Arcs 2e and 2e + 1 are edge e and its reverse, sorted by the node that they leave.
class Graph {
 public:
  Graph(const int64_t* tails, const int64_t* heads, int64_t nodes, int64_t size)
      : first(nodes + 1), arcs(2 * size), head(2 * size) {
    for (int64_t e = 0; e < size; ++e) {
      ++first[tails[e] + 1], ++first[heads[e] + 1];
      head[2 * e] = int32_t(heads[e]), head[2 * e + 1] = int32_t(tails[e]);
    }
    for (int64_t v = 0; v < nodes; ++v) first[v + 1] += first[v];
    std::vector<int32_t> place(first.begin(), first.end() - 1);
    for (int64_t e = 0; e < size; ++e) {
      arcs[place[tails[e]]++] = int32_t(2 * e);
      arcs[place[heads[e]]++] = int32_t(2 * e + 1);
    }
  }

  std::vector<int32_t> first, arcs, head;
};

class Dinic {
 public:
  explicit Dinic(int64_t nodes, int64_t size) : room_(2 * size), next_(nodes), level_(nodes), queue_(nodes) {}

  void solve(const Graph& graph, const Batch& batch, int64_t b) {
    const int64_t size = batch.size;
    const int64_t* capacity = batch.capacity + b * size;
    for (int64_t e = 0; e < size; ++e) room_[2 * e] = capacity[e], room_[2 * e + 1] = batch.directed ? 0 : capacity[e];
    const int source = int(batch.source[b]), target = int(batch.target[b]);
    while (search(graph, target, source)) {
      std::copy(graph.first.begin(), graph.first.end() - 1, next_.begin());
      push(graph, source, target);
    }
    reach(graph, source, batch.side + b * batch.nodes);
    for (int64_t e = 0; e < size; ++e) batch.flow[b * size + e] = capacity[e] - room_[2 * e];
  }

 private:
  std::vector<int64_t> room_;
  std::vector<int32_t> next_, level_, queue_, path_;

  /// Distances to the target along arcs with room; whether the source has one.
  bool search(const Graph& graph, int target, int source) {
    std::fill(level_.begin(), level_.end(), -1);
    int begin = 0, end = 0;
    level_[target] = 0, queue_[end++] = target;
    while (begin < end && level_[source] < 0) {
      const int v = queue_[begin++];
      for (int i = graph.first[v]; i < graph.first[v + 1]; ++i) {
        const int arc = graph.arcs[i], u = graph.head[arc];
        if (level_[u] < 0 && room_[arc ^ 1] > 0) level_[u] = level_[v] + 1, queue_[end++] = u;
      }
    }
    return level_[source] >= 0;
  }

  /// A blocking flow: paths along which the distance to the target falls by one, until there is none.
  void push(const Graph& graph, int source, int target) {
    path_.clear();
    for (int v = source;;) {
      if (v == target) {
        int64_t most = room_[path_[0]];
        for (const int arc : path_) most = std::min(most, room_[arc]);
        size_t keep = path_.size();
        for (size_t k = path_.size(); k-- > 0;) {
          room_[path_[k]] -= most, room_[path_[k] ^ 1] += most;
          if (room_[path_[k]] == 0) keep = k;
        }
        v = graph.head[path_[keep] ^ 1];  // on from the first arc that is full
        path_.resize(keep);
        continue;
      }
      int& i = next_[v];
      for (; i < graph.first[v + 1]; ++i) {
        const int arc = graph.arcs[i];
        if (room_[arc] > 0 && level_[graph.head[arc]] == level_[v] - 1) break;
      }
      if (i < graph.first[v + 1]) {
        path_.push_back(graph.arcs[i]);
        v = graph.head[path_.back()];
      } else if (path_.empty()) {
        return;
      } else {
        level_[v] = -1;  // a dead end
        v = graph.head[path_.back() ^ 1];
        path_.pop_back();
      }
    }
  }

  /// Which nodes the source still reaches.
  void reach(const Graph& graph, int source, uint8_t* side) {
    std::fill_n(side, level_.size(), uint8_t(0));
    int begin = 0, end = 0;
    side[source] = 1, queue_[end++] = source;
    while (begin < end) {
      const int v = queue_[begin++];
      for (int i = graph.first[v]; i < graph.first[v + 1]; ++i) {
        const int arc = graph.arcs[i], u = graph.head[arc];
        if (!side[u] && room_[arc] > 0) side[u] = 1, queue_[end++] = u;
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
    Dinic dinic(nodes, size);
    const int64_t begin = chunk * together, end = std::min(count, begin + together);
    if (!batch.own) {
      const Graph graph(edges, edges + size, nodes, size);
      for (int64_t b = begin; b < end; ++b) dinic.solve(graph, batch, b);
    } else {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t* tails = edges + 2 * b * size;
        dinic.solve(Graph(tails, tails + size, nodes, size), batch, b);
      }
    }
  });
  return done ? 0 : -1;
}
