// A matching on its way: prices of columns, and pairs that are the rows' cheapest at these prices.
#pragma once

#include "scan.hpp"

namespace assignment {

constexpr int kFree = -1, kSkipped = -2;  // in place of a partner

template <class C>
class PartialMatching {
 public:
  CostMatrix<C> cost;
  double *price, *paid;    // of a column, and the cost of its pair
  int *column_of, *row_of;
  uint64_t* open;          // one bit for each column, set where it is free
  int64_t* before;         // of a column on an augmenting path: the row before it
  int* waiting;            // free rows: the first `left` of the list
  int left;
  bool ties;               // whether rows met columns that were equally cheap

  /// Room for the matrix that was opened.
  void allocate() {
    const int64_t line = simd::padded<double>(std::max(cost.stride(), cost.rows));
    price = doubles_.get(2 * line);
    paid = price + line;
    column_of = ints_.get(3 * line);
    row_of = column_of + line;
    waiting = row_of + line;
    before = longs_.get(line);
    open = bits_.get(words());
  }

  /// Takes all pairs away; prices stay.
  void clear() {
    std::fill(column_of, column_of + cost.rows, kFree);
    std::fill(row_of, row_of + cost.stride(), kFree);
    std::fill(open, open + words(), ~uint64_t(0));
    ties = false;
  }

  int width() const { return cost.width(); }

  /// Of sets of columns.
  int words() const { return cost.stride() / 64 + 1; }

  Double reduced(const C* costs, int j) const { return cost.load(costs + j) - simd::load<Double>(price + j); }

  void pair(int i, int j) {
    column_of[i] = j;
    row_of[j] = i;
    paid[j] = cost.row(i)[j];
    open[j / 64] &= ~(uint64_t(1) << j % 64);
  }

  /// Gives column `end` to the row before it, the column of that row to the row before, and so on to a row without.
  void follow(int end) {
    while (end != kFree) {
      const int i = int(before[end]), released = column_of[i];
      pair(i, end);
      end = released;
    }
  }

  /// Where `value(j)` is `level` among 64 columns: one bit for each, as whether a vector has any is hard to predict.
  template <class Value>
  uint64_t equal_among(int word, Double level, Value value) const {
    const int first = 64 * word, end = std::min(first + 64, width());
    uint64_t hits = 0;
    for (int j = first; j < end; j += kLanes) hits |= uint64_t(simd::equal_bits(value(j), level)) << (j - first);
    return hits;
  }

  /// The columns of 64 whose reduced cost in row i is at most `limit`.
  uint64_t at_most(int i, double limit, int word) const {
    const int first = 64 * word, end = std::min(first + 64, width());
    uint64_t hits = 0;
    for (int j = first; j < end; j += kLanes)
      hits |= uint64_t(simd::at_most_bits(reduced(cost.row(i), j), broadcast<Double>(limit))) << (j - first);
    return hits;
  }

 private:
  simd::Buffer<double> doubles_;
  simd::Buffer<uint64_t> bits_;
  simd::Buffer<int64_t> longs_;
  simd::Buffer<int> ints_;
};

}  // namespace assignment
