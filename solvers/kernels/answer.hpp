// What is written of a matching: a 0/1 matrix, duals, and prices to start a similar problem from.
#pragma once

#include <cmath>

#include "partial_matching.hpp"

namespace assignment {

/// A matching and the prices that prove it. "Rows" are the side that is matched completely, as in CostMatrix.
struct Answer {
  Status status;
  bool transposed;
  bool hard;                // whether the search was long
  int rows, columns;
  const int *name, *column_of;
  const double* price;      // of columns

  template <class T>
  void write_solution(const Batch<T>& batch, int64_t b) const {
    batch.status[b] = status;
    T* solution = batch.solution + b * batch.n * batch.m;
    std::memset(solution, 0, sizeof(T) * batch.n * batch.m);
    if (status != kSolved) return;
    for (int k = 0; k < rows; ++k) {
      if (column_of[k] < 0) continue;
      const int64_t i = transposed ? column_of[k] : name[k], j = transposed ? name[k] : column_of[k];
      solution[i * batch.m + j] = T(1);
    }
  }

  /// Costs that take a long search have a structure that similar costs share; where it was short, so is another one.
  template <class T>
  void write_start(const Batch<T>& batch, int64_t b) const {
    double* out = batch.column_duals + b * batch.m;
    const bool use = status == kSolved && !transposed && hard;
    for (int j = 0; j < int(batch.m); ++j) out[j] = use ? batch.sign() * price[j] : std::numeric_limits<double>::quiet_NaN();
  }

  /// `row_dual(k)` is the price of row k.
  template <class T, class RowDual>
  void write_duals(const Batch<T>& batch, int64_t b, RowDual&& row_dual) const {
    double* of_rows = batch.row_duals + b * batch.n;
    double* of_columns = batch.column_duals + b * batch.m;
    std::fill(of_rows, of_rows + batch.n, 0.0);
    std::fill(of_columns, of_columns + batch.m, 0.0);
    if (status != kSolved) return;
    if (transposed) std::swap(of_rows, of_columns);
    for (int j = 0; j < columns; ++j) of_columns[j] = batch.sign() * price[j];
    for (int k = 0; k < rows; ++k) of_rows[name[k]] = batch.sign() * row_dual(k);
  }
};

/// The prices that instance b starts from, null where it has none.
template <class T>
const double* start_of(const Batch<T>& batch, int64_t b) {
  const double* start = batch.warm_start ? batch.warm_start + b * batch.m : nullptr;
  return start && !std::isnan(start[0]) ? start : nullptr;
}

/// Costs in place of the caller's duals; what is not finite is forgotten.
template <class T>
void read_start(const Batch<T>& batch, const double* start, double* price) {
  for (int j = 0; j < int(batch.m); ++j)
    if (std::isfinite(start[j])) price[j] = batch.sign() * start[j];
}

}  // namespace assignment
