// Matches one row after the other along shortest paths of reduced costs.
#pragma once

#include "partial_matching.hpp"

namespace assignment {

/// The tree of shortest paths from a free row, which grows by one row at a time.
///
/// Of a column it keeps the level, which is distance plus price: what a row offers is then its costs less one number. A closed
/// column, whose row is in the tree, has the level NaN, which is neither less than an offer nor the nearest.
template <class C>
class ShortestPaths {
 public:
  using Matching = PartialMatching<C>;

  int scans;  // of rows, since `begin`

  void begin(Matching& m) {
    const int64_t line = simd::padded<double>(std::max(m.cost.stride(), m.cost.rows));
    level_ = doubles_.get(2 * line);
    closed_level_ = level_ + line;
    closed_ = closed_columns_.get(line);
    scans = next_ = 0;
    start(m);
  }

  /// Adds a row to the tree. If the nearest column is free or a row is better left unmatched, matches along the path. False
  /// if no row is left, and when a row has no path.
  bool step(Matching& m, Status& status) {
    if (next_ == m.left) return false;
    ++scans;
    double nearest;
    const int end = closed_count_ ? relax<false>(m, nearest) : relax<true>(m, nearest);
    if (m.cost.skip[row_] - base_ < skip_distance_) skip_distance_ = m.cost.skip[row_] - base_, skipped_ = row_;
    if (end < 0 && skipped_ == kFree) {
      status = kInfeasible;
      return false;
    }
    if (skip_distance_ <= nearest || m.row_of[end] == kFree) {
      augment(m, end, nearest);
      ++next_;
      start(m);
      return true;
    }
    const double level = m.price[end] + nearest;  // sooner known than what the scan has just stored
    row_ = m.row_of[end];
    base_ = m.paid[end] - level;
    closed_level_[closed_count_] = level;
    closed_[closed_count_++] = end;
    level_[end] = std::numeric_limits<double>::quiet_NaN();
    return true;
  }

 private:
  int next_, row_, closed_count_, skipped_;
  double base_, skip_distance_;
  double *level_, *closed_level_;  // of columns; of closed columns as they were, in their order
  int* closed_;
  simd::Buffer<double> doubles_;
  simd::Buffer<int> closed_columns_;

  void start(const Matching& m) {
    if (next_ < m.left) row_ = m.waiting[next_];
    base_ = 0;
    closed_count_ = 0;
    skipped_ = kFree;
    skip_distance_ = kInfinity;
  }

  /// Relaxes row_, whose costs are levels less base_. Gives the nearest open column, kFree if all are at infinity.
  template <bool first>
  int relax(Matching& m, double& nearest) {
    const Double bases = broadcast<Double>(base_);
    const Long name = broadcast<Long>(row_);
    Double lanes = broadcast<Double>(kInfinity);
    Double column{}, current = simd::iota<Double>();
    const C* costs = m.cost.row(row_);
    const double* price = m.price;
    double* level = level_;
    int64_t* before = m.before;
    for (int j = 0, end = m.width(); j < end; j += kLanes) {
      Double best = CostMatrix<C>::load(costs + j);
      if constexpr (first) {
        store(before + j, name);
      } else {
        const Double through = best - bases, known = load<Double>(level + j);
        store(before + j, select<Long>(through < known, name, load<Long>(before + j)));
        best = simd::min(through, known);
      }
      store(level + j, best);
      const Double distance = best - load<Double>(price + j);
      column = select<Double>(distance < lanes, current, column);
      current += kLanes;
      lanes = simd::min(distance, lanes);
    }
    const Double least = simd::spread_min(lanes);
    nearest = least[0];
    if (nearest == kInfinity) return kFree;
    const int j = lowest(lanes, least, column);
    return !m.ties || m.row_of[j] == kFree ? j : nearest_column(m, least);
  }

  /// The lowest free column at distance `least`, or else the lowest.
  int nearest_column(const Matching& m, Double least) const {
    int lowest = kFree;
    for (int word = 0, words = (m.width() + 63) / 64; word < words; ++word) {
      const auto distance = [&](int j) { return load<Double>(level_ + j) - load<Double>(m.price + j); };
      const uint64_t hits = m.equal_among(word, least, distance);
      if (const uint64_t free = hits & m.open[word]) return 64 * word + __builtin_ctzll(free);
      if (hits && lowest == kFree) lowest = 64 * word + __builtin_ctzll(hits);
    }
    return lowest;
  }

  /// Matches the free row along the shortest path to the free column `end`, or to the row that is better left unmatched.
  void augment(Matching& m, int end, double nearest) {
    const bool skips = skip_distance_ <= nearest;
    const double length = skips ? skip_distance_ : nearest;
    for (int k = 0; k < closed_count_; ++k) m.price[closed_[k]] = closed_level_[k] - length;
    if (skips) {
      end = m.column_of[skipped_];
      m.column_of[skipped_] = kSkipped;
    }
    m.follow(end);
  }
};

}  // namespace assignment
