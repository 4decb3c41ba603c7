// Prices that match most rows, by cheap heuristics: column reduction, transfer, and augmenting row reduction.
#pragma once

#include "partial_matching.hpp"

namespace assignment {

template <class C>
class RowReduction {
 public:
  using Matching = PartialMatching<C>;

  /// Prices each column at its least cost, matches rows that are least in some column, and lowers the price of a row's only
  /// column until another is as good. False if a column has no allowed pair.
  bool reduce_columns(Matching& m) {
    const CostMatrix<C>& cost = m.cost;
    int *owned = rows_.get(2 * cost.rows), *single = owned + cost.rows;  // how many columns a row is least in; rows with one
    std::fill(owned, owned + cost.rows, 0);
    for (int j = 0; j < cost.columns; ++j) {
      if (cost.minimum[j] == C(kInfinity)) {
        if (cost.real_columns == cost.columns) return false;
        continue;  // padding
      }
      const int i = int(cost.owner[j]);
      ++owned[i];
      m.column_of[i] = j;
      m.price[j] = m.paid[j] = cost.minimum[j];
    }
    for (int j = 0; j < cost.columns; ++j) {  // each row has the last of its columns
      const int i = int(cost.owner[j]);
      const bool own = m.column_of[i] == j;
      m.row_of[j] = own ? i : kFree;
      m.open[j / 64] &= ~(uint64_t(own) << j % 64);
    }
    int singles = 0;
    for (int i = 0; i < cost.rows; ++i) {
      single[singles] = i;
      singles += owned[i] == 1;
    }
    for (int k = 0; k < singles; ++k) {
      const double transfer = two_best<false>(m, single[k]).second;
      if (transfer < kInfinity) m.price[m.column_of[single[k]]] -= transfer;
    }
    return true;
  }

  /// `reduced`: whether columns were, so that no reduced cost is below 0.
  void begin(Matching& m, bool reduced) {
    reduced_ = reduced;
    luck_ = kLuck;
    next_ = left_ = 0;
    m.left = 0;
    for (int i = 0; i < m.cost.rows; ++i)
      if (m.column_of[i] == kFree) m.waiting[m.left++] = i;
    displacements_ = m.cost.rows / 2 + 4;
  }

  /// One scan of a row: gives it its best column at a price that leaves the second best as good, displacing the row that had
  /// it. False if there is none left, and when a row has no allowed pair.
  bool step(Matching& m, Status& status) {
    if (next_ == m.left) {
      m.left = left_;
      return false;
    }
    const int i = m.waiting[next_++];
    m.column_of[i] = kFree;
    if (reduced_ && m.ties && luck_ > 0 && take_zero(m, i)) return true;
    TwoBest best = two_best<true>(m, i);
    const double skip = m.cost.skip[i];
    if (skip <= best.first) {
      if (skip == kInfinity) {
        status = kInfeasible;
        return false;
      }
      m.column_of[i] = kSkipped;
      return true;
    }
    best.second = std::min(best.second, skip);
    double& price = m.price[best.column];
    const double lower = price - (best.second - best.first);
    const bool dearer = lower < price && lower > -kInfinity;
    const int displaced = m.row_of[best.column];
    if (!dearer && displaced != kFree) {
      m.ties = true;
      if (!augment_at_no_cost(m, i, best.first)) m.waiting[left_++] = i;
      return true;
    }
    if (dearer) price = lower;
    m.pair(i, best.column);
    const int displaces = displaced != kFree;  // without a branch, which nobody could foresee
    displacements_ -= displaces;
    if (displaces & (displacements_ <= 0)) {
      m.column_of[displaced] = kFree;
      m.waiting[left_++] = displaced;
      return true;
    }
    m.waiting[next_ - 1] = displaced;
    next_ -= displaces;
    return true;
  }

 private:
  /// A row's least and second least reduced cost and the column of the least.
  struct TwoBest {
    double first, second;
    int column;
  };

  static constexpr int kLuck = 4;

  bool reduced_;                     // whether columns were
  int luck_;                         // how often zeros may be looked for in vain
  int next_, left_, displacements_;  // rows wait in [next_, m.left); the first left_ are left for others to match
  simd::Buffer<int> rows_, found_;
  simd::Buffer<uint64_t> bits_;

  /// Gives row i a free column at a reduced cost of 0, where it has one: of many ties that is soon seen.
  bool take_zero(Matching& m, int i) {
    const C* costs = m.cost.row(i);
    for (int word = 0, words = (m.width() + 63) / 64; word < words; ++word) {
      const uint64_t hits = m.equal_among(word, Double{}, [&](int j) { return m.reduced(costs, j); }) & m.open[word];
      if (!hits) continue;
      m.pair(i, 64 * word + __builtin_ctzll(hits));
      luck_ = kLuck;
      return true;
    }
    --luck_;
    return false;
  }

  /// `named`: whether the column is wanted. Inlined in `step`, it was seen to slow it down by a tenth.
  template <bool named>
  __attribute__((noinline)) static TwoBest two_best(const Matching& m, int i) {
    Double first = broadcast<Double>(kInfinity), second = first;
    Double column{}, current = simd::iota<Double>();
    const C* costs = m.cost.row(i);
    for (int j = 0, end = m.width(); j < end; j += kLanes) {
      const Double value = m.reduced(costs, j);
      if constexpr (named) {
        column = select<Double>(value < first, current, column);
        current += kLanes;
      }
      second = simd::min(second, simd::max(value, first));
      first = simd::min(value, first);
    }
    const Double lanes = first;
    merge(first, second);
    return {first[0], second[0], named ? lowest(lanes, first, column) : kFree};
  }

  /// Matches row i, whose least reduced cost is `least`, along pairs that are all as cheap as those they replace. False if
  /// no free column can be reached so.
  bool augment_at_no_cost(Matching& m, int i, double least) {
    const int words = (m.width() + 63) / 64;
    uint64_t *seen = bits_.get(2 * words), *hits = seen + words;
    int* found = found_.get(m.cost.rows);
    std::fill(seen, seen + words, uint64_t(0));
    for (int k = 0, count = 0;; ++k) {
      const C* costs = m.cost.row(i);
      int end = kFree;
      for (int word = words - 1; word >= 0; --word) {
        hits[word] = m.equal_among(word, broadcast<Double>(least), [&](int j) { return m.reduced(costs, j); }) & ~seen[word];
        if (const uint64_t free = hits[word] & m.open[word]) end = 64 * word + __builtin_ctzll(free);
      }
      if (end != kFree) {
        m.before[end] = i;
        m.follow(end);
        return true;
      }
      for (int word = 0; word < words; ++word) {
        seen[word] |= hits[word];
        for (uint64_t rest = hits[word]; rest; rest &= rest - 1) {
          found[count] = 64 * word + __builtin_ctzll(rest);
          m.before[found[count++]] = i;
        }
      }
      if (k == count) return false;
      i = m.row_of[found[k]];
      least = m.paid[found[k]] - m.price[found[k]];
    }
  }
};

}  // namespace assignment
