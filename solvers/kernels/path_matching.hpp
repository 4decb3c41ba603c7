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

#include <cmath>

#include "cost_matrix.hpp"

namespace assignment {

using simd::Long;
using simd::Mask;
using simd::broadcast;
using simd::load;
using simd::select;
using simd::store;

constexpr double kRounding = 1e-12;  // of sums of costs and prices, relative, with room to spare

/// A row's least and second least reduced cost and the column of the least.
struct TwoBest {
  double first, second;
  int column;
};

/// Solves one instance after the other, with workspace that is allocated once: `begin`, `step` until it says no, `finish`.
template <int kVectors, class C>
class PathMatching {
 public:
  template <class T>
  void begin(const Batch<T>& batch, int64_t b) {
    cost_.open(batch, b);
    allocate();
    status_ = kSolved;
    balanced_ = cost_.rows == cost_.real_columns && !batch.skip_row;
    const double* start = batch.warm_start ? batch.warm_start + b * batch.m : nullptr;
    started_ = balanced_ && start && !std::isnan(start[0]);
    const bool reduces = balanced_ && !started_;
    if (reduces) cost_.forget_minima();
    for (int k = 0; k < cost_.rows; ++k) {
      if (!cost_.read(batch, b, k)) status_ = kInvalid;
      if (reduces) cost_.lower_minima(k);  // while the row is in the nearest cache
    }
    std::fill(price_, price_ + cost_.stride(), 0.0);
    if (started_)
      for (int j = 0; j < cost_.columns; ++j)
        if (std::isfinite(start[j])) price_[j] = batch.sign() * start[j];
    restart();
  }

  /// One scan of a row; false when the instance is done.
  bool step() {
    if (status_ != kSolved) return false;
    if (next_ < waiting_) return reduces_ ? reduce_row() : extend_path();
    return next_phase();
  }

  template <class T>
  void finish(const Batch<T>& batch, int64_t b) const {
    const bool solved = status_ == kSolved;
    batch.status[b] = status_;
    T* solution = batch.solution + b * batch.n * batch.m;
    std::memset(solution, 0, sizeof(T) * batch.n * batch.m);
    if (solved) write_solution(solution, batch.m);
    if (batch.row_duals) write_duals(batch, b, solved);
    else if (batch.column_duals) write_start(batch, b, solved);
  }

 private:
  static constexpr int kFree = -1, kSkipped = -2;

  CostMatrix<kVectors, C> cost_;
  Status status_;
  bool balanced_, started_;      // whether all columns get matched; whether prices were given
  int scans_;                    // of rows, in search of paths
  double *price_, *paid_;        // of a column (minus infinity while it is closed), and the cost of its pair
  int *column_of_, *row_of_;
  uint64_t *open_;               // one bit for each column, set where it is free
  // Free rows wait in free_[next_, waiting_): for augmenting row reduction first, then for paths.
  bool reduces_, ties_;          // ties_: whether reduction met any
  int next_, waiting_, left_, displacements_;
  int* free_;
  // The tree of shortest paths from row free_[next_]. Distances are infinite for closed columns.
  int row_, closed_count_, skipped_;
  double base_, skip_distance_;
  double *distance_, *closed_at_, *closed_price_;
  int64_t* predecessor_;         // of a column: the row before it
  int* closed_;
  uint64_t *seen_, *hits_;       // one bit for each column
  simd::Buffer<double> doubles_;
  simd::Buffer<uint64_t> bits_;
  simd::Buffer<int64_t> longs_;
  simd::Buffer<int> ints_, arcs_;

  int width() const { return cost_.width(); }

  void allocate() {
    const int64_t line = simd::padded<double>(std::max(cost_.stride(), cost_.rows));
    double** const lines[] = {&price_, &paid_, &distance_, &closed_at_, &closed_price_};
    double* next = doubles_.get(line * 5);
    for (double** it : lines) *it = next, next += line;
    int** const lists[] = {&column_of_, &row_of_, &free_, &closed_};
    int* next_list = ints_.get(line * 4);
    for (int** it : lists) *it = next_list, next_list += line;
    predecessor_ = longs_.get(line);
    const int64_t words = line / 64 + 1;
    open_ = bits_.get(3 * words);
    seen_ = open_ + words;
    hits_ = seen_ + words;
  }

  // ---- phases ----

  /// From the prices as they are, or from none.
  void restart() {
    std::fill(column_of_, column_of_ + cost_.rows, kFree);
    std::fill(row_of_, row_of_ + cost_.stride(), kFree);
    std::fill(open_, open_ + cost_.stride() / 64 + 1, ~uint64_t(0));
    scans_ = next_ = waiting_ = left_ = 0;
    ties_ = false;
    reduces_ = true;
    displacements_ = cost_.rows / 2 + 4;
    // Prices of unmatched columns must stay 0, so only where all columns get matched may they start anywhere.
    if (status_ == kSolved && balanced_ && !started_ && !reduce_columns()) status_ = kInfeasible;
    for (int i = 0; i < cost_.rows; ++i)
      if (column_of_[i] == kFree) free_[waiting_++] = i;
  }

  bool next_phase() {
    if (reduces_) {
      reduces_ = false;
      next_ = 0;
      waiting_ = left_;
      start_path();
      return true;
    }
    // Of several optimal matchings a start may lead to another one than no start: it may save time, but not decide.
    if (!started_ || only_optimum()) return false;
    started_ = false;
    std::fill(price_, price_ + cost_.stride(), 0.0);
    cost_.forget_minima();
    for (int k = 0; k < cost_.rows; ++k) cost_.lower_minima(k);
    restart();
    return true;
  }

  bool fail() {
    status_ = kInfeasible;
    return false;
  }

  /// Prices each column at its least cost, matches rows that are least in some column, and lowers the price of a row's only
  /// column until another is as good. False if a column has no allowed pair.
  bool reduce_columns() {
    int* owned = closed_;  // how many columns a row is least in
    std::fill(owned, owned + cost_.rows, 0);
    for (int j = cost_.columns - 1; j >= 0; --j) {
      if (cost_.minimum[j] == C(kInfinity)) {
        if (cost_.real_columns == cost_.columns) return false;
        continue;  // padding
      }
      price_[j] = cost_.minimum[j];
      const int i = int(cost_.owner[j]);
      ++owned[i];
      if (column_of_[i] == kFree) pair(i, j);
    }
    for (int i = 0; i < cost_.rows; ++i)
      if (owned[i] == 1) {
        const double transfer = two_best(i).second;
        if (transfer < kInfinity) price_[column_of_[i]] -= transfer;
      }
    return true;
  }

  void pair(int i, int j) {
    column_of_[i] = j;
    row_of_[j] = i;
    paid_[j] = cost_.row(i)[j];
    open_[j / 64] &= ~(uint64_t(1) << j % 64);
  }

  // ---- augmenting row reduction ----

  /// Gives the next row its best column at a price that leaves the second best as good, displacing the row that had it.
  bool reduce_row() {
    const int i = free_[next_++];
    TwoBest best = two_best(i);
    if (cost_.skip[i] <= best.first) {
      if (cost_.skip[i] == kInfinity) return fail();
      column_of_[i] = kSkipped;
      return true;
    }
    best.second = std::min(best.second, cost_.skip[i]);
    const double lower = price_[best.column] - (best.second - best.first);
    const bool dearer = lower < price_[best.column] && lower > -kInfinity;
    if (!dearer && row_of_[best.column] != kFree) {
      ties_ = true;
      if (!augment_at_no_cost(i, best.first)) free_[left_++] = i;
      return true;
    }
    const int displaced = row_of_[best.column];
    if (dearer) price_[best.column] = lower;
    pair(i, best.column);
    if (displaced == kFree) return true;
    column_of_[displaced] = kFree;
    if (--displacements_ > 0)
      free_[--next_] = displaced;
    else
      free_[left_++] = displaced;
    return true;
  }

  /// Matches row i, whose least reduced cost is `least`, along pairs that are all as cheap as those they replace. False if
  /// no free column can be reached so.
  bool augment_at_no_cost(int i, double least) {
    const int words = (width() + 63) / 64;
    std::fill(seen_, seen_ + words, uint64_t(0));
    for (int k = 0, found = 0;; ++k) {
      const C* costs = cost_.row(i);
      int end = kFree;
      for (int word = words - 1; word >= 0; --word) {
        hits_[word] = equal_among(word, broadcast<Double>(least), [&](int j) { return reduced(costs, j); }) & ~seen_[word];
        if (const uint64_t free = hits_[word] & open_[word]) end = 64 * word + __builtin_ctzll(free);
      }
      if (end != kFree) {
        predecessor_[end] = i;
        follow(end);
        return true;
      }
      for (int word = 0; word < words; ++word) {
        seen_[word] |= hits_[word];
        for (uint64_t hits = hits_[word]; hits; hits &= hits - 1) {
          closed_[found] = 64 * word + __builtin_ctzll(hits);
          predecessor_[closed_[found++]] = i;
        }
      }
      if (k == found) return false;
      i = row_of_[closed_[k]];
      least = paid_[closed_[k]] - price_[closed_[k]];
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

  Double reduced(const C* costs, int j) const { return cost_.load(costs + j) - load<Double>(price_ + j); }

  // A long row notes the column of the least cost in each lane on its way; a short one looks for it again, which is faster
  // while all of it is in registers.

  TwoBest two_best(int i) const {
    Double first = broadcast<Double>(kInfinity), second = first;
    Long column{}, current = simd::iota<Long>();
    const C* costs = cost_.row(i);
    for (int j = 0, end = width(); j < end; j += kLanes) {
      const Double value = reduced(costs, j);
      if constexpr (!kVectors) {
        column = select<Long>(value < first, current, column);
        current += kLanes;
      }
      second = simd::min(second, simd::max(value, first));
      first = simd::min(value, first);
    }
    const Double lanes = first;
    merge<kLanes / 2>(first, second);
    if constexpr (!kVectors) return {first[0], second[0], lowest(simd::equal_bits(lanes, first), column)};
    int j = 0;
    unsigned hits;
    while (!(hits = simd::equal_bits(reduced(costs, j), first))) j += kLanes;
    return {first[0], second[0], j + __builtin_ctz(hits)};
  }

  /// The least and second least of all lanes, in every lane.
  template <int kStep>
  static void merge(Double& first, Double& second) {
    const Double other = simd::rotate<kStep>(first);
    second = simd::min(simd::min(second, simd::rotate<kStep>(second)), simd::max(first, other));
    first = simd::min(first, other);
    if constexpr (kStep > 1) merge<kStep / 2>(first, second);
  }

  /// The lowest of the columns in the lanes of `hits`.
  static int lowest(unsigned hits, Long columns) {
    alignas(simd::kBytes) int64_t column[kLanes];
    store(column, columns);
    int64_t least = column[__builtin_ctz(hits)];
    while (hits &= hits - 1) least = std::min(least, column[__builtin_ctz(hits)]);
    return int(least);
  }

  // ---- shortest paths ----

  void start_path() {
    row_ = next_ < waiting_ ? free_[next_] : kFree;
    base_ = 0;
    closed_count_ = 0;
    skipped_ = kFree;
    skip_distance_ = kInfinity;
  }

  /// Adds a row to the tree. If the nearest column is free or a row is better left unmatched, matches along the path.
  bool extend_path() {
    double nearest;
    const int end = closed_count_ ? relax<false>(nearest) : relax<true>(nearest);
    if (cost_.skip[row_] - base_ < skip_distance_) skip_distance_ = cost_.skip[row_] - base_, skipped_ = row_;
    if (end < 0 && skipped_ == kFree) return fail();
    if (skip_distance_ <= nearest || row_of_[end] == kFree) {
      augment(end, nearest);
      ++next_;
      start_path();
      return true;
    }
    const int k = closed_count_++;
    closed_[k] = end;
    closed_at_[k] = nearest;
    closed_price_[k] = price_[end];
    row_ = row_of_[end];
    base_ = paid_[end] - price_[end] - nearest;
    distance_[end] = kInfinity;
    price_[end] = -kInfinity;  // no distance through it is less than infinity again
    return true;
  }

  /// Relaxes the reduced costs of row_, which start at base_. Gives the nearest open column, kFree if all are at infinity.
  template <bool first>
  int relax(double& nearest) {
    ++scans_;
    const Double bases = broadcast<Double>(base_);
    const Long name = broadcast<Long>(row_);
    Double lanes = broadcast<Double>(kInfinity);
    Long column{}, current = simd::iota<Long>();
    const C* costs = cost_.row(row_);
    const double* price = price_;
    double* distance = distance_;
    int64_t* predecessor = predecessor_;
    for (int j = 0, end = width(); j < end; j += kLanes) {
      Double d = cost_.load(costs + j) - load<Double>(price + j);
      if constexpr (first) {
        store(predecessor + j, name);
      } else {
        const Double through = d - bases, known = load<Double>(distance + j);
        const Mask<Double> nearer = through < known;
        store(predecessor + j, select<Long>(nearer, name, load<Long>(predecessor + j)));
        d = select<Double>(nearer, through, known);
      }
      store(distance + j, d);
      if constexpr (!kVectors) {
        column = select<Long>(d < lanes, current, column);
        current += kLanes;
      }
      lanes = simd::min(d, lanes);
    }
    const Double least = simd::spread_min(lanes);
    nearest = least[0];
    if (nearest == kInfinity) return kFree;
    if constexpr (!kVectors) {
      const int j = lowest(simd::equal_bits(lanes, least), column);
      if (!ties_ || row_of_[j] == kFree) return j;
    }
    return nearest_column(least);
  }

  /// The lowest free column at distance `least`, or else the lowest.
  int nearest_column(Double least) const {
    int lowest = kFree;
    for (int word = 0, words = (width() + 63) / 64; word < words; ++word) {
      const uint64_t hits = equal_among(word, least, [this](int j) { return load<Double>(distance_ + j); });
      if (const uint64_t free = hits & open_[word]) return 64 * word + __builtin_ctzll(free);
      if (hits && lowest == kFree) lowest = 64 * word + __builtin_ctzll(hits);
    }
    return lowest;
  }

  /// Matches the free row along the shortest path to the free column `end`, or to the row that is better left unmatched.
  void augment(int end, double nearest) {
    const bool skips = skip_distance_ <= nearest;
    const double length = skips ? skip_distance_ : nearest;
    for (int k = 0; k < closed_count_; ++k) price_[closed_[k]] = closed_price_[k] + (closed_at_[k] - length);
    if (skips) {
      end = column_of_[skipped_];
      column_of_[skipped_] = kSkipped;
    }
    follow(end);
  }

  /// Gives column `end` to the row before it, the column of that row to the row before, and so on to a row without.
  void follow(int end) {
    while (end != kFree) {
      const int i = int(predecessor_[end]), released = column_of_[i];
      pair(i, end);
      end = released;
    }
  }

  // ---- uniqueness ----

  /// Whether no other matching of all rows and columns is as cheap, to rounding. False where that would take long to say.
  ///
  /// Another one differs by cycles of pairs that are as cheap as the row's own, by reduced cost, and lead from row to row.
  bool only_optimum() {
    const int rows = cost_.rows;
    const int64_t room = 8 * int64_t(rows);
    int *begin = arcs_.get(room + rows + 1), *arcs = begin + rows + 1, *entering = free_, *ready = closed_;
    int count = 0;
    double largest = 0;
    for (int j = 0; j < cost_.columns; ++j) largest = std::max(largest, std::abs(price_[j]));
    std::fill(entering, entering + rows, 0);
    for (int i = 0; i < rows; ++i) {
      const int own = column_of_[i];
      const double limit = paid_[own] - price_[own] + kRounding * (largest + std::abs(paid_[own]));
      begin[i] = count;
      for (int j = 0; j < width(); j += kLanes) {
        unsigned hits = simd::bits(reduced(cost_.row(i), j) <= broadcast<Double>(limit));
        for (; hits; hits &= hits - 1) {
          const int other = row_of_[j + __builtin_ctz(hits)];
          if (other == i) continue;
          if (other == kFree || count == room) return false;
          arcs[count++] = other;
          ++entering[other];
        }
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

  // ---- writing ----

  template <class T>
  void write_solution(T* solution, int64_t m) const {
    for (int k = 0; k < cost_.rows; ++k) {
      if (column_of_[k] < 0) continue;
      const int64_t i = cost_.transposed ? column_of_[k] : cost_.name[k], j = cost_.transposed ? cost_.name[k] : column_of_[k];
      solution[i * m + j] = T(1);
    }
  }

  /// Costs that take a long search have a structure that similar costs share; where it was short, so is another one.
  template <class T>
  void write_start(const Batch<T>& batch, int64_t b, bool solved) const {
    double* columns = batch.column_duals + b * batch.m;
    const bool use = solved && !cost_.transposed && scans_ > 2 * cost_.rows;
    for (int j = 0; j < int(batch.m); ++j)
      columns[j] = use ? batch.sign() * price_[j] : std::numeric_limits<double>::quiet_NaN();
  }

  template <class T>
  void write_duals(const Batch<T>& batch, int64_t b, bool solved) const {
    double* rows = batch.row_duals + b * batch.n;
    double* columns = batch.column_duals + b * batch.m;
    std::fill(rows, rows + batch.n, 0.0);
    std::fill(columns, columns + batch.m, 0.0);
    if (!solved) return;
    if (cost_.transposed) std::swap(rows, columns);
    for (int j = 0; j < cost_.columns; ++j) columns[j] = batch.sign() * price_[j];
    for (int k = 0; k < cost_.rows; ++k) {
      const int j = column_of_[k];
      rows[cost_.name[k]] = batch.sign() * (j == kSkipped ? cost_.skip[k] : paid_[j] - price_[j]);
    }
  }
};

/// Solves instances [first, last).
template <int kVectors, class C, class T>
void match_by_paths(const Batch<T>& batch, int64_t first, int64_t last) {
  constexpr int kSlots = 2;            // instances that take their steps in turn
  constexpr int kLine = 64, kAhead = 4;  // at each step so many lines of the cache are asked for the instance after them
  PathMatching<kVectors, C> matchings[kSlots];
  int64_t instance[kSlots];
  int slots[kSlots], busy = 0;
  const char *ahead = nullptr, *end = nullptr;
  const auto begin = [&](int slot) {
    matchings[slot].begin(batch, instance[slot] = first++);
    const int64_t size = batch.n * batch.m;
    ahead = reinterpret_cast<const char*>(batch.scores + first * size);
    end = first < last ? reinterpret_cast<const char*>(batch.scores + (first + 1) * size) : ahead;
  };
  for (; busy < kSlots && first < last; ++busy) begin(slots[busy] = busy);
  while (busy)
    for (int k = 0; k < busy; ++k) {
      for (int line = 0; line < kAhead && ahead < end; ++line, ahead += kLine) __builtin_prefetch(ahead, 0, 2);
      const int slot = slots[k];
      if (matchings[slot].step()) continue;
      matchings[slot].finish(batch, instance[slot]);
      if (first < last) begin(slot);
      else slots[k] = slots[--busy];
    }
}

}  // namespace assignment
