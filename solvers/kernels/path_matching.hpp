// Linear assignment of one instance by shortest augmenting paths, in steps of one scan of a row.
//
// Idea. Keep prices v of the columns and a partial matching such that every matched row sits at its cheapest column by reduced
// cost c[i][j] - v[j]. Start from cheap heuristics that match most rows and then add one row at a time along a shortest path
// of reduced costs, which keeps the property. When all rows are matched, the prices prove that the matching is cheapest.
//
// Two things make the scans few on real costs. Augmenting row reduction is one pass with a limited number of displacements:
// unlimited, it crawls on costs with structure. And ties, of which integer costs are full, are used: a row whose best columns
// are taken looks for a path of ties to a free one, which needs no prices, and among equally near columns a free one is first.
//
// A step waits most of its time for the least of a vector and for what hangs on it. So the steps of two instances are taken in
// turn: the processor works on one while it waits for the other, and has the costs of the next one brought near meanwhile.
//
// Arithmetic is in float64 throughout, so costs with large common offsets are no trouble. Equal costs are resolved towards low
// column numbers, so the answer is the same with every vector width.
//
// Sources: R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
// Computing 38 (1987); D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52 (2016).
#pragma once

#include "answer.hpp"
#include "row_reduction.hpp"
#include "shortest_paths.hpp"
#include "uniqueness.hpp"

namespace assignment {

/// Solves one instance after the other, with workspace that is allocated once: `begin`, `step` until it says no, `finish`.
template <class C>
class PathMatching {
 public:
  template <class T>
  void begin(const Batch<T>& batch, int64_t b) {
    m_.cost.open(batch, b);
    m_.allocate();
    status_ = kSolved;
    balanced_ = m_.cost.rows == m_.cost.real_columns && !batch.skip_row;
    const double* start = balanced_ ? start_of(batch, b) : nullptr;
    started_ = start;
    if (!m_.cost.read(batch, b, balanced_ && !started_)) status_ = kInvalid;
    std::fill(m_.price, m_.price + m_.cost.stride(), 0.0);
    if (started_) read_start(batch, start, m_.price);
    restart();
  }

  /// One scan of a row; false when the instance is done.
  bool step() {
    if (status_ != kSolved) return false;
    if (reduces_) {
      if (!reduction_.step(m_, status_)) {
        reduces_ = false;
        paths_.begin(m_);
      }
      return true;
    }
    return paths_.step(m_, status_) || (status_ == kSolved && started_ && start_again());
  }

  template <class T>
  void finish(const Batch<T>& batch, int64_t b) const {
    const CostMatrix<C>& cost = m_.cost;
    const bool hard = paths_.scans > 2 * cost.rows;
    const Answer answer{status_, cost.transposed, hard, cost.rows, cost.columns, cost.name, m_.column_of, m_.price};
    answer.write_solution(batch, b);
    if (batch.row_duals) answer.write_duals(batch, b, [this](int k) { return row_dual(k); });
    else if (batch.column_duals) answer.write_start(batch, b);
  }

 private:
  PartialMatching<C> m_;
  RowReduction<C> reduction_;
  ShortestPaths<C> paths_;
  Uniqueness uniqueness_;
  Status status_;
  bool balanced_, started_, reduces_;  // whether all columns get matched; whether prices were given; the phase

  /// From the prices as they are, or from none.
  void restart() {
    m_.clear();
    reduces_ = true;
    // Prices of unmatched columns must stay 0, so only where all columns get matched may they start anywhere.
    const bool reduces = status_ == kSolved && balanced_ && !started_;
    if (reduces && !reduction_.reduce_columns(m_)) status_ = kInfeasible;
    reduction_.begin(m_, reduces);
  }

  /// Of several optimal matchings a start may lead to another one than no start: it may save time, but not decide.
  bool start_again() {
    const bool only = uniqueness_.holds(
        m_.cost.rows, m_.column_of, m_.row_of, m_.price, [this](int i) { return m_.paid[m_.column_of[i]]; },
        [this](int i, double limit, int word) { return m_.at_most(i, limit, word); });
    if (only) return false;
    started_ = false;
    std::fill(m_.price, m_.price + m_.cost.stride(), 0.0);
    m_.cost.forget_minima();
    for (int k = 0; k < m_.cost.rows; ++k) m_.cost.lower_minima(k);
    restart();
    return true;
  }

  double row_dual(int k) const {
    const int j = m_.column_of[k];
    return j == kSkipped ? m_.cost.skip[k] : m_.paid[j] - m_.price[j];
  }
};

/// Memory that is brought near a few lines of the cache at a time.
class Approach {
 public:
  Approach() = default;
  template <class T>
  Approach(const T* begin, int64_t size)
      : next_(reinterpret_cast<const char*>(begin)), end_(reinterpret_cast<const char*>(begin + size)) {}

  void fetch(int lines) {
    for (; lines > 0 && next_ < end_; --lines, next_ += 64) __builtin_prefetch(next_, 0, 2);
  }

 private:
  const char *next_ = nullptr, *end_ = nullptr;
};

/// Solves instances [first, last). While steps compute, the scores that are read next and room for solutions come nearer.
template <class C, class T>
void match_by_paths(const Batch<T>& batch, int64_t first, int64_t last) {
  constexpr int kSlots = 2;  // instances that take their steps in turn
  const int64_t size = batch.n * batch.m;
  PathMatching<C> matchings[kSlots];
  int64_t instance[kSlots];
  Approach solution[kSlots], scores;
  int slots[kSlots], busy = 0;
  const auto begin = [&](int slot) {
    matchings[slot].begin(batch, instance[slot] = first);
    solution[slot] = {batch.solution + first * size, size};
    ++first;
    scores = first < last ? Approach(batch.scores + first * size, size) : Approach();
  };
  for (; busy < kSlots && first < last; ++busy) begin(slots[busy] = busy);
  while (busy)
    for (int k = 0; k < busy; ++k) {
      const int slot = slots[k];
      scores.fetch(4);
      solution[slot].fetch(2);
      if (matchings[slot].step()) continue;
      matchings[slot].finish(batch, instance[slot]);
      if (first < last) begin(slot);
      else slots[k] = slots[--busy];
    }
}

}  // namespace assignment
