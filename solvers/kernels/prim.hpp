// Spanning trees of matrices: Prim's algorithm.
//
// A tree grows from one node; for each node outside, its cheapest edge into the tree is kept, and a whole register of nodes is
// brought up to date at a time. A node in the tree has NaN for that cost, which is less than nothing, so it needs no test. Costs
// of the pairs (i, j) and (j, i) are summed first, in tiles that are transposed in registers. Source: Prim (1957).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kruskal.hpp"
#include "lanes.hpp"

namespace spanning_tree {

template <class T>
class Prim {
  using V = simd::Vector<T>;
  using M = simd::Mask<V>;
  using Number = simd::Element<M>;
  static constexpr int W = simd::kLanes<T>;
  static constexpr T kNever = std::numeric_limits<T>::infinity();

 public:
  explicit Prim(const Batch<T>& batch) : batch_(batch), n_(batch.nodes), row_(simd::padded<T>(batch.nodes)) {
    pairs_ = pair_buffer_.get(row_ * row_);
    key_ = key_buffer_.get(row_);
    near_ = near_buffer_.get(row_);
  }

  void solve(int64_t b) {
    const int64_t at = b * n_ * n_;
    batch_.status[b] = solve(batch_.costs + at, batch_.mask ? batch_.mask + at : nullptr, batch_.solution + at);
  }

 private:
  const Batch<T>& batch_;
  const int64_t n_, row_;
  simd::Buffer<T> pair_buffer_, key_buffer_;
  simd::Buffer<Number> near_buffer_;
  T *pairs_, *key_;  // costs of pairs; of each node's cheapest edge into the tree
  Number* near_;     // where that edge ends

  Status solve(const T* costs, const uint8_t* mask, T* out) {
    add_pairs(costs, mask);
    std::fill_n(out, n_ * n_, T(0));
    std::fill_n(key_, row_, kNever);
    std::fill_n(near_, row_, Number(0));
    for (int64_t v = first_node(mask); v < n_;) {
      key_[v] = std::numeric_limits<T>::quiet_NaN();
      const T least = relax(v);
      if (!(least < kNever)) break;
      v = cheapest(least);
      out[v * n_ + near_[v]] = out[near_[v] * n_ + v] = T(1);
    }
    for (int64_t v = 0; v < n_; ++v) {
      if (std::isnan(key_[v]) || is_padding(v, mask)) continue;
      std::fill_n(out, n_ * n_, T(0));
      return kDisconnected;
    }
    return kSolved;
  }

  /// Costs to make least, infinite where there is no edge, as a square of whole tiles.
  void copy(const T* costs, const uint8_t* mask) {
    for (int64_t i = 0; i < n_; ++i) {
      T* row = pairs_ + i * row_;
      const T* from = costs + i * n_;
      if (batch_.largest)
        for (int64_t j = 0; j < n_; ++j) row[j] = -from[j];
      else
        std::copy_n(from, n_, row);
      if (mask)
        for (int64_t j = 0; j < n_; ++j) row[j] = mask[i * n_ + j] ? row[j] : kNever;
      std::fill(row + n_, row + row_, kNever);
    }
    std::fill(pairs_ + n_ * row_, pairs_ + row_ * row_, kNever);
  }

  /// pairs[i][j] = pairs[j][i] = the cost of (i, j) plus that of (j, i).
  void add_pairs(const T* costs, const uint8_t* mask) {
    copy(costs, mask);
    V above[W], below[W];
    for (int64_t i = 0; i < row_; i += W)
      for (int64_t j = i; j < row_; j += W) {
        for (int k = 0; k < W; ++k) below[k] = simd::load<V>(pairs_ + (j + k) * row_ + i);
        lanes::transpose(below);
        for (int k = 0; k < W; ++k) {
          above[k] = simd::load<V>(pairs_ + (i + k) * row_ + j) + below[k];
          simd::store(pairs_ + (i + k) * row_ + j, above[k]);
        }
        if (i == j) continue;
        lanes::transpose(above);
        for (int k = 0; k < W; ++k) simd::store(pairs_ + (j + k) * row_ + i, above[k]);
      }
    for (int64_t i = 0; i < n_; ++i) pairs_[i * row_ + i] = kNever;
  }

  /// Whether the mask excludes all pairs with node v, so that it is not part of the instance.
  bool is_padding(int64_t v, const uint8_t* mask) const {
    if (!mask) return false;
    for (int64_t j = 0; j < n_; ++j)
      if (j != v && mask[v * n_ + j] && mask[j * n_ + v]) return false;
    return true;
  }

  int64_t first_node(const uint8_t* mask) const {
    int64_t v = 0;
    while (v < n_ && is_padding(v, mask)) ++v;
    return v;
  }

  /// Offers all nodes their edges to v; returns the least cost of an edge into the tree. Of equal ones the lower end wins.
  T relax(int64_t v) {
    const T* row = pairs_ + v * row_;
    const M here = simd::broadcast<M>(Number(v));
    V least = simd::broadcast<V>(kNever);
    for (int64_t j = 0; j < row_; j += W) {
      const V offer = simd::load<V>(row + j), key = simd::load<V>(key_ + j);
      const M near = simd::load<M>(near_ + j);
      const M better = (offer < key) | ((offer == key) & (here < near));
      const V now = simd::select(better, offer, key);
      simd::store(key_ + j, now);
      simd::store(near_ + j, better ? here : near);
      least = simd::min(now, least);  // in this order: NaN gives way
    }
    return simd::reduce_min(least);
  }

  /// The node whose cheapest edge costs `least`; of several the one whose edge has the lowest number.
  int64_t cheapest(T least) const {
    const V wanted = simd::broadcast<V>(least);
    int64_t best = -1;
    for (int64_t j = 0; j < row_; j += W)
      for (unsigned found = simd::equal_bits(simd::load<V>(key_ + j), wanted); found; found &= found - 1) {
        const int64_t v = j + __builtin_ctz(found);
        if (best < 0 || number(v) < number(best)) best = v;
      }
    return best;
  }

  int64_t number(int64_t v) const { return std::min<int64_t>(v, near_[v]) * n_ + std::max<int64_t>(v, near_[v]); }
};

}  // namespace spanning_tree
