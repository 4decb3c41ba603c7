// What a batch of problems of cheapest paths is, and how paths are read off distances.
//
// The path is read backwards from the target, over the edge of lowest index that explains the distance and comes from a
// nearer node. Where there is none (edges that cost nothing, or too little to change the sum) a breadth-first search over
// edges between equally far nodes leads by the fewest of them to a node with one. Distance and then steps strictly fall, so
// no node is met twice.
#pragma once

#include <algorithm>
#include <limits>

#include "graph_arcs.hpp"
#include "path_costs.hpp"
#include "simd.hpp"

namespace graph_path {

enum Status : uint8_t { kSolved = 0, kUnreachable = 1, kInvalid = 2 };

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

/// What all instances have, whether they share their edges or not.
template <class T>
struct Batch {
  const T* cost;        // (count, edges)
  const uint8_t* mask;  // the same shape, or null
  const int64_t *source, *target;
  int64_t count, nodes, edges;
  Reading reading;  // what `cost` holds
  T* solution;      // the shape of cost
  T* distance;      // (count, nodes), or null
  uint8_t* status;  // (count)

  /// What edge `e` of instance `b` costs, infinity outside the mask. It may be no cost, see `::cost_of`.
  T cost_of(int64_t b, int64_t e) const {
    return mask && !mask[b * edges + e] ? kInfinity<T> : ::cost_of(cost[b * edges + e], reading);
  }
};

/// Numbers of one instance, which lie `stride` apart where instances lie in lanes.
template <class T>
struct Column {
  const T* first;
  int64_t stride;
  T operator[](int64_t i) const { return first[i * stride]; }
};

/// The same, where entry i lies at place[i].
template <class T>
struct Placed {
  Column<T> column;
  const int32_t* place;
  T operator[](int64_t i) const { return column[place[i]]; }
};

/// Reads paths off distances.
template <class T>
class Tracer {
 public:
  /// Writes the solution, the status, and the distances if they are asked for, of instance `b`.
  template <class Distance>
  void write(const Batch<T>& batch, int64_t b, const Arcs& in, Column<T> cost, Distance distance, bool valid) {
    T* solution = batch.solution + b * batch.edges;
    std::fill_n(solution, batch.edges, T(0));
    const T furthest = distance[batch.target[b]];
    batch.status[b] = !valid ? kInvalid : furthest < kInfinity<T> ? kSolved : kUnreachable;
    if (batch.distance)
      for (int64_t v = 0; v < batch.nodes; ++v) batch.distance[b * batch.nodes + v] = std::min(furthest, distance[v]);
    if (batch.status[b] != kSolved) return;
    for (int32_t v = int32_t(batch.target[b]); v != batch.source[b];) {
      const int32_t arc = from_nearer(in, cost, distance, v);
      if (arc < 0) {
        v = cross_plateau(batch, b, in, cost, distance, v);
      } else {
        solution[in.edge[arc]] = 1;
        v = in.node[arc];
      }
    }
  }

 private:
  struct Found {
    int32_t node, edge, from;  // found over `edge` from place `from` in the queue
  };
  simd::Buffer<Found> queue_memory_;
  simd::Buffer<uint8_t> seen_memory_;

  /// The first arc that explains the distance of v and comes from a nearer node, or -1.
  template <class Distance>
  static int32_t from_nearer(const Arcs& in, Column<T> cost, Distance distance, int32_t v) {
    const T own = distance[v];
    for (int32_t arc = in.start[v]; arc < in.start[v + 1]; ++arc) {
      const T there = distance[in.node[arc]];
      if (there < own && there + cost[in.edge[arc]] == own) return arc;
    }
    return -1;
  }

  /// Marks the fewest edges between nodes as far as v that lead to one with a nearer node (or the source), and returns that.
  template <class Distance>
  int32_t cross_plateau(const Batch<T>& batch, int64_t b, const Arcs& in, Column<T> cost, Distance distance, int32_t v) {
    Found* queue = queue_memory_.get(batch.nodes);
    uint8_t* seen = seen_memory_.get(batch.nodes);
    std::fill_n(seen, batch.nodes, uint8_t(0));
    const T level = distance[v];
    int32_t found = 0, at = 0;
    queue[found++] = Found{v, -1, -1};
    seen[v] = 1;
    while (queue[at].node != batch.source[b] && from_nearer(in, cost, distance, queue[at].node) < 0) {
      const int32_t here = queue[at].node;
      for (int32_t arc = in.start[here]; arc < in.start[here + 1]; ++arc) {
        const int32_t node = in.node[arc];
        if (seen[node] || distance[node] != level || level + cost[in.edge[arc]] != level) continue;
        seen[node] = 1;
        queue[found++] = Found{node, in.edge[arc], at};
      }
      ++at;  // the source is found at the latest, so the queue does not run dry
    }
    const int32_t end = queue[at].node;
    for (; queue[at].from >= 0; at = queue[at].from) batch.solution[b * batch.edges + queue[at].edge] = 1;
    return end;
  }
};

}  // namespace graph_path
