// Whether a matching of least cost is the only one.
#pragma once

#include <algorithm>
#include <cmath>

#include "simd.hpp"

namespace assignment {

constexpr double kRounding = 1e-12;  // of sums of costs and prices, relative, with room to spare

/// Looks for matchings of all rows and columns that are as cheap as a given one, to rounding.
///
/// Another one differs by cycles of pairs that are as cheap as the row's own, by reduced cost, and lead from row to row.
class Uniqueness {
 public:
  /// False where there is another one, or where it would take long to say. `paid(i)` is what row i pays, and
  /// `tight(i, limit, word)` has a bit for each of 64 columns whose reduced cost is at most `limit` in row i.
  template <class Paid, class Tight>
  bool holds(int rows, const int* column_of, const int* row_of, const double* price, Paid&& paid, Tight&& tight) {
    const int64_t room = 8 * int64_t(rows);
    int *begin = ints_.get(room + 3 * rows + 1), *arcs = begin + rows + 1, *entering = arcs + room, *ready = entering + rows;
    int count = 0;
    double largest = 0;
    for (int j = 0; j < rows; ++j) largest = std::max(largest, std::abs(price[j]));
    std::fill(entering, entering + rows, 0);
    for (int i = 0; i < rows; ++i) {
      const double cost = paid(i), limit = cost - price[column_of[i]] + kRounding * (largest + std::abs(cost));
      begin[i] = count;
      for (int word = 0; 64 * word < rows; ++word)
        for (uint64_t hits = tight(i, limit, word); hits; hits &= hits - 1) {
          const int other = row_of[64 * word + __builtin_ctzll(hits)];
          if (other == i) continue;
          if (count == room) return false;
          arcs[count++] = other;
          ++entering[other];
        }
    }
    begin[rows] = count;
    int found = 0;  // rows that no cycle leads to, taken away one after the other
    for (int i = 0; i < rows; ++i)
      if (!entering[i]) ready[found++] = i;
    for (int k = 0; k < found; ++k)
      for (int a = begin[ready[k]]; a < begin[ready[k] + 1]; ++a)
        if (!--entering[arcs[a]]) ready[found++] = arcs[a];
    return found == rows;
  }

 private:
  simd::Buffer<int> ints_;
};

}  // namespace assignment
