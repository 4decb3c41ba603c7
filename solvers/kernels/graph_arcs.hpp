// Graphs as lists of arcs: those that leave a node, or enter it, lie side by side.
#pragma once

#include <algorithm>

#include "simd.hpp"

namespace graph_path {

/// The arcs of each node v are start[v], ..., start[v + 1] - 1, in the order of their edges.
struct Arcs {
  const int32_t *start, *node, *edge;
};

struct Graph {
  int64_t nodes, edges;
  Arcs out, in;
};

/// The arcs of a graph of one instance.
class OwnArcs {
 public:
  /// `tail` and `head` are the ends of the edges; an edge outside the mask has no arc.
  void make(const int64_t* tail, const int64_t* head, const uint8_t* mask, int64_t nodes, int64_t edges, bool directed) {
    const int64_t arcs = directed ? edges : 2 * edges;
    int32_t* start = memory_.get(nodes + 2 + 2 * arcs);
    int32_t *node = start + nodes + 2, *edge = node + arcs;
    std::fill_n(start, nodes + 2, 0);
    const auto for_each_arc = [&](auto&& visit) {
      for (int64_t e = 0; e < edges; ++e) {
        if (mask && !mask[e]) continue;
        visit(int32_t(tail[e]), int32_t(head[e]), int32_t(e));
        if (!directed) visit(int32_t(head[e]), int32_t(tail[e]), int32_t(e));
      }
    };
    for_each_arc([&](int32_t from, int32_t, int32_t) { ++start[from + 2]; });
    for (int64_t v = 0; v < nodes; ++v) start[v + 2] += start[v + 1];
    for_each_arc([&](int32_t from, int32_t to, int32_t e) {
      const int32_t k = start[from + 1]++;
      node[k] = to;
      edge[k] = e;
    });
    arcs_ = Arcs{start, node, edge};
  }

  const Arcs& arcs() const { return arcs_; }

 private:
  simd::Buffer<int32_t> memory_;
  Arcs arcs_{};
};

}  // namespace graph_path
