// The instances of a batch of assignment problems, and one of them as a matrix of costs to be scanned row by row.
#pragma once

#include <algorithm>
#include <cstring>

#include "simd.hpp"

namespace assignment {

using simd::Double;

constexpr int kLanes = simd::kLanes<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

enum Status : uint8_t { kSolved = 0, kInfeasible = 1, kInvalid = 2 };

/// What the caller passes; pointers that may be null are marked (?).
template <class T>
struct Batch {
  const T* scores;              // (count, n, m)
  const uint8_t* mask;          // (count, n, m) (?) 0 where a pair may not be used
  const double* skip_row;       // (count, n) (?) cost of leaving a row unmatched; null: the smaller side is matched completely
  const double* skip_column;    // (count, m) (?) cost of leaving a column unmatched
  const double* warm_start;     // (count, m) (?) column duals to start from, used by square instances without skip_row
  int64_t count, n, m;
  bool maximize;
  T* solution;                  // (count, n, m)
  // (count, n), (count, m) (?) Without row_duals those of columns are for starting: NaN where a start would save nothing.
  double *row_duals, *column_duals;
  uint8_t* status;              // (count)

  double sign() const { return maximize ? -1 : 1; }
};

/// Costs to minimise, kept as C: padded with infinity, which also stands for pairs that are forbidden.
///
/// Inside, "rows" are the side that is matched completely: the caller's rows, or its columns if there are fewer of them.
template <class C>
class CostMatrix {
 public:
  int rows, columns;    // rows to match, length of a row
  int real_columns;     // columns that are not padding
  bool transposed;
  int* name;            // of each row: its number in the caller's matrix
  double* skip;         // of each row: cost of leaving it unmatched
  C *minimum, *owner;   // of each column: its least cost so far, and the first row of it

  /// Finds the dimensions of instance b, before its rows are read.
  template <class T>
  void open(const Batch<T>& batch, int64_t b) {
    const int n = int(batch.n), m = int(batch.m);
    const uint8_t* mask = batch.mask ? batch.mask + b * batch.n * batch.m : nullptr;
    is_row_ = bytes_.get(n + m);
    is_column_ = is_row_ + n;
    const int real_rows = mask ? find_real(mask, n, m) : n;
    if (!mask) real_columns = m;
    transposed = !batch.skip_row && real_rows > real_columns;
    rows = transposed ? real_columns : real_rows;
    columns = transposed ? n : m;
    if (transposed) real_columns = real_rows;
    width_ = int(simd::padded<double>(std::max(columns, 1)));
    stride_ = int(simd::padded<C>(width_));
    cost_ = costs_.get(std::max<int64_t>(rows, 1) * stride());
    minimum = minima_.get(2 * int64_t(stride()));
    owner = minimum + stride();
    name = names_.get(rows + 1);
    skip = skips_.get(rows + 1);
    for (int i = 0, k = 0; i < (transposed ? m : n); ++i)
      if (!mask || (transposed ? is_column_ : is_row_)[i]) name[k++] = i;
  }

  /// Reads instance b, and the least costs of columns where `minima`. False if a cost is NaN or minus infinity.
  template <class T>
  bool read(const Batch<T>& batch, int64_t b, bool minima) {
    if (minima) forget_minima();
    bool valid = true;
    int k = 0;
    if (minima && !transposed && !batch.mask && !batch.skip_row && !batch.skip_column)
      for (; k + kTogether <= rows && (b + 1 < batch.count || k + kTogether < rows); k += kTogether)
        valid &= read_together(batch.scores + (b * batch.n + k) * batch.m, k, C(batch.sign()));
    for (; k < rows; ++k) {
      valid &= read_row(batch, b, k);
      if (minima) lower_minima(k);  // while the row is in the nearest cache
    }
    return valid;
  }

  void forget_minima() {
    std::fill(minimum, minimum + stride(), C(kInfinity));
    std::fill(owner, owner + stride(), C(0));
  }

  /// Lowers the minima of columns to the costs of row k.
  void lower_minima(int k) {
    const C* costs = row(k);
    C *least = minimum, *who = owner;
    const V name = simd::broadcast<V>(C(k));
    for (int j = 0, end = stride(); j < end; j += simd::kLanes<C>) {
      const V c = simd::load<V>(costs + j), known = simd::load<V>(least + j);
      const simd::Mask<V> lower = c < known;
      simd::store(who + j, simd::select<V>(lower, name, simd::load<V>(who + j)));
      simd::store(least + j, simd::select<V>(lower, c, known));
    }
  }

  /// The length of a row in whole vectors of float64.
  int width() const { return width_; }

  /// How far rows are apart: whole vectors of C.
  int stride() const { return stride_; }

  C* row(int i) { return cost_ + int64_t(i) * stride(); }
  const C* row(int i) const { return cost_ + int64_t(i) * stride(); }

  /// A vector of costs.
  static Double load(const C* costs) {
    if constexpr (std::is_same_v<C, double>) return simd::load<Double>(costs);
    else return simd::load_as_double(costs);
  }

 private:
  using V = simd::Vector<C>;
  static constexpr int kTogether = 4;  // rows, so that minima are loaded and stored less often

  int width_, stride_;
  C* cost_;
  uint8_t *is_row_, *is_column_;
  simd::Buffer<C> costs_, minima_;
  simd::Buffer<double> skips_;
  simd::Buffer<int> names_;
  simd::Buffer<uint8_t> bytes_;

  /// Reads rows from k on that follow each other and have costs after them, so that whole vectors can be loaded.
  template <class T>
  bool read_together(const T* scores, int k, C sign) {
    constexpr int lanes = simd::kLanes<C>;
    const V infinity = simd::broadcast<V>(C(kInfinity));
    simd::Mask<V> valid = simd::Mask<V>{} == 0;
    for (int r = 0; r < kTogether; ++r) skip[k + r] = kInfinity;
    C* out = row(k);
    for (int j = 0, end = stride(); j < end; j += lanes) {
      const simd::Mask<V> real = simd::iota<V>() + C(j) < simd::broadcast<V>(C(columns));
      V least = simd::load<V>(minimum + j), who = simd::load<V>(owner + j);
#pragma GCC unroll 4
      for (int r = 0; r < kTogether; ++r) {
        __builtin_prefetch(scores + (kTogether + r) * int64_t(columns) + j);
        const V c = simd::select<V>(real, load_as_costs(scores + r * int64_t(columns) + j) * sign, infinity);
        valid &= c > -infinity;
        who = simd::select<V>(c < least, simd::broadcast<V>(C(k + r)), who);
        least = simd::min(c, least);
        simd::store(out + r * int64_t(end) + j, c);
      }
      simd::store(minimum + j, least);
      simd::store(owner + j, who);
    }
    return simd::bits(valid) == (1u << lanes) - 1;
  }

  template <class T>
  bool read_row(const Batch<T>& batch, int64_t b, int k) {
    const int64_t size = batch.n * batch.m, start = transposed ? name[k] : name[k] * batch.m, step = transposed ? batch.m : 1;
    const T *scores = batch.scores + b * size + start, *end = batch.scores + batch.count * size;
    const uint8_t* allowed = batch.mask ? batch.mask + b * size + start : nullptr;
    const double* skip_column = batch.skip_column ? batch.skip_column + b * batch.m : nullptr;
    skip[k] = batch.skip_row ? batch.sign() * batch.skip_row[b * batch.n + name[k]] : kInfinity;
    copy(scores, end, allowed, step, C(batch.sign()), skip_column, row(k));
    return is_valid(k) && skip[k] > -kInfinity;
  }

  /// Marks rows and columns with at least one allowed pair, the others are padding; returns the number of rows.
  int find_real(const uint8_t* mask, int n, int m) {
    std::memset(is_row_, 0, n + m);
    int real_rows = 0;
    for (int i = 0; i < n; ++i, mask += m) {
      uint8_t any = 0;
      for (int j = 0; j < m; ++j) is_column_[j] |= mask[j], any |= mask[j];
      real_rows += is_row_[i] = any;
    }
    real_columns = 0;
    for (int j = 0; j < m; ++j) real_columns += is_column_[j];
    return real_rows;
  }

  /// One row, padded. Whole vectors are loaded while they end before `end`, the end of the batch.
  template <class T>
  void copy(const T* scores, const T* end, const uint8_t* mask, int64_t step, C sign, const double* skip_column, C* out) const {
    constexpr int lanes = simd::kLanes<C>;
    const V infinity = simd::broadcast<V>(C(kInfinity));
    const int length = columns;
    const int whole = step == 1 ? int(std::min<int64_t>(end - scores, length + lanes - 1)) / lanes * lanes : 0;
    for (int j = 0; j < whole; j += lanes) simd::store(out + j, load_as_costs(scores + j) * sign);
    for (int j = whole; j < length; ++j) out[j] = sign * C(scores[j * step]);
    if (skip_column)
      for (int j = 0; j < length; ++j) out[j] -= sign * C(skip_column[j]);
    if (mask)
      for (int j = 0; j < length; ++j) out[j] = mask[j * step] ? out[j] : C(kInfinity);
    const int tail = stride() - lanes;
    const V place = simd::iota<V>() + C(tail);
    simd::store(out + tail, simd::select<V>(place < simd::broadcast<V>(C(length)), simd::load<V>(out + tail), infinity));
  }

  template <class T>
  static V load_as_costs(const T* p) {
    if constexpr (std::is_same_v<C, double>) return simd::load_as_double(p);
    else return simd::load_unaligned<V>(p);
  }

  bool is_valid(int k) const {
    constexpr int lanes = simd::kLanes<C>;
    const C* costs = row(k);
    simd::Mask<V> valid = simd::Mask<V>{} == 0;
    for (int j = 0, end = stride(); j < end; j += lanes)
      valid &= simd::load<V>(costs + j) > simd::broadcast<V>(-C(kInfinity));
    return simd::bits(valid) == (1u << lanes) - 1;
  }
};

}  // namespace assignment
