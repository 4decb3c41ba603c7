// Cheapest paths in one graph at a time: Dijkstra's algorithm, up to the distance of the target.
#pragma once

#include "path_tracer.hpp"
#include "waiting_nodes.hpp"

namespace graph_path {

/// One instance at a time.
template <class T>
class Dijkstra {
 public:
  /// The distances of all nodes that are not further than `reach` times the target (-1: of all nodes); those of others may be
  /// too large. Calls `settle(v)` for each, in order of distance.
  template <class Settle>
  void run(const Graph& graph, const T* cost, int32_t source, int32_t target, T reach, Settle&& settle) {
    const Arcs& out = graph.out;
    distance_ = distance_memory_.get(graph.nodes);
    std::fill_n(distance_, graph.nodes, kInfinity<T>);
    queue_.reset(out.start[graph.nodes] + 1, typical(cost, graph.edges));
    distance_[source] = 0;
    queue_.push(0, source);
    T furthest = target == source ? T(0) : kInfinity<T>;
    while (!queue_.empty(distance_)) {
      const auto entry = queue_.pop();
      const int32_t v = Heap<T>::node_of(entry);
      const T own = Heap<T>::distance_of(entry);
      if (own > distance_[v]) continue;
      if (own > furthest) break;
      settle(v);
      for (int32_t arc = out.start[v]; arc < out.start[v + 1]; ++arc) {
        const T via = own + cost[out.edge[arc]];
        const int32_t head = out.node[arc];
        if (!(via < distance_[head])) continue;
        distance_[head] = via;
        if (head == target) furthest = reach * via;
        if (via <= furthest) queue_.push(via, head);
      }
    }
  }

  void solve(const Batch<T>& batch, int64_t b, const Graph& graph) {
    const T* cost = load_costs(batch, b);
    bool valid = true;
    for (int64_t e = 0; e < batch.edges; ++e) valid &= cost[e] >= 0;  // not so for NaN
    if (valid) run(graph, cost, int32_t(batch.source[b]), int32_t(batch.target[b]), 1, [](int32_t) {});
    else std::fill_n(distance_ = distance_memory_.get(graph.nodes), graph.nodes, kInfinity<T>);
    tracer_.write(batch, b, graph.in, Column<T>{cost, 1}, Column<T>{distance_, 1}, valid);
  }

 private:
  Queue<T> queue_;
  Tracer<T> tracer_;
  simd::Buffer<T> distance_memory_, cost_memory_;
  T* distance_ = nullptr;

  const T* load_costs(const Batch<T>& batch, int64_t b) {
    if (!batch.mask && batch.reading == Reading::kCosts) return batch.cost + b * batch.edges;
    T* cost = cost_memory_.get(batch.edges);
    for (int64_t e = 0; e < batch.edges; ++e) cost[e] = batch.cost_of(b, e);
    return cost;
  }

  /// The mean of some costs that are finite.
  static T typical(const T* cost, int64_t edges) {
    T sum = 0, count = 0;
    for (int64_t e = 0; e < edges; e += 1 + edges / 128) {
      const bool finite = cost[e] < kInfinity<T>;
      sum += finite ? cost[e] : T(0);
      count += finite;
    }
    return sum / count;
  }
};

}  // namespace graph_path
