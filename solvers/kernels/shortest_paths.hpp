// Matches one row after the other along shortest paths of reduced costs.
#pragma once

#include "partial_matching.hpp"

namespace assignment {

/// The tree of shortest paths from a free row, which grows by one row at a time.
template <class C>
class ShortestPaths {
 public:
  using Matching = PartialMatching<C>;

  int scans;  // of rows, since `begin`

  void begin(Matching& m) {
    const int64_t line = simd::padded<double>(std::max(m.cost.stride(), m.cost.rows));
    distance_ = doubles_.get(3 * line);
    closed_at_ = distance_ + line;
    closed_price_ = closed_at_ + line;
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
    const int k = closed_count_++;
    closed_[k] = end;
    closed_at_[k] = nearest;
    closed_price_[k] = m.price[end];
    row_ = m.row_of[end];
    base_ = m.paid[end] - m.price[end] - nearest;
    distance_[end] = kInfinity;
    m.price[end] = -kInfinity;  // no distance through it is less than infinity again
    return true;
  }

 private:
  int next_, row_, closed_count_, skipped_;
  double base_, skip_distance_;
  double *distance_, *closed_at_, *closed_price_;  // of columns, infinite for closed ones; of closed columns, in their order
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

  /// Relaxes the reduced costs of row_, which start at base_. Gives the nearest open column, kFree if all are at infinity.
  template <bool first>
  int relax(Matching& m, double& nearest) {
    const Double bases = broadcast<Double>(base_);
    const Long name = broadcast<Long>(row_);
    Double lanes = broadcast<Double>(kInfinity);
    Long column{}, current = simd::iota<Long>();
    const C* costs = m.cost.row(row_);
    const double* price = m.price;
    double* distance = distance_;
    int64_t* before = m.before;
    for (int j = 0, end = m.width(); j < end; j += kLanes) {
      Double d = CostMatrix<C>::load(costs + j) - load<Double>(price + j);
      if constexpr (first) {
        store(before + j, name);
      } else {
        const Double through = d - bases, known = load<Double>(distance + j);
        const Mask<Double> nearer = through < known;
        store(before + j, select<Long>(nearer, name, load<Long>(before + j)));
        d = select<Double>(nearer, through, known);
      }
      store(distance + j, d);
      column = select<Long>(d < lanes, current, column);
      current += kLanes;
      lanes = simd::min(d, lanes);
    }
    const Double least = simd::spread_min(lanes);
    nearest = least[0];
    if (nearest == kInfinity) return kFree;
    const int j = lowest(simd::equal_bits(lanes, least), column);
    return !m.ties || m.row_of[j] == kFree ? j : nearest_column(m, least);
  }

  /// The lowest free column at distance `least`, or else the lowest.
  int nearest_column(const Matching& m, Double least) const {
    int lowest = kFree;
    for (int word = 0, words = (m.width() + 63) / 64; word < words; ++word) {
      const uint64_t hits = m.equal_among(word, least, [this](int j) { return load<Double>(distance_ + j); });
      if (const uint64_t free = hits & m.open[word]) return 64 * word + __builtin_ctzll(free);
      if (hits && lowest == kFree) lowest = 64 * word + __builtin_ctzll(hits);
    }
    return lowest;
  }

  /// Matches the free row along the shortest path to the free column `end`, or to the row that is better left unmatched.
  void augment(Matching& m, int end, double nearest) {
    const bool skips = skip_distance_ <= nearest;
    const double length = skips ? skip_distance_ : nearest;
    for (int k = 0; k < closed_count_; ++k) m.price[closed_[k]] = closed_price_[k] + (closed_at_[k] - length);
    if (skips) {
      end = m.column_of[skipped_];
      m.column_of[skipped_] = kSkipped;
    }
    m.follow(end);
  }
};

}  // namespace assignment
