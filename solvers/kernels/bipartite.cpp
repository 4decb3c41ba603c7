// Matchings of least cost in a sparse bipartite graph that all instances share: perfect ones, or any.
//
// The method of the dense assignment kernel on lists of arcs: augmenting row reduction, then a shortest path of reduced costs for
// each row that is left, which here a heap finds. Prices start at 0 and only fall, so that those of columns that stay alone are
// 0, as they must be. Displaced rows wait in line, as in an auction, which takes a quarter less time in grids than to follow each
// chain to its end.
//
// Prices and distances are float64. A free column ends a search as soon as none is nearer, ties included.
// Source: R. Jonker, A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
// Computing 38 (1987).
#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "batches.hpp"

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kNone = -1, kAlone = -2;
constexpr int kDisplacements = 4;  // in row reduction, for each row: more of them crawl on costs with structure

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
  uint8_t* status;  // 1 where there is no perfect matching, or a cost is NaN or minus infinity
};

struct Reached {
  double distance;
  int column;
  bool operator<(const Reached& other) const { return distance > other.distance; }  // the nearest is on top of a heap
};

/// A row's least and second least reduced cost, and the arc of the least.
struct TwoBest {
  double first, second;
  int arc;
};

/// Solves one instance after the other, with workspace that is allocated once.
template <class T>
class Matcher {
 public:
  Matcher(const Graph& graph, const Batch<T>& batch)
      : graph_(graph), batch_(batch), cost_(batch.size), price_(graph.columns), distance_(graph.columns, kInfinity),
        arc_of_(graph.rows), row_of_(graph.columns), from_(graph.columns), row_to_(batch.size) {
    for (int64_t i = 0; i < graph.rows; ++i)
      std::fill(row_to_.begin() + graph.start[i], row_to_.begin() + graph.start[i + 1], int(i));
  }

  void solve(int64_t b) {
    T* out = batch_.solution + b * batch_.size;
    std::fill_n(out, batch_.size, T(0));
    batch_.status[b] = !(read(b) && match());
    if (batch_.status[b]) return;
    for (const int arc : arc_of_)
      if (arc >= 0) out[graph_.edge[arc]] = T(1);
  }

 private:
  const Graph& graph_;
  const Batch<T>& batch_;
  std::vector<double> cost_, price_, distance_;  // of arcs, of columns
  std::vector<int> arc_of_, row_of_;             // the arc that a row is matched along, the row that a column is matched with
  std::vector<int> from_;                        // the arc along which a search came to a column
  std::vector<int> row_to_;                      // the row that an arc leaves
  std::vector<int> free_, line_;                 // rows
  std::vector<int> touched_, closed_;            // columns
  std::vector<Reached> heap_;

  bool read(int64_t b) {
    const T* scores = batch_.scores + b * batch_.size;
    const uint8_t* mask = batch_.mask ? batch_.mask + b * batch_.size : nullptr;
    bool valid = true;
    for (int64_t k = 0; k < batch_.size; ++k) {
      const int32_t e = graph_.edge[k];
      cost_[k] = mask && !mask[e] ? kInfinity : batch_.largest ? -double(scores[e]) : double(scores[e]);
      valid &= cost_[k] > -kInfinity;
    }
    return valid;
  }

  bool match() {
    std::fill(arc_of_.begin(), arc_of_.end(), kNone);
    std::fill(row_of_.begin(), row_of_.end(), kNone);
    std::fill(price_.begin(), price_.end(), 0.0);
    if (!reduce_rows()) return false;
    for (const int row : free_)
      if (!augment(row)) return false;
    return true;
  }

  void pair(int row, int arc) {
    arc_of_[row] = arc;
    row_of_[graph_.column[arc]] = row;
  }

  /// Gives each row its best column at a price that leaves the second best as good, and has the row that it displaces wait in
  /// line, up to a number of times; rows that then are free are left. False if a row has no arc.
  bool reduce_rows() {
    int displacements = kDisplacements * int(graph_.rows);
    free_.clear();
    line_.resize(graph_.rows);
    std::iota(line_.begin(), line_.end(), 0);
    for (size_t next = 0; next < line_.size(); ++next) {
      const int row = line_[next];
      const TwoBest best = two_best(row);
      if (!batch_.perfect && best.first >= 0) {
        arc_of_[row] = kAlone;
        continue;
      }
      if (best.arc == kNone) return false;
      const int j = graph_.column[best.arc], displaced = row_of_[j];
      const double second = batch_.perfect ? best.second : std::min(best.second, 0.0), lower = price_[j] - (second - best.first);
      const bool dearer = lower < price_[j] && lower > -kInfinity;
      if (displaced != kNone && !(dearer && --displacements > 0)) {
        free_.push_back(row);
        continue;
      }
      if (dearer) price_[j] = lower;
      pair(row, best.arc);
      if (displaced == kNone) continue;
      arc_of_[displaced] = kNone;
      line_.push_back(displaced);
    }
    return true;
  }

  /// Without branches, which would be mispredicted more often than not.
  TwoBest two_best(int row) const {
    TwoBest best{kInfinity, kInfinity, kNone};
    for (int k = graph_.start[row]; k < graph_.start[row + 1]; ++k) {
      const double reduced = cost_[k] - price_[graph_.column[k]];
      best.arc = reduced < best.first ? k : best.arc;
      best.second = std::min(best.second, std::max(best.first, reduced));
      best.first = std::min(best.first, reduced);
    }
    return best;
  }

  /// Adds a row to the matching along a shortest path, which ends at a free column, or at a row that then stays alone. False if
  /// there is none.
  bool augment(int root) {
    heap_.clear(), closed_.clear(), touched_.clear();
    Reached end{kInfinity, kNone};
    int row = root, alone = kNone;
    for (double base = 0;;) {  // `base`: the distance of the row, less its dual
      for (int k = graph_.start[row]; k < graph_.start[row + 1]; ++k) {
        const int j = graph_.column[k];
        const double distance = base + (cost_[k] - price_[j]);
        if (!(distance < distance_[j] && distance < end.distance)) continue;
        if (distance_[j] == kInfinity) touched_.push_back(j);
        distance_[j] = distance, from_[j] = k;
        if (row_of_[j] == kNone) end = {distance, j};
        else heap_.push_back({distance, j}), std::push_heap(heap_.begin(), heap_.end());
      }
      if (!batch_.perfect && base < end.distance) end = {base, kNone}, alone = row;
      while (!heap_.empty() && heap_[0].distance > distance_[heap_[0].column]) pop();
      if (heap_.empty() || heap_[0].distance >= end.distance) break;
      const Reached next = heap_[0];
      pop();
      closed_.push_back(next.column);
      row = row_of_[next.column];
      base = next.distance - (cost_[arc_of_[row]] - price_[next.column]);
    }
    const bool found = end.distance < kInfinity;
    if (found) {
      for (const int j : closed_) price_[j] += distance_[j] - end.distance;
      flip(root, end.column, alone);
    }
    for (const int j : touched_) distance_[j] = kInfinity;
    return found;
  }

  void pop() {
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
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
      const int arc = from_[column];
      row = row_to_[arc];
      const int before = arc_of_[row];
      pair(row, arc);
      if (before >= 0) column = graph_.column[before];
    }
  }
};

/// Returns the number of instances that have a status, or -1 if memory ran out.
template <class T>
int64_t solve_batch(const Graph& graph, const Batch<T>& batch, int threads) {
  const double cost = 500 + 20.0 * double(batch.size);
  const bool done = parallel::for_parts(batch.count, cost, threads, [&](int64_t begin, int64_t end) {
    Matcher<T> matcher(graph, batch);
    for (int64_t b = begin; b < end; ++b) matcher.solve(b);
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
