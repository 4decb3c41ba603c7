// Matchings of least cost in a sparse bipartite graph that all instances share: perfect ones, or any.
//
// The method of the dense assignment kernel on lists of arcs: augmenting row reduction, then a shortest path of reduced costs for
// each row that is left. Prices of a perfect matching start at the least cost of each column; of any other at 0, from where they
// only fall, so that those of columns that stay alone are 0, as they must be.
//
// Idea: one instance in each SIMD lane for the reduction. All rows bid in turn, sweep after sweep, each in the lanes in which it
// has no column, so that lanes read the same arcs and nothing hangs on a branch: which arc is best is as good as random, and a
// processor that guesses takes twice as long. Lanes know nothing of each other, so a solution does not depend on its neighbours
// in the batch. The paths that are left are searched one after the other, without a heap: few columns wait at a time.
//
// Prices and distances are float64. A free column ends a search as soon as none is nearer, ties included.
// Source: R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
// Computing 38 (1987).
#include <algorithm>
#include <limits>
#include <vector>

#include "batches.hpp"
#include "simd.hpp"

namespace {

using simd::broadcast;
using simd::Double;
using simd::Long;
constexpr int W = simd::kLanes<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kNone = -1, kAlone = -2;
constexpr int kSweeps = 6;  // of row reduction: later ones crawl

/// The arcs of each row side by side: the column where arc k leads, and the number of its edge. The caller makes one and keeps it.
struct Graph {
  const int32_t *start, *column, *edge;
  int64_t rows, columns;
};

template <class T>
struct Batch {
  const T* scores;
  const uint8_t* mask;
  int64_t count, size;
  bool perfect, largest;
  T* solution;
  uint8_t* status;  // (?) 1 where there is no perfect matching, or a cost is NaN or minus infinity
};

struct Reached {
  double distance;
  int column;
};

/// Columns that a search came to and that wait, in no order. Without branches, which would be mispredicted more often than not.
class Search {
 public:
  explicit Search(int64_t columns)
      : distance_(columns, kInfinity), place_(columns), from_(columns), waits_(columns + 1), came_(columns + 1) {
    key_ = keys_.get(columns + 1 + W);
    std::fill_n(key_, columns + 1 + W, kInfinity);
  }

  /// The arc along which the search came to a column.
  int from(int column) const { return from_[column]; }

  /// Comes to a column along an arc, unless it was nearer before, or is not within the limit. Whether it is nearer now.
  bool reach(int column, int arc, double distance, double limit) {
    const bool nearer = (distance < distance_[column]) & (distance < limit), first = distance_[column] == kInfinity;
    const int place = first ? waiting_ : place_[column];
    key_[place] = nearer ? distance : key_[place];
    waits_[place] = nearer ? column : waits_[place];
    distance_[column] = nearer ? distance : distance_[column];
    place_[column] = nearer ? place : place_[column];
    from_[column] = nearer ? arc : from_[column];
    came_[size_] = column;
    waiting_ += nearer & first, size_ += nearer & first;
    return nearer;
  }

  /// Takes the nearest column from those that wait, if it is within the limit; kNone otherwise. It is never reached again.
  Reached next(double limit) {
    const int place = nearest();
    if (!(key_[place] < limit)) return {limit, kNone};
    const Reached out{key_[place], waits_[place]};
    const int last = waits_[--waiting_];
    key_[place] = key_[waiting_], waits_[place] = last, place_[last] = place;
    key_[waiting_] = kInfinity;
    distance_[out.column] = -kInfinity;
    return out;
  }

  /// Forgets everything.
  void clear() {
    std::fill_n(key_, waiting_, kInfinity);
    for (int i = 0; i < size_; ++i) distance_[came_[i]] = kInfinity;
    waiting_ = size_ = 0;
  }

 private:
  simd::Buffer<double> keys_;
  double* key_;                   // distances of the columns that wait, then infinity
  std::vector<double> distance_;  // of all columns: infinity before the search came there, minus infinity when it is over
  std::vector<int> place_, from_, waits_, came_;
  int waiting_ = 0, size_ = 0;  // how many wait; to how many the search came

  int nearest() const {
    Double least = simd::load<Double>(key_), place = simd::iota<Double>(), at = place;
    for (int i = W; i < waiting_; i += W) {
      const Double key = simd::load<Double>(key_ + i);
      at += double(W);
      place = key < least ? at : place;
      least = simd::min(least, key);
    }
    double places[W];
    __builtin_memcpy(places, &place, sizeof(places));
    return int(places[__builtin_ctz(simd::equal_bits(least, simd::spread_min(least)))]);
  }
};

/// Solves W instances at a time.
template <class T>
class Matcher {
 public:
  Matcher(const Graph& graph, const Batch<T>& batch)
      : graph_(graph), batch_(batch), none_(batch.size), bidding_(graph.rows + 1), alone_(graph.rows), row_to_(batch.size + 1),
        search_(graph.columns), arc_of_(graph.rows + 1), row_of_(graph.columns) {
    cost_ = costs_.get(batch.size);
    price_ = prices_.get(graph.columns);
    matched_ = arcs_.get(graph.columns);
    for (int64_t i = 0; i < graph.rows; ++i)
      std::fill(row_to_.begin() + graph.start[i], row_to_.begin() + graph.start[i + 1], int(i));
    row_to_[none_] = int(graph.rows);
  }

  /// Solves instances first, ..., first + count - 1; count is at most W.
  void solve(int64_t first, int count) {
    read(first, count);
    reduce_columns();
    reduce_rows();
    for (int lane = 0; lane < count; ++lane) {
      T* out = batch_.solution + (first + lane) * batch_.size;
      std::fill_n(out, batch_.size, T(0));
      const bool solved = valid_[lane] && complete(lane);
      batch_.status[first + lane] = !solved;
      if (!solved) continue;
      for (int64_t i = 0; i < graph_.rows; ++i)
        if (arc_of_[i] >= 0) out[graph_.edge[arc_of_[i]]] = T(1);
    }
  }

 private:
  const Graph& graph_;
  const Batch<T>& batch_;
  const int64_t none_;  // the number of no arc; it leaves a row more than there are
  simd::Buffer<Double> costs_, prices_;
  simd::Buffer<Long> arcs_;
  Double *cost_, *price_;                 // of arcs, of columns
  Long* matched_;                         // the arc along which a column is matched
  std::vector<uint8_t> bidding_, alone_;  // of each row a bit for each lane: it has no column; it is better off without
  std::vector<int> row_to_;               // the row that an arc leaves
  bool valid_[W];

  // Of the lane that is completed.
  Search search_;
  std::vector<int> arc_of_, row_of_;  // the arc that a row is matched along, the row that a column is matched with
  std::vector<Reached> closed_;

  void read(int64_t first, int count) {
    for (int lane = 0; lane < W; ++lane) {
      const int64_t at = (first + (lane < count ? lane : 0)) * batch_.size;
      valid_[lane] = true;
      for (int64_t k = 0; k < batch_.size; ++k) {
        const int64_t e = at + graph_.edge[k];
        double cost = batch_.largest ? -double(batch_.scores[e]) : double(batch_.scores[e]);
        if (batch_.mask && !batch_.mask[e]) cost = kInfinity;
        valid_[lane] &= cost > -kInfinity;
        cost_[k][lane] = cost;
      }
    }
  }

  /// The least cost of each column as its price, where no column stays alone.
  void reduce_columns() {
    std::fill_n(price_, graph_.columns, broadcast<Double>(batch_.perfect ? kInfinity : 0));
    if (!batch_.perfect) return;
    for (int64_t k = 0; k < batch_.size; ++k) {
      Double& price = price_[graph_.column[k]];
      price = simd::min(price, cost_[k]);
    }
    for (int64_t j = 0; j < graph_.columns; ++j) price_[j] = price_[j] < kInfinity ? price_[j] : Double{};
  }

  /// Gives rows their best column at a price that leaves the second best as good; the row that had it bids again.
  void reduce_rows() {
    std::fill_n(matched_, graph_.columns, broadcast<Long>(none_));
    std::fill(alone_.begin(), alone_.end(), 0);
    std::fill(bidding_.begin(), bidding_.end(), uint8_t((1 << W) - 1));
    for (int sweep = 0; sweep < kSweeps; ++sweep)
      for (int row = 0; row < int(graph_.rows); ++row)
        if (bidding_[row]) bid(row);
  }

  /// A row that no column is worth its price to stays alone. One that could only take a column at the price that another row
  /// gives for it does not.
  void bid(int row) {
    const int begin = graph_.start[row], end = graph_.start[row + 1];
    const Double infinite = broadcast<Double>(kInfinity);
    const Long none = broadcast<Long>(none_);
    Double first = infinite, second = infinite;
    Long best = none, displaced = none, bids = ((broadcast<Long>(bidding_[row]) >> simd::iota<Long>()) & 1) != 0;
    for (int k = begin; k < end; ++k) {
      const Double reduced = cost_[k] - price_[graph_.column[k]];
      best = reduced < first ? broadcast<Long>(k) : best;
      second = simd::min(second, simd::max(first, reduced));
      first = simd::min(first, reduced);
    }
    if (!batch_.perfect) {
      alone_[row] |= uint8_t(simd::bits(bids & (first >= Double{})));
      bids &= first < Double{};
      second = simd::min(second, Double{});
    }
    for (int k = begin; k < end; ++k) {
      Double& price = price_[graph_.column[k]];
      Long& matched = matched_[graph_.column[k]];
      const Double lower = price - (second - first);
      const Long dearer = (lower < price) & (lower > -infinite), taken = bids & (best == k) & (dearer | (matched == none));
      displaced = taken ? matched : displaced;
      matched = taken ? broadcast<Long>(k) : matched;
      price = taken & dearer ? lower : price;
    }
    int64_t arcs[W];
    __builtin_memcpy(arcs, &displaced, sizeof(arcs));
    unsigned lanes = bidding_[row];
    for (bidding_[row] = 0; lanes; lanes &= lanes - 1) bidding_[row_to_[arcs[__builtin_ctz(lanes)]]] |= lanes & -lanes;
  }

  /// Matches the rows of a lane that are left. False if there is no matching.
  bool complete(int lane) {
    for (int64_t i = 0; i < graph_.rows; ++i) arc_of_[i] = alone_[i] >> lane & 1 ? kAlone : kNone;
    for (int64_t j = 0; j < graph_.columns; ++j) {
      const int64_t arc = matched_[j][lane];
      row_of_[j] = arc == none_ ? kNone : row_to_[arc];
      arc_of_[row_to_[arc]] = int(arc);
    }
    for (int64_t i = 0; i < graph_.rows; ++i)
      if (arc_of_[i] == kNone && !augment(int(i), lane)) return false;
    return true;
  }

  /// Adds a row to the matching along a shortest path, which ends at a free column, or at a row that then stays alone. False if
  /// there is none.
  bool augment(int root, int lane) {
    search_.clear(), closed_.clear();
    Reached end{kInfinity, kNone};
    int row = root, alone = kNone;
    for (double base = 0;;) {  // `base`: the distance of the row, less its dual
      for (int k = graph_.start[row]; k < graph_.start[row + 1]; ++k) {
        const int j = graph_.column[k];
        const double distance = base + (cost_[k][lane] - price_[j][lane]);
        const bool ends = search_.reach(j, k, distance, end.distance) & (row_of_[j] == kNone);
        end.distance = ends ? distance : end.distance;
        end.column = ends ? j : end.column;
      }
      if (!batch_.perfect && base < end.distance) end = {base, kNone}, alone = row;
      const Reached next = search_.next(end.distance);
      if (next.column == kNone) break;
      closed_.push_back(next);
      row = row_of_[next.column];
      base = next.distance - (cost_[arc_of_[row]][lane] - price_[next.column][lane]);
    }
    if (!(end.distance < kInfinity)) return false;
    for (const Reached& one : closed_) price_[one.column][lane] += one.distance - end.distance;
    flip(root, end.column, alone);
    return true;
  }

  /// Matches along the path that ends at a column, or if there is none, at the row `alone`.
  void flip(int root, int column, int alone) {
    if (column == kNone) {
      const int arc = arc_of_[alone];
      arc_of_[alone] = kAlone;
      if (alone == root) return;
      column = graph_.column[arc];
    }
    for (int row = kNone; row != root;) {
      const int arc = search_.from(column);
      row = row_to_[arc];
      const int before = arc_of_[row];
      arc_of_[row] = arc, row_of_[column] = row;
      if (before >= 0) column = graph_.column[before];
    }
  }
};

/// Returns the number of instances that have a status, or -1 if memory ran out.
template <class T>
int64_t solve_batch(const Graph& graph, Batch<T> batch, int threads) {
  const auto own = batches::with_status(batch);
  const double nanoseconds = W * (500 + 12.0 * double(batch.size));
  const int64_t groups = (batch.count + W - 1) / W;
  const bool done = parallel::for_parts(groups, nanoseconds, threads, [&](int64_t begin, int64_t end) {
    Matcher<T> matcher(graph, batch);
    const int64_t last = std::min(batch.count, end * W);
    for (int64_t b = begin * W; b < last; b += W) matcher.solve(b, int(std::min<int64_t>(W, last - b)));
  });
  return batches::unsolved(batch, done);
}

}  // namespace

#define SOLVERLAYERS_BIPARTITE(NAME, T)                                                                                      \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_bipartite_##NAME(                                   \
      const T* scores, const uint8_t* mask, const Graph* graph, int64_t count, int64_t size, int perfect, int largest,       \
      T* solution, uint8_t* status, int threads) {                                                                           \
    return solve_batch(*graph, Batch<T>{scores, mask, count, size, perfect != 0, largest != 0, solution, status}, threads);  \
  }

SOLVERLAYERS_BIPARTITE(float32, float)
SOLVERLAYERS_BIPARTITE(float64, double)
