// Linear assignment: a batch of dense, square or rectangular cost matrices.
//
// Idea. Keep prices v of the columns and a partial matching such that every matched row sits at its cheapest column by reduced
// cost c[i][j] - v[j]. Start from cheap heuristics that match most rows and then add one row at a time along a shortest path
// of reduced costs, which keeps the property. When all rows are matched, the prices prove that the matching is cheapest.
// Every step is a scan of one cost row, done with vectors; one instance at a time, because the steps depend on the data.
// Matrices up to 8 x 8 are solved by dynamic programming over sets of columns instead, one instance in each lane.
//
// Two things make the scans few on real costs. Augmenting row reduction is one pass with a limited number of displacements:
// unlimited, it crawls on costs with structure. And among equally near columns a free one is taken first: without that, integer
// costs, which are full of ties, take many times as long.
//
// Arithmetic is in float64 throughout, so costs with large common offsets are no trouble. Equal costs are resolved towards low
// column numbers, so the answer is the same with every vector width.
//
// Sources: R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
// Computing 38 (1987); D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52 (2016).
#include <cmath>
#include <cstring>

#include "parallel.hpp"
#include "samples.hpp"
#include "simd.hpp"

namespace {

using simd::Double;
using simd::Mask;
using simd::broadcast;
using simd::load;
using simd::select;
using simd::store;

constexpr int kLanes = simd::kLanes<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRounding = 1e-12;  // of sums of costs and prices, relative, with room to spare

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
};

/// A row's least and second least reduced cost and the column of the least.
struct TwoBest {
  double first, second;
  int column;
};

/// Solves one instance after the other, with workspace that is allocated once.
///
/// Inside, "rows" are the side that is matched completely: the caller's rows, or its columns if there are fewer of them.
///
/// `kVectors` is the length of a row in vectors where it is small, so that loops over a row are unrolled; 0: any length.
template <int kVectors>
class Matcher {
 public:
  template <class T>
  void solve(const Batch<T>& batch, int64_t b) {
    const int64_t size = batch.n * batch.m;
    std::memset(batch.solution + b * size, 0, sizeof(T) * size);
    Status status = read(batch, b);
    if (status == kSolved) {
      const double* warm_start = batch.warm_start ? batch.warm_start + b * batch.m : nullptr;
      status = match(warm_start, batch.maximize, batch.skip_row != nullptr);
      // Of several optimal matchings a start may lead to another one than no start: it may save time, but not decide.
      if (status == kSolved && started_ && !only_optimum()) status = match(nullptr, batch.maximize, batch.skip_row != nullptr);
    }
    batch.status[b] = status;
    if (status == kSolved) write_solution(batch.solution + b * size, batch.m);
    if (batch.row_duals) write_duals(batch, b, status == kSolved);
    else if (batch.column_duals) write_start(batch, b, status == kSolved);
  }

 private:
  static constexpr int kFree = -1, kSkipped = -2;

  int rows_, columns_;              // rows to match, length of a row of costs
  int padded_;                      // length of a row padded to whole vectors
  int real_columns_;                // columns that are not padding
  bool transposed_;
  bool started_;                    // whether prices were given
  int scans_;                       // of rows, in search of paths
  double* cost_;                    // rows_ x stride(); infinity: forbidden
  double *price_, *open_price_, *distance_, *predecessor_, *occupied_, *skip_, *scanned_at_;
  int *row_name_, *column_of_, *row_of_, *free_, *scanned_;
  uint8_t *is_row_, *is_column_;
  simd::Buffer<double> costs_, doubles_;
  simd::Buffer<int> ints_, arcs_;
  simd::Buffer<uint8_t> bytes_;

  // ---- reading an instance ----

  template <class T>
  Status read(const Batch<T>& batch, int64_t b) {
    const int n = int(batch.n), m = int(batch.m);
    const uint8_t* mask = batch.mask ? batch.mask + b * batch.n * batch.m : nullptr;
    is_row_ = bytes_.get(n + m);
    is_column_ = is_row_ + n;
    const int real_rows = mask ? find_real(mask, n, m) : n;
    if (!mask) real_columns_ = m;
    transposed_ = !batch.skip_row && real_rows > real_columns_;
    rows_ = transposed_ ? real_columns_ : real_rows;
    columns_ = transposed_ ? n : m;
    if (transposed_) real_columns_ = real_rows;
    allocate();
    for (int i = 0, k = 0; i < (transposed_ ? m : n); ++i)
      if (!mask || (transposed_ ? is_column_ : is_row_)[i]) row_name_[k++] = i;
    const T *scores = batch.scores + b * batch.n * batch.m, *end = batch.scores + batch.count * batch.n * batch.m;
    const double* skip_column = batch.skip_column ? batch.skip_column + b * batch.m : nullptr;
    const double sign = batch.maximize ? -1 : 1;
    for (int k = 0; k < rows_; ++k) {
      const int64_t start = transposed_ ? row_name_[k] : int64_t(row_name_[k]) * m, step = transposed_ ? m : 1;
      const uint8_t* allowed = mask ? mask + start : nullptr;
      if (!read_row(scores + start, end, allowed, step, sign, skip_column, cost_ + int64_t(k) * stride())) return kInvalid;
      skip_[k] = batch.skip_row ? sign * batch.skip_row[b * batch.n + row_name_[k]] : kInfinity;
      if (!(skip_[k] > -kInfinity)) return kInvalid;
    }
    return kSolved;
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
    real_columns_ = 0;
    for (int j = 0; j < m; ++j) real_columns_ += is_column_[j];
    return real_rows;
  }

  void allocate() {
    padded_ = int(simd::padded<double>(std::max(columns_, 1)));
    const int64_t line = simd::padded<double>(std::max(padded_, rows_));
    cost_ = costs_.get(std::max<int64_t>(rows_, 1) * stride());
    double** const lines[] = {&price_, &open_price_, &distance_, &predecessor_, &occupied_, &skip_, &scanned_at_};
    double* next = doubles_.get(line * 7);
    for (double** it : lines) *it = next, next += line;
    int** const lists[] = {&row_name_, &column_of_, &row_of_, &free_, &scanned_};
    int* next_list = ints_.get(line * 5);
    for (int** it : lists) *it = next_list, next_list += line;
  }

  /// One row as float64 costs, padded with infinity. False if a cost is NaN or minus infinity.
  ///
  /// Whole vectors are loaded while they end before `end`, the end of the batch.
  template <class T>
  bool read_row(const T* scores, const T* end, const uint8_t* mask, int64_t step, double sign, const double* skip_column,
                double* row) const {
    int j = 0;
    if (step == 1)
      for (; j < columns_ && end - scores >= j + kLanes; j += kLanes) store(row + j, simd::load_as_double(scores + j) * sign);
    for (; j < columns_; ++j) row[j] = sign * double(scores[j * step]);
    if (skip_column)
      for (j = 0; j < columns_; ++j) row[j] -= sign * skip_column[j];
    if (mask)
      for (j = 0; j < columns_; ++j) row[j] = mask[j * step] ? row[j] : kInfinity;
    const Double length = broadcast<Double>(columns_);
    const int tail = stride() - kLanes;
    const Double lanes = simd::iota<Double>() + double(tail);
    store(row + tail, select<Double>(lanes < length, load<Double>(row + tail), broadcast<Double>(kInfinity)));
    Mask<Double> valid = Mask<Double>{} == 0;
    for (j = 0; j < stride(); j += kLanes) valid &= load<Double>(row + j) > broadcast<Double>(-kInfinity);
    return simd::bits(valid) == (1u << kLanes) - 1;
  }

  // ---- matching ----

  Status match(const double* warm_start, bool maximize, bool skips) {
    std::fill(column_of_, column_of_ + rows_, kFree);
    std::fill(row_of_, row_of_ + stride(), kFree);
    std::fill(price_, price_ + stride(), 0.0);
    started_ = false;
    scans_ = 0;
    if (rows_ == 0) return kSolved;
    const bool balanced = rows_ == real_columns_ && !skips;
    if (balanced && warm_start && !std::isnan(warm_start[0])) {
      started_ = true;
      for (int j = 0; j < columns_; ++j)
        if (std::isfinite(warm_start[j])) price_[j] = maximize ? -warm_start[j] : warm_start[j];
    } else if (balanced) {
      // Prices of unmatched columns must stay 0, so only where all columns get matched may they start anywhere.
      if (!reduce_columns()) return kInfeasible;
    }
    int free_rows = 0;
    for (int i = 0; i < rows_; ++i)
      if (column_of_[i] == kFree) free_[free_rows++] = i;
    free_rows = reduce_rows(free_rows);
    if (free_rows < 0) return kInfeasible;
    for (int j = 0; j < stride(); ++j) occupied_[j] = row_of_[j] == kFree && j < columns_ ? -kInfinity : kInfinity;
    for (int k = 0; k < free_rows; ++k)
      if (!augment(free_[k])) return kInfeasible;
    return kSolved;
  }

  int stride() const { return kVectors ? kVectors * kLanes : padded_; }

  const double* row(int i) const { return cost_ + int64_t(i) * stride(); }

  /// Prices each column at its least cost, matches rows that are least in some column, and lowers the price of a row's only
  /// column until another is as good. False if a column has no allowed pair.
  bool reduce_columns() {
    for (int j = 0; j < stride(); j += kLanes) {
      Double least = load<Double>(cost_ + j), owner{};
      for (int i = 1; i < rows_; ++i) {
        const Double c = load<Double>(row(i) + j);
        owner = select<Double>(c < least, broadcast<Double>(i), owner);
        least = simd::min(c, least);
      }
      store(price_ + j, least);
      store(predecessor_ + j, owner);
    }
    std::fill(scanned_, scanned_ + rows_, 0);  // how many columns a row is least in
    for (int j = stride() - 1; j >= 0; --j) {
      if (price_[j] == kInfinity) {
        const bool padding = j >= columns_ || real_columns_ < columns_;
        if (!padding) return false;
        price_[j] = 0;
        continue;
      }
      const int i = int(predecessor_[j]);
      ++scanned_[i];
      if (column_of_[i] == kFree) pair(i, j);
    }
    for (int i = 0; i < rows_; ++i)
      if (scanned_[i] == 1) {
        const double transfer = two_best(row(i)).second;
        if (transfer < kInfinity) price_[column_of_[i]] -= transfer;
      }
    return true;
  }

  void pair(int i, int j) {
    column_of_[i] = j;
    row_of_[j] = i;
  }

  // A long row notes the column of the least cost in each lane on its way; a short one looks for it again, which is faster
  // while all of it is in registers.

  TwoBest two_best(const double* c) const {
    Double first = broadcast<Double>(kInfinity), second = first, column{}, current = simd::iota<Double>();
    for (int j = 0; j < stride(); j += kLanes) {
      const Double reduced = load<Double>(c + j) - load<Double>(price_ + j);
      if constexpr (!kVectors) {
        column = select<Double>(reduced < first, current, column);
        current += double(kLanes);
      }
      second = simd::min(second, simd::max(reduced, first));
      first = simd::min(reduced, first);
    }
    const Double lanes = first;
    merge<kLanes / 2>(first, second);
    if constexpr (!kVectors) return {first[0], second[0], lowest_column(simd::equal_bits(lanes, first), column)};
    int j = 0;
    unsigned hits;
    while (!(hits = simd::equal_bits(load<Double>(c + j) - load<Double>(price_ + j), first))) j += kLanes;
    return {first[0], second[0], j + __builtin_ctz(hits)};
  }

  /// The lowest of the columns in the lanes of `hits`.
  static int lowest_column(unsigned hits, Double columns) {
    alignas(simd::kBytes) double column[kLanes];
    store(column, columns);
    double lowest = column[__builtin_ctz(hits)];
    while (hits &= hits - 1) lowest = std::min(lowest, column[__builtin_ctz(hits)]);
    return int(lowest);
  }

  /// The least and second least of all lanes, in every lane.
  template <int kStep>
  static void merge(Double& first, Double& second) {
    const Double other = simd::rotate<kStep>(first);
    second = simd::min(simd::min(second, simd::rotate<kStep>(second)), simd::max(first, other));
    first = simd::min(first, other);
    if constexpr (kStep > 1) merge<kStep / 2>(first, second);
  }

  /// Augmenting row reduction: gives each free row its best column at a price that leaves the second best as good, displacing
  /// the row that had it. Returns how many rows stay free (now first in free_), or -1 if a row has no allowed pair.
  int reduce_rows(int free_rows) {
    int displacements = rows_ / 2 + 4, next = 0, left = 0;
    while (next < free_rows) {
      const int i = free_[next++];
      TwoBest best = two_best(row(i));
      if (skip_[i] <= best.first) {
        if (skip_[i] == kInfinity) return -1;
        column_of_[i] = kSkipped;
        continue;
      }
      best.second = std::min(best.second, skip_[i]);
      const int displaced = row_of_[best.column];
      const double lower = price_[best.column] - (best.second - best.first);
      const bool dearer = lower < price_[best.column] && lower > -kInfinity;
      if (dearer) price_[best.column] = lower;
      pair(i, best.column);
      if (displaced == kFree) continue;
      column_of_[displaced] = kFree;
      if (dearer && --displacements > 0)
        free_[--next] = displaced;
      else
        free_[left++] = displaced;
    }
    return left;
  }

  /// Extends the shortest path tree by the row `i`, whose reduced costs start at `base`. Gives the nearest open column; a
  /// free one if there is one among the nearest.
  int relax(int i, double base, double& nearest) {
    ++scans_;
    const double* c = row(i);
    const Double bases = broadcast<Double>(base), name = broadcast<Double>(i), infinity = broadcast<Double>(kInfinity);
    Double lanes = infinity, lanes_free = infinity, column{}, current = simd::iota<Double>();
    for (int j = 0; j < stride(); j += kLanes) {
      const Double through = (load<Double>(c + j) - load<Double>(open_price_ + j)) - bases, known = load<Double>(distance_ + j);
      store(predecessor_ + j, select<Double>(through < known, name, load<Double>(predecessor_ + j)));
      const Double d = simd::min(through, known);
      store(distance_ + j, d);
      if constexpr (!kVectors) {
        column = select<Double>(d < lanes, current, column);
        current += double(kLanes);
        lanes_free = simd::min(lanes_free, simd::max(d, load<Double>(occupied_ + j)));
      }
      lanes = simd::min(d, lanes);
    }
    const Double least = simd::spread_min(lanes);
    nearest = least[0];
    if (nearest == kInfinity) return kFree;
    if constexpr (kVectors) return nearest_column(least);
    const int j = lowest_column(simd::equal_bits(lanes, least), column);
    return row_of_[j] == kFree || !simd::equal_bits(lanes_free, least) ? j : nearest_column(least);
  }

  /// The lowest free column at distance `least`, or else the lowest.
  int nearest_column(Double least) const {
    int first = kFree;
    for (int j = 0; j < stride(); j += kLanes) {
      const Double d = load<Double>(distance_ + j);
      const unsigned hits = simd::equal_bits(d, least);
      if (!hits) continue;
      const unsigned free = simd::equal_bits(simd::max(d, load<Double>(occupied_ + j)), least);
      if (free) return j + __builtin_ctz(free);
      if (first == kFree) first = j + __builtin_ctz(hits);
    }
    return first;
  }

  /// Matches the free row `start` along a shortest path to a free column, or to a row that is better left unmatched.
  bool augment(int start) {
    for (int j = 0; j < stride(); j += kLanes) {
      store(distance_ + j, broadcast<Double>(kInfinity));
      store(open_price_ + j, load<Double>(price_ + j));
    }
    int i = start, end = kFree, scans = 0, skipped = kFree;
    double base = 0, nearest = 0, skip_distance = kInfinity;
    for (;;) {
      end = relax(i, base, nearest);
      if (skip_[i] - base < skip_distance) skip_distance = skip_[i] - base, skipped = i;
      if (end < 0 && skipped == kFree) return false;
      if (skip_distance <= nearest || row_of_[end] == kFree) break;
      // Closed: no distance through it is less than infinity again.
      scanned_[scans] = end;
      scanned_at_[scans++] = nearest;
      distance_[end] = kInfinity;
      open_price_[end] = -kInfinity;
      i = row_of_[end];
      base = row(i)[end] - price_[end] - nearest;
    }
    const bool skips = skip_distance <= nearest;
    const double length = skips ? skip_distance : nearest;
    for (int k = 0; k < scans; ++k) price_[scanned_[k]] += scanned_at_[k] - length;
    if (skips) {
      end = column_of_[skipped];
      column_of_[skipped] = kSkipped;
      if (skipped == start) return true;
    } else {
      occupied_[end] = kInfinity;
    }
    for (i = kFree; i != start;) {
      i = int(predecessor_[end]);
      const int released = column_of_[i];
      pair(i, end);
      end = released;
    }
    return true;
  }

  // ---- uniqueness ----

  /// Whether no other matching of all rows and columns is as cheap, to rounding. False where that would take long to say.
  ///
  /// Another one differs by cycles of pairs that are as cheap as the row's own, by reduced cost, and lead from row to row.
  bool only_optimum() {
    const int64_t room = 8 * int64_t(rows_);
    int *begin = arcs_.get(room + rows_ + 1), *arcs = begin + rows_ + 1, *entering = free_, *ready = scanned_;
    int count = 0;
    double largest = 0;
    for (int j = 0; j < columns_; ++j) largest = std::max(largest, std::abs(price_[j]));
    std::fill(entering, entering + rows_, 0);
    for (int i = 0; i < rows_; ++i) {
      const int own = column_of_[i];
      const double c = row(i)[own], limit = c - price_[own] + kRounding * (largest + std::abs(c));
      begin[i] = count;
      for (int j = 0; j < stride(); j += kLanes) {
        unsigned hits = simd::bits(load<Double>(row(i) + j) - load<Double>(price_ + j) <= broadcast<Double>(limit));
        for (; hits; hits &= hits - 1) {
          const int other = row_of_[j + __builtin_ctz(hits)];
          if (other == i) continue;
          if (other == kFree || count == room) return false;
          arcs[count++] = other;
          ++entering[other];
        }
      }
    }
    begin[rows_] = count;
    int found = 0;  // rows that no cycle leads to, taken away one after the other
    for (int i = 0; i < rows_; ++i)
      if (!entering[i]) ready[found++] = i;
    for (int k = 0; k < found; ++k)
      for (int a = begin[ready[k]]; a < begin[ready[k] + 1]; ++a)
        if (!--entering[arcs[a]]) ready[found++] = arcs[a];
    return found == rows_;
  }

  // ---- writing ----

  template <class T>
  void write_solution(T* solution, int64_t m) const {
    for (int k = 0; k < rows_; ++k) {
      if (column_of_[k] < 0) continue;
      const int64_t i = transposed_ ? column_of_[k] : row_name_[k], j = transposed_ ? row_name_[k] : column_of_[k];
      solution[i * m + j] = T(1);
    }
  }

  /// Costs that take a long search have a structure that similar costs share; where it was short, so is another one.
  template <class T>
  void write_start(const Batch<T>& batch, int64_t b, bool solved) const {
    double* columns = batch.column_duals + b * batch.m;
    const bool use = solved && !transposed_ && scans_ > 2 * rows_;
    const double sign = batch.maximize ? -1 : 1;
    for (int j = 0; j < int(batch.m); ++j) columns[j] = use ? sign * price_[j] : std::numeric_limits<double>::quiet_NaN();
  }

  template <class T>
  void write_duals(const Batch<T>& batch, int64_t b, bool solved) const {
    double* rows = batch.row_duals + b * batch.n;
    double* columns = batch.column_duals + b * batch.m;
    std::fill(rows, rows + batch.n, 0.0);
    std::fill(columns, columns + batch.m, 0.0);
    if (!solved) return;
    if (transposed_) std::swap(rows, columns);
    const double sign = batch.maximize ? -1 : 1;
    for (int j = 0; j < columns_; ++j) columns[j] = sign * price_[j];
    for (int k = 0; k < rows_; ++k) {
      const int j = column_of_[k];
      rows[row_name_[k]] = sign * (j == kSkipped ? skip_[k] : row(k)[j] - price_[j]);
    }
  }
};

/// Least cost of matching the first |S| rows with the columns S, for all sets S, with one instance in each lane.
class SubsetMatcher {
 public:
  static constexpr int kMaxSize = 8;

  /// Solves instances [b, b + lanes) of square matrices, lanes <= kLanes.
  template <class T>
  void solve(const Batch<T>& batch, int64_t b, int lanes) {
    const int n = int(batch.n), size = n * n;
    const T* scores = batch.scores + b * size;
    const double sign = batch.maximize ? -1 : 1;
    const Mask<Double> valid = read(scores, size, lanes, sign);
    tabulate(n);
    T* solution = batch.solution + b * size;
    std::memset(solution, 0, sizeof(T) * size * lanes);
    const int all = (1 << n) - 1;
    for (int lane = 0; lane < lanes; ++lane, solution += size) {
      batch.status[b + lane] = !valid[lane] ? kInvalid : least_[all][lane] == kInfinity ? kInfeasible : kSolved;
      if (batch.status[b + lane] != kSolved) continue;
      for (int i = n - 1, set = all; i >= 0; --i) {
        const int j = int(last_[set][lane]);
        solution[i * n + j] = T(1);
        set ^= 1 << j;
      }
    }
  }

 private:
  Double cost_[kMaxSize * kMaxSize], least_[1 << kMaxSize];
  simd::Long last_[1 << kMaxSize];  // the column of the last row

  /// Transposes instances into lanes; lanes left over repeat the first one. Gives the lanes without NaN or minus infinity.
  template <class T>
  Mask<Double> read(const T* scores, int size, int lanes, double sign) {
    Mask<Double> valid = Mask<Double>{} == 0;
    for (int k = 0; k < size; ++k) {
      Double c;
      for (int lane = 0; lane < kLanes; ++lane) c[lane] = double(scores[(lane < lanes ? lane : 0) * size + k]);
      cost_[k] = c * sign;
      valid &= cost_[k] > broadcast<Double>(-kInfinity);
    }
    return valid;
  }

  void tabulate(int n) {
    least_[0] = Double{};
    for (int set = 1; set < 1 << n; ++set) {
      const Double* row = cost_ + (__builtin_popcount(set) - 1) * n;
      int rest = set, j = __builtin_ctz(rest);
      Double least = least_[set ^ (1 << j)] + row[j];
      simd::Long last = simd::Long{} + j;
      while (rest &= rest - 1) {
        j = __builtin_ctz(rest);
        const Double with = least_[set ^ (1 << j)] + row[j];
        last = with < least ? simd::Long{} + j : last;
        least = simd::min(with, least);
      }
      least_[set] = least;
      last_[set] = last;
    }
  }
};

template <int kVectors, class T>
void solve_each(const Batch<T>& batch, int64_t first, int64_t last) {
  Matcher<kVectors> matcher;
  for (int64_t b = first; b < last; ++b) matcher.solve(batch, b);
}

template <class T>
void solve_range(const Batch<T>& batch, int64_t first, int64_t last) {
  const bool small = batch.n == batch.m && batch.n > 0 && batch.n <= SubsetMatcher::kMaxSize;
  if (small && !batch.mask && !batch.skip_row && !batch.column_duals) {
    SubsetMatcher matcher;
    for (int64_t b = first; b < last; b += kLanes) matcher.solve(batch, b, int(std::min<int64_t>(kLanes, last - b)));
  } else {
    // The longer side is the row inside, unless rows may be skipped; padding can only make a row shorter.
    const int64_t length = batch.skip_row || batch.mask ? 0 : std::max(batch.n, batch.m);
    switch (simd::padded<double>(length) / kLanes) {
      case 1: return solve_each<1>(batch, first, last);
      case 2: return solve_each<2>(batch, first, last);
      case 3: return solve_each<3>(batch, first, last);
      case 4: return solve_each<4>(batch, first, last);
      default: return solve_each<0>(batch, first, last);
    }
  }
}

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve_batch(const Batch<T>& batch, int64_t chunk, int threads) {
  const int64_t chunks = (batch.count + chunk - 1) / chunk;
  const bool enough_memory = parallel::parallel_for(chunks, threads, [&](int64_t k) {
    solve_range(batch, k * chunk, std::min(batch.count, (k + 1) * chunk));
  });
  if (!enough_memory) return -1;
  return batch.count - std::count(batch.status, batch.status + batch.count, uint8_t(kSolved));
}

/// The mean of matchings at samples of the scores, which are gains. Starts have one row for each instance of each sample.
int mean_of_matchings(const samples::Samples& all, const uint8_t* mask, const double* warm_start, double* start, int64_t n,
                      int64_t m) {
  const int64_t together = samples::some(all.width, kLanes);
  return samples::mean_of_solutions(
      all, together, 4 * double(all.width),
      [=, &all](int64_t sample, int64_t first, int64_t count, const float* scores, float* solution) {
        simd::Buffer<uint8_t> status;
        const int64_t row = (sample * all.rows + first) * m;
        const Batch<float> some{scores, mask ? mask + first * n * m : nullptr, nullptr, nullptr,
                                warm_start ? warm_start + row : nullptr, count, n, m, true, solution, nullptr,
                                start ? start + row : nullptr, status.get(count)};
        solve_range(some, 0, count);
        return std::count(some.status, some.status + count, uint8_t(kSolved)) == count;
      });
}

}  // namespace

#define SOLVERLAYERS_ASSIGNMENT(NAME, T)                                                                                     \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_assignment_##NAME(                                  \
      const T* scores, const uint8_t* mask, const double* skip_row, const double* skip_column, const double* warm_start,     \
      int64_t count, int64_t n, int64_t m, int maximize, T* solution, double* row_duals, double* column_duals,               \
      uint8_t* status, int64_t chunk, int threads) {                                                                         \
    return solve_batch(Batch<T>{scores, mask, skip_row, skip_column, warm_start, count, n, m, maximize != 0, solution,       \
                                row_duals, column_duals, status},                                                            \
                       chunk, threads);                                                                                      \
  }

SOLVERLAYERS_ASSIGNMENT(float32, float)
SOLVERLAYERS_ASSIGNMENT(float64, double)
SOLVERLAYERS_ASSIGNMENT(int32, int32_t)
SOLVERLAYERS_ASSIGNMENT(int64, int64_t)

extern "C" __attribute__((visibility("default"))) int solverlayers_assignment_mean(
    const samples::Samples* all, const uint8_t* mask, const double* warm_start, double* start, int64_t n, int64_t m) {
  return mean_of_matchings(*all, mask, warm_start, start, n, m);
}
