// Square linear assignment that starts from the prices of the problem before.
//
// For algorithms that solve many similar assignments. Every matched row sits at its cheapest column by reduced cost
// c[i][j] - price[j]; rows bid for their cheapest columns first, and those left over enter along shortest paths, whatever the
// prices are at the start. Source: R. Jonker, A. Volgenant, Computing 38 (1987).
#pragma once

#include "simd.hpp"

namespace quadratic {

using simd::Double;

class WarmMatching {
 public:
  int* column_of = nullptr;  // the answer
  double* price = nullptr;   // duals of the columns; those of rows are what `row_dual` gives

  /// Room for problems of `size` rows, `stride` apart (a multiple of the lanes). Forgets the prices.
  void prepare(int size, int stride) {
    size_ = size, stride_ = stride;
    price = doubles_.get(4 * int64_t(stride));
    distance_ = price + stride, shut_ = distance_ + stride, before_ = shut_ + stride;
    column_of = ints_.get(4 * int64_t(stride));
    row_of_ = column_of + stride, free_ = row_of_ + stride, scanned_ = free_ + stride;
    std::fill(price, price + stride, 0.0);
  }

  /// Costs are infinite where forbidden and in the padding. False where no matching is possible.
  bool solve(const double* cost) {
    cost_ = cost;
    std::fill(column_of, column_of + size_, -1);
    std::fill(row_of_, row_of_ + stride_, -1);
    int left = 0;
    for (int i = 0; i < size_; ++i) {
      const int j = cheapest(i);
      if (j < 0) return false;
      if (row_of_[j] < 0) pair(i, j);
      else free_[left++] = i;
    }
    left = bid(left);
    for (int k = 0; k < left; ++k)
      if (!augment(free_[k])) return false;
    return true;
  }

  double row_dual(int i) const { return cost_[int64_t(i) * stride_ + column_of[i]] - price[column_of[i]]; }

  /// What all duals add up to: the cost of the matching, and a bound for every other.
  double value() const {
    double sum = 0;
    for (int i = 0; i < size_; ++i) sum += cost_[int64_t(i) * stride_ + column_of[i]];
    return sum;
  }

 private:
  static constexpr int kLanes = simd::kLanes<double>;
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  int size_ = 0, stride_ = 0;
  const double* cost_ = nullptr;
  double *distance_, *shut_, *before_;  // of each column: length of the path, infinity once scanned, and the row before it
  int *row_of_, *free_, *scanned_;
  simd::Buffer<double> doubles_;
  simd::Buffer<int> ints_;

  const double* row(int i) const { return cost_ + int64_t(i) * stride_; }

  void pair(int i, int j) { column_of[i] = j, row_of_[j] = i; }

  Double reduced(int i, int j) const { return simd::load<Double>(row(i) + j) - simd::load<Double>(price + j); }

  /// The cheapest column of row i, the lowest of equals; -1 if all are forbidden.
  int cheapest(int i) const {
    Double least = simd::broadcast<Double>(kInfinity);
    for (int j = 0; j < stride_; j += kLanes) least = simd::min(least, reduced(i, j));
    least = simd::spread_min(least);
    if (least[0] == kInfinity) return -1;
    unsigned hits;
    int j = 0;
    while (!(hits = simd::equal_bits(reduced(i, j), least))) j += kLanes;
    return j + __builtin_ctz(hits);
  }

  /// Each free row takes its cheapest column, at a price that leaves its second as good, from the row that has it. A limited
  /// number of times, as this crawls on costs with structure. Returns how many rows stay free.
  int bid(int rows) {
    int bids = size_, left = 0, next = 0;
    while (next < rows) {
      const int i = free_[next++], j = cheapest(i);
      const double first = row(i)[j] - price[j], keep = price[j];
      price[j] = -kInfinity;  // out of the way of the second
      Double least = simd::broadcast<Double>(kInfinity);
      for (int k = 0; k < stride_; k += kLanes) least = simd::min(least, reduced(i, k));
      const double second = simd::reduce_min(least), lower = keep - (second - first);
      const bool dearer = lower < keep && lower > -kInfinity;
      price[j] = dearer ? lower : keep;
      const int displaced = row_of_[j];
      if (displaced < 0) {
        pair(i, j);
      } else if (dearer && --bids > 0) {
        pair(i, j);
        column_of[displaced] = -1;
        free_[--next] = displaced;
      } else {
        price[j] = keep;  // its row stays, and should stay at its cheapest column
        free_[left++] = i;
      }
    }
    return left;
  }

  /// Matches row `start` along a shortest path of reduced costs.
  bool augment(int start) {
    std::fill(distance_, distance_ + stride_, kInfinity);
    std::fill(shut_, shut_ + stride_, 0.0);
    int i = start, count = 0, j;
    double base = 0, nearest = 0;
    for (;;) {
      j = relax(i, base, nearest);
      if (j < 0) return false;
      if (row_of_[j] < 0) break;
      shut_[j] = kInfinity;
      scanned_[count++] = j;
      i = row_of_[j];
      base = row(i)[j] - price[j] - nearest;
    }
    for (int k = 0; k < count; ++k) price[scanned_[k]] += distance_[scanned_[k]] - nearest;
    for (int r = -1; r != start;) {
      r = int(before_[j]);
      const int next = column_of[r];
      pair(r, j);
      j = next;
    }
    return true;
  }

  /// Extends the tree by row i, whose reduced costs start at `base`; gives the nearest open column, a free one if there is one.
  int relax(int i, double base, double& nearest) {
    const Double bases = simd::broadcast<Double>(base), name = simd::broadcast<Double>(i);
    Double least = simd::broadcast<Double>(kInfinity);
    for (int j = 0; j < stride_; j += kLanes) {
      const Double shut = simd::load<Double>(shut_ + j), known = simd::load<Double>(distance_ + j);
      const Double through = reduced(i, j) - bases + shut;
      simd::store(before_ + j, simd::select<Double>(through < known, name, simd::load<Double>(before_ + j)));
      const Double now = simd::min(through, known);
      simd::store(distance_ + j, now);
      least = simd::min(least, now + shut);
    }
    least = simd::spread_min(least);
    nearest = least[0];
    if (nearest == kInfinity) return -1;
    int lowest = -1;
    for (int j = 0; j < stride_; j += kLanes) {
      const Double open = simd::load<Double>(distance_ + j) + simd::load<Double>(shut_ + j);
      for (unsigned hits = simd::equal_bits(open, least); hits; hits &= hits - 1) {
        const int k = j + __builtin_ctz(hits);
        if (row_of_[k] < 0) return k;
        if (lowest < 0) lowest = k;
      }
    }
    return lowest;
  }
};

}  // namespace quadratic
