// Offers of edges to the vertices of a graph, a register of vertices at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "nested_blossoms.hpp"
#include "simd.hpp"

namespace matching {

using simd::Long;
constexpr int64_t W = simd::kLanes<int64_t>;
constexpr int64_t kNever = int64_t(1) << 61;

struct Least {
  int64_t value;
  int at;
};

/// The first place where `a[i] + b[i]` is least.
inline Least least_sum(const int64_t* a, const int64_t* b, int64_t n) {
  Long best = simd::broadcast<Long>(kNever), where{};
  for (int64_t i = 0; i < n; i += W) {
    const Long sum = simd::load<Long>(a + i) + simd::load<Long>(b + i);
    const Long better = sum < best;
    best = better ? sum : best;
    where = better ? simd::broadcast<Long>(i) : where;
  }
  Least out{kNever, kNone};
  for (int lane = 0; lane < W; ++lane) {
    const int at = int(where[lane]) + lane;
    if (best[lane] < out.value || (best[lane] == out.value && best[lane] < kNever && at < out.at)) out = {best[lane], at};
  }
  return out;
}

/// Of each vertex the least slack of an edge from some vertices to it, less its own dual, and which of them it comes from.
struct Offers {
  int64_t *best, *from;
  int64_t row;  // their length, whole registers

  void clear() const {
    std::fill_n(best, row, kNever);
    std::fill_n(from, row, int64_t(0));
  }

  /// Adds the edges of vertex v, of these weights: best[u] = min(best[u], dual - 2 weights[u]).
  void add(int v, int64_t dual_of_v, const int64_t* weights) const {
    const Long dual = simd::broadcast<Long>(dual_of_v), here = simd::broadcast<Long>(v);
    for (int64_t u = 0; u < row; u += W) {
      const Long w = simd::load<Long>(weights + u), offer = dual - (w + w), old = simd::load<Long>(best + u);
      const Long better = offer < old;
      simd::store(best + u, better ? offer : old);
      simd::store(from + u, better ? here : simd::load<Long>(from + u));
    }
  }

  void merge(const Offers& other) const {
    for (int64_t u = 0; u < row; u += W) {
      const Long offer = simd::load<Long>(other.best + u), old = simd::load<Long>(best + u), better = offer < old;
      simd::store(best + u, better ? offer : old);
      simd::store(from + u, better ? simd::load<Long>(other.from + u) : simd::load<Long>(from + u));
    }
  }
};

}  // namespace matching
