// The arcs that enter the nodes of a graph in which nodes are contracted: the cheapest, of all from outside.
//
// Lists of arcs are kept in leftist heaps, one for each contracted node, from which a number can be taken off all arcs at once:
// O(E log E) in all. In matrices, a contracted node has a row with its cheapest arc from each other node, and rows are searched
// and merged a register at a time: O(n^2) in all; lists that are not sparse are spread out to matrices.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "lanes.hpp"
#include "simd.hpp"

namespace arborescence {

using simd::Double;
constexpr int W = simd::kLanes<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kNone = -1;

struct Arc {
  double cost = kInfinity;  // less all duals so far
  int64_t tail = kNone, head = kNone, number = kNone;
};

template <class T>
struct Batch {
  const T* costs;
  const uint8_t* mask;
  const int64_t* edges;  // of lists: tails, then heads
  const int64_t* roots;  // of each instance; negative where it is free
  bool own;              // each instance has edges of its own
  int64_t count, nodes, size;  // size: of the scores of an instance
  bool largest;
  T* solution;
  uint8_t* status;   // 1 where there is none
  double* duals;     // (count, 2 nodes), or null: of nodes, then of contracted ones
  int64_t* parents;  // (count, 2 nodes): the contracted node around each, or -1

  double cost(int64_t b, int64_t e) const {
    const double c = double(costs[b * size + e]);
    return mask && !mask[b * size + e] ? kInfinity : largest ? -c : c;
  }
};

/// The arcs into each contracted node, as heaps; the heap of a contracted node has the name of one of its nodes.
template <class T>
class Heaps {
 public:
  explicit Heaps(const Batch<T>& batch)
      : batch_(batch), key_(batch.size), off_(batch.size), left_(batch.size), right_(batch.size), rank_(batch.size),
        heap_(batch.nodes) {}

  /// Which nodes take part.
  void begin(int64_t b, uint8_t* used) {
    const int64_t size = batch_.size, *edges = batch_.edges + (batch_.own ? 2 * b * size : 0);
    tails_ = edges, heads_ = edges + size;
    std::fill(heap_.begin(), heap_.end(), int32_t(-1));
    std::fill_n(used, batch_.nodes, uint8_t(!batch_.own));
    for (int64_t e = 0; e < size; ++e) {
      if (batch_.mask && !batch_.mask[b * size + e]) continue;
      used[tails_[e]] = used[heads_[e]] = 1;
      key_[e] = batch_.cost(b, e), off_[e] = 0;
      left_[e] = right_[e] = -1, rank_[e] = 1;
      if (tails_[e] != heads_[e] && key_[e] < kInfinity) heap_[heads_[e]] = meld(heap_[heads_[e]], int32_t(e));
    }
  }

  static bool suits(const Batch<T>& batch) { return batch.nodes * batch.nodes > 16 * batch.size; }

  /// The cheapest arc into contracted node k from outside; `inside(v)` says whether a node is in it.
  template <class F>
  Arc cheapest(int64_t k, const F& inside) {
    while (heap_[k] >= 0 && inside(tails_[heap_[k]])) {
      push(heap_[k]);
      heap_[k] = meld(left_[heap_[k]], right_[heap_[k]]);
    }
    const int32_t e = heap_[k];
    return e < 0 ? Arc{} : Arc{key_[e], tails_[e], heads_[e], e};
  }

  void take_off(int64_t k, double amount) {
    if (heap_[k] >= 0) add(heap_[k], -amount);
  }

  /// Adds the arcs into `other` to those into k.
  void merge(int64_t k, int64_t other) { heap_[k] = meld(heap_[k], heap_[other]); }

  void close(int64_t, const int64_t*, int64_t) {}

 private:
  const Batch<T>& batch_;
  const int64_t *tails_, *heads_;
  std::vector<double> key_, off_;  // of each arc its cost, and what its children in the heap have still to add
  std::vector<int32_t> left_, right_, rank_, heap_;

  void add(int32_t e, double amount) { key_[e] += amount, off_[e] += amount; }

  void push(int32_t e) {
    if (left_[e] >= 0) add(left_[e], off_[e]);
    if (right_[e] >= 0) add(right_[e], off_[e]);
    off_[e] = 0;
  }

  int32_t meld(int32_t a, int32_t b) {  // as deep as the right sides of both, which are logarithmic
    if (a < 0 || b < 0) return a < 0 ? b : a;
    if (key_[b] < key_[a] || (key_[b] == key_[a] && b < a)) std::swap(a, b);
    push(a);
    right_[a] = meld(right_[a], b);
    const int32_t left = left_[a] < 0 ? 0 : rank_[left_[a]], right = rank_[right_[a]];
    if (left < right) std::swap(left_[a], right_[a]);
    rank_[a] = std::min(left, right) + 1;
    return a;
  }
};

/// The same as rows of a matrix: row k has the cheapest arc into contracted node k from each node. Serves lists that are not too
/// sparse, too.
template <class T>
class Rows {
 public:
  explicit Rows(const Batch<T>& batch) : batch_(batch), n_(batch.nodes), row_(simd::padded<double>(batch.nodes)) {
    cost_ = costs_.get(row_ * row_);
    head_ = heads_.get(row_ * row_);
    if (batch.edges) number_ = numbers_.get(n_ * n_);
  }

  void begin(int64_t b, uint8_t* used) {
    if (batch_.edges) return spread(b, used);
    turn(b);
    for (int64_t v = 0; v < n_; ++v) {
      cost_[v * row_ + v] = kInfinity;
      std::fill_n(head_ + v * row_, row_, double(v));
      used[v] = !batch_.mask;
    }
    if (!batch_.mask) return;
    const uint8_t* mask = batch_.mask + b * n_ * n_;
    for (int64_t u = 0; u < n_; ++u)
      for (int64_t v = 0; v < n_; ++v) {
        if (u == v || mask[u * n_ + v]) continue;
        cost_[v * row_ + u] = kInfinity;
      }
    for (int64_t u = 0; u < n_; ++u)
      for (int64_t v = 0; v < n_; ++v)
        if (u != v && mask[u * n_ + v]) used[u] = used[v] = 1;
  }

  template <class F>
  Arc cheapest(int64_t k, const F&) const {
    const double* row = cost_ + k * row_;
    Double least = simd::broadcast<Double>(kInfinity);
    for (int64_t u = 0; u < row_; u += W) least = simd::min(least, simd::load<Double>(row + u));
    least = simd::spread_min(least);
    if (!(least[0] < kInfinity)) return Arc{};
    int64_t u = 0;
    unsigned hits;
    while (!(hits = simd::equal_bits(simd::load<Double>(row + u), least))) u += W;
    u += __builtin_ctz(hits);
    const int64_t head = int64_t(head_[k * row_ + u]);
    return {least[0], u, head, batch_.edges ? number_[head * n_ + u] : u * n_ + head};
  }

  void take_off(int64_t k, double amount) {
    const Double less = simd::broadcast<Double>(amount);
    double* row = cost_ + k * row_;
    for (int64_t u = 0; u < row_; u += W) simd::store(row + u, simd::load<Double>(row + u) - less);
  }

  void merge(int64_t k, int64_t other) {
    double *cost = cost_ + k * row_, *head = head_ + k * row_;
    const double *costs = cost_ + other * row_, *heads = head_ + other * row_;
    for (int64_t u = 0; u < row_; u += W) {
      const Double mine = simd::load<Double>(cost + u), its = simd::load<Double>(costs + u);
      const simd::Long better = its < mine;
      simd::store(cost + u, better ? its : mine);
      simd::store(head + u, better ? simd::load<Double>(heads + u) : simd::load<Double>(head + u));
    }
  }

  /// No more arcs into k from v, and the nodes that follow it.
  void close(int64_t k, const int64_t* follower, int64_t v) {
    for (; v != kNone; v = follower[v]) cost_[k * row_ + v] = kInfinity;
  }

 private:
  const Batch<T>& batch_;
  const int64_t n_, row_;
  simd::Buffer<double> costs_, heads_;
  double *cost_, *head_;  // the head of each arc, as a number of the same width
  simd::Buffer<int32_t> numbers_;
  int32_t* number_ = nullptr;  // of lists: the number of the arc to a row's node from a column's

  /// The cheapest of the arcs of a list between each two nodes.
  void spread(int64_t b, uint8_t* used) {
    const int64_t size = batch_.size, *tails = batch_.edges + (batch_.own ? 2 * b * size : 0), *heads = tails + size;
    std::fill_n(cost_, row_ * row_, kInfinity);
    std::fill_n(used, n_, uint8_t(!batch_.own));
    for (int64_t v = 0; v < n_; ++v) std::fill_n(head_ + v * row_, row_, double(v));
    for (int64_t e = 0; e < size; ++e) {
      if (batch_.mask && !batch_.mask[b * size + e]) continue;
      const int64_t u = tails[e], v = heads[e];
      used[u] = used[v] = 1;
      const double cost = batch_.cost(b, e);
      if (u == v || !(cost < cost_[v * row_ + u])) continue;
      cost_[v * row_ + u] = cost;
      number_[v * n_ + u] = int32_t(e);
    }
  }

  /// The costs of an instance, tails in columns.
  void turn(int64_t b) {
    const T* costs = batch_.costs + b * n_ * n_;
    std::fill_n(cost_, row_ * row_, kInfinity);
    const Double zero{};
    int64_t u = 0;
    for (; u + W <= n_; u += W) {
      int64_t v = 0;
      for (; v + W <= n_; v += W) {
        Double tile[W];
        for (int i = 0; i < W; ++i) {
          const Double c = simd::load_as_double(costs + (u + i) * n_ + v);
          tile[i] = batch_.largest ? zero - c : c;
        }
        lanes::transpose(tile);
        for (int i = 0; i < W; ++i) simd::store(cost_ + (v + i) * row_ + u, tile[i]);
      }
      for (; v < n_; ++v)
        for (int i = 0; i < W; ++i) cost_[v * row_ + u + i] = sign(costs[(u + i) * n_ + v]);
    }
    for (; u < n_; ++u)
      for (int64_t v = 0; v < n_; ++v) cost_[v * row_ + u] = sign(costs[u * n_ + v]);
  }

  double sign(T c) const { return batch_.largest ? -double(c) : double(c); }
};

}  // namespace arborescence
