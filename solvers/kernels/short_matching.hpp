// Linear assignment of one instance with rows of at most 32 costs, by shortest augmenting paths.
//
// The algorithm is that of path_matching.hpp. Here a row has a fixed number of vectors, so the prices, the distances and the
// ways to them stay in registers from scan to scan, and sets of columns are words of bits. What costs time is then mostly
// branches that a processor cannot foresee, so there are few: columns are given out, and rows displaced, without any.
#pragma once

#include "answer.hpp"
#include "numbers.hpp"
#include "scan.hpp"
#include "uniqueness.hpp"

namespace assignment {

/// Solves one instance after the other, without a mask and without rows that may be skipped. `kLength` is that of a row, padded.
template <int kLength>
class ShortMatching {
 public:
  static constexpr int kMaxLength = 32;

  template <class T>
  void solve(const Batch<T>& batch, int64_t b) {
    transposed_ = batch.n > batch.m;
    rows_ = int(std::min(batch.n, batch.m));
    columns_ = int(std::max(batch.n, batch.m));
    const bool balanced = rows_ == columns_;
    const double* start = balanced ? start_of(batch, b) : nullptr;
    std::fill(price_, price_ + kLength, 0.0);
    if (start) read_start(batch, start, price_);
    Status status = read(batch, b) ? match(balanced && !start) : kInvalid;
    // Of several optimal matchings a start may lead to another one than no start: it may save time, but not decide.
    if (status == kSolved && start && !only_optimum()) status = match(true);
    const Answer answer{status, transposed_, scans_ > 2 * rows_, rows_, columns_, name_, column_of_, price_};
    answer.write_solution(batch, b);
    if (batch.row_duals) answer.write_duals(batch, b, [this](int i) { return paid(i) - price_[column_of_[i]]; });
    else if (batch.column_duals) answer.write_start(batch, b);
  }

  ShortMatching() {
    for (int i = 0; i < kLength; ++i) name_[i] = i;
  }

 private:
  static constexpr int kVectors = kLength / kLanes;
  static_assert(kLength <= kMaxLength && kLength % kLanes == 0);
  using Line = Numbers<kVectors>;

  bool transposed_;
  int rows_, columns_, scans_;
  Double cost_[kLength][kVectors];  // infinite in the padding
  double price_[kLength] __attribute__((aligned(64))), least_[kLength] __attribute__((aligned(64)));
  int64_t owner_[kLength] __attribute__((aligned(64)));  // of the least cost of a column: the first row that has it
  int name_[kLength], column_of_[kLength], row_of_[kLength];
  uint64_t open_;  // columns that are free
  int free_[kLength + 1], left_;  // one more than rows, which is written to but never read
  Uniqueness uniqueness_;

  static uint64_t bit(int j) { return uint64_t(1) << j; }
  static int first_of(uint64_t set) { return __builtin_ctzll(set); }
  static uint64_t first(int count) { return ~uint64_t(0) >> (64 - count); }

  double paid(int i) const { return reinterpret_cast<const double*>(cost_[i])[column_of_[i]]; }

  // ---- reading ----

  /// Costs as float64, and the least of each column. False if a cost is NaN or minus infinity.
  template <class T>
  bool read(const Batch<T>& batch, int64_t b) {
    const int64_t size = batch.n * batch.m, step = transposed_ ? batch.m : 1;
    const T *scores = batch.scores + b * size, *end = batch.scores + batch.count * size;
    const double sign = batch.sign();
    const Double infinity = broadcast<Double>(kInfinity);
    Mask<Double> valid = Mask<Double>{} == 0;
    Double least[kVectors];
    Long owner[kVectors]{};
    std::fill(least, least + kVectors, infinity);
    T copy[kLength]{};
    for (int i = 0; i < rows_; ++i) {
      const T* row = scores + (transposed_ ? i : i * batch.m);
      if (transposed_ || end - row < kLength) {
        for (int j = 0; j < columns_; ++j) copy[j] = row[j * step];
        row = copy;
      }
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        Double cost = simd::load_as_double(row + v * kLanes) * sign;
        if ((v + 1) * kLanes > kLength - 8) cost = select<Double>(Line::columns(v) < broadcast<Long>(columns_), cost, infinity);
        valid &= cost > -infinity;
        owner[v] = select<Long>(cost < least[v], broadcast<Long>(i), owner[v]);
        least[v] = simd::min(cost, least[v]);
        cost_[i][v] = cost;
      }
    }
    for (int v = 0; v < kVectors; ++v) store(least_ + v * kLanes, least[v]), store(owner_ + v * kLanes, owner[v]);
    return simd::bits(valid) == (1u << kLanes) - 1;
  }

  // ---- phases ----

  Status match(bool reduces) {
    scans_ = 0;
    open_ = first(columns_);
    left_ = rows_;
    std::copy(name_, name_ + rows_, free_);
    std::fill(row_of_, row_of_ + columns_, kFree);
    // Prices of unmatched columns must stay 0, so only where all columns get matched may they start anywhere.
    if (reduces && !reduce_columns()) return kInfeasible;
    return reduce_rows() && search() ? kSolved : kInfeasible;
  }

  /// Prices each column at its least cost, matches rows that are least in some column, and lowers the price of a row's only
  /// column until another is as good. False if a column has no allowed pair.
  bool reduce_columns() {
    uint64_t once = 0, again = 0;  // rows
    for (int j = 0; j < columns_; ++j) {
      const int i = int(owner_[j]);
      again |= once & bit(i);
      once |= bit(i);
      column_of_[i] = j;
    }
    open_ = 0;
    bool feasible = true;
    for (int j = 0; j < columns_; ++j) {
      const int i = int(owner_[j]);
      const bool own = column_of_[i] == j;
      row_of_[j] = own ? i : kFree;
      open_ |= uint64_t(!own) << j;
      feasible &= least_[j] < kInfinity;
      price_[j] = least_[j];
    }
    left_ = 0;
    for (uint64_t rest = first(rows_) & ~once; rest; rest &= rest - 1) free_[left_++] = first_of(rest);
    if (feasible) transfer(once & ~again);
    return feasible;
  }

  void transfer(uint64_t rows) {
    Line price = prices();
    for (; rows; rows &= rows - 1) {
      const int i = first_of(rows);
      const Long own = broadcast<Long>(column_of_[i]);
      Double least = broadcast<Double>(kInfinity);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v)
        least = simd::min(least, select<Double>(Line::columns(v) == own, broadcast<Double>(kInfinity), cost_[i][v] - price.at[v]));
      least = simd::spread_min(least);
      if (least[0] < kInfinity) price.lower(column_of_[i], least);
    }
    keep(price);
  }

  /// Augmenting row reduction, see path_matching.hpp. False if a row has no allowed pair.
  bool reduce_rows() {
    Line price = prices();
    int next = 0, left = 0, displacements = rows_ / 2 + 4;
    while (next < left_) {
      const int i = free_[next++];
      Double first = broadcast<Double>(kInfinity), second = first;
      Line reduced;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        reduced.at[v] = cost_[i][v] - price.at[v];
        second = simd::min(second, simd::max(reduced.at[v], first));
        first = simd::min(reduced.at[v], first);
      }
      merge(first, second);
      if (first[0] == kInfinity) return false;
      const uint64_t best = reduced.equal(first);
      const double margin = second[0] - first[0];
      int j = first_of(best);
      if (margin > 0 && margin < kInfinity) {
        price.lower(j, second - first);
      } else {  // it displaces nobody, which would not end
        if (!(best & open_)) {
          free_[left++] = i;
          continue;
        }
        j = first_of(best & open_);
      }
      const int displaced = row_of_[j], displaces = displaced != kFree;
      pair(i, j);
      displacements -= displaces;
      if (displaces & (displacements <= 0)) {
        free_[left++] = displaced;
        continue;
      }
      free_[next - 1] = displaced;
      next -= displaces;
    }
    left_ = left;
    for (int k = 0; k < left; ++k) column_of_[free_[k]] = kFree;
    keep(price);
    return true;
  }

  /// Matches each row that is left along a shortest path to a free column. False if there is none.
  bool search() {
    int closed[kLength];
    double closed_at[kLength];
    for (int k = 0; k < left_; ++k) {
      const Double infinity = broadcast<Double>(kInfinity);
      Line price = prices(), distance;
      Long before[kVectors]{};
      for (Double& d : distance.at) d = infinity;
      Double base{}, nearest;
      int row = free_[k], count = 0, end;
      for (;;) {
        ++scans_;
        nearest = infinity;
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          const Double through = (cost_[row][v] - price.at[v]) - base;
          before[v] = select<Long>(through < distance.at[v], broadcast<Long>(row), before[v]);
          distance.at[v] = simd::min(through, distance.at[v]);
          nearest = simd::min(distance.at[v], nearest);
        }
        nearest = simd::spread_min(nearest);
        if (nearest[0] == kInfinity) return false;
        const uint64_t hits = distance.equal(nearest);
        if (hits & open_) {
          end = first_of(hits & open_);
          break;
        }
        end = first_of(hits);
        closed[count] = end;
        closed_at[count++] = nearest[0];
        row = row_of_[end];
        base = broadcast<Double>(paid(row) - price_[end]) - nearest;
        distance.set(end, infinity);
        price.set(end, -infinity);  // no distance through it is less than infinity again
      }
      for (int c = 0; c < count; ++c) price_[closed[c]] += closed_at[c] - nearest[0];
      alignas(64) int64_t row_before[kLength];
      for (int v = 0; v < kVectors; ++v) store(row_before + v * kLanes, before[v]);
      while (end != kFree) {
        const int i = int(row_before[end]), released = column_of_[i];
        pair(i, end);
        end = released;
      }
    }
    return true;
  }

  bool only_optimum() {
    return uniqueness_.holds(rows_, column_of_, row_of_, price_, [this](int i) { return paid(i); },
                             [this](int i, double limit, int) {
                               uint64_t hits = 0;
                               for (int v = 0; v < kVectors; ++v)
                                 hits |= uint64_t(simd::bits(cost_[i][v] - load<Double>(price_ + v * kLanes) <=
                                                             broadcast<Double>(limit)))
                                         << v * kLanes;
                               return hits;
                             });
  }

  Line prices() const {
    Line line;
    for (int v = 0; v < kVectors; ++v) line.at[v] = load<Double>(price_ + v * kLanes);
    return line;
  }

  void keep(const Line& price) {
    for (int v = 0; v < kVectors; ++v) store(price_ + v * kLanes, price.at[v]);
  }

  void pair(int i, int j) {
    column_of_[i] = j;
    row_of_[j] = i;
    open_ &= ~bit(j);
  }
};

}  // namespace assignment
