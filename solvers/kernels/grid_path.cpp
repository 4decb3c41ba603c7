// Cheapest paths of cells in a batch of grids.
//
// Idea: one grid in each SIMD lane. The distances are the least solution of d[v] = c[v] + min d[neighbours of v], found by
// relaxing row after row, downwards and upwards in turn, until nothing changes. Relaxing a row settles it given the rows above
// and below: a path inside a row goes one way, so a pass to the right and one to the left are enough. A row is left out as
// long as the rows beside it have not changed. What is done does not depend on the costs, so lanes never wait for each other.
//
// The path is read backwards from the target. The next cell is the neighbour of least distance; of equal ones, the one with the
// fewest steps to a cell with a nearer neighbour, and then the first in row-major order. Such steps are needed where cells cost
// nothing (or too little to change the sum), so that no neighbour is nearer; then a breadth-first search crosses the cells of
// equal distance. Distance and then steps strictly fall, so no cell is met twice, and cells of a path that are not
// consecutive are not neighbours.
//
// Rounding is monotone, so the least solution is unique and does not depend on the order of relaxing.
// Source: fast sweeping, Zhao, "A fast sweeping method for eikonal equations" (2005), with whole rows for cells.
#include <algorithm>
#include <limits>

#include "lanes.hpp"
#include "parallel.hpp"
#include "samples.hpp"
#include "simd.hpp"

namespace {

enum Status : uint8_t { kSolved = 0, kUnreachable = 1, kInvalid = 2 };

template <class T>
struct Batch {
  const T* cost;          // (count, height, width)
  const uint8_t* mask;    // the same shape, or null
  const int64_t* source;  // (count), row-major cell numbers; null: the first cell
  const int64_t* target;  // (count); null: the last cell
  int64_t count, height, width;
  bool gains;       // whether `cost` holds gains; a cell costs the opposite, or nothing where that is negative
  T* solution;      // the shape of cost
  T* distance;      // the shape of cost, or null
  uint8_t* status;  // (count)

  int64_t cells() const { return height * width; }
  int64_t source_of(int64_t b) const { return source ? source[b] : 0; }
  int64_t target_of(int64_t b) const { return target ? target[b] : cells() - 1; }
};

/// Solves as many instances at a time as there are lanes. `kNeighbours` is 4 or 8.
template <class T, int kNeighbours>
class Sweeper {
 public:
  using V = simd::Vector<T>;
  static constexpr int kSize = simd::kLanes<T>;

  explicit Sweeper(const Batch<T>& batch) : batch_(batch), width_(batch.width), height_(batch.height), pitch_(batch.width + 2) {
    const int64_t padded = (height_ + 2) * pitch_;
    cost_ = cost_memory_.get(batch.cells());
    distance_ = distance_memory_.get(padded);
    row_ = row_memory_.get(pitch_);
    stale_ = stale_memory_.get(height_ + 2);
    int k = 0;
    for (int64_t down = -1; down <= 1; ++down) {
      for (int64_t right = -1; right <= 1; ++right) {
        const bool straight = (down == 0) != (right == 0);
        if (!straight && (kNeighbours == 4 || down == 0)) continue;
        step_[k] = down * pitch_ + right;
        cell_step_[k++] = down * width_ + right;
      }
    }
  }

  /// Solves instances first, ..., first + count - 1; count is at most kSize.
  void solve(int64_t first, int count) {
    first_ = first;
    count_ = count;
    const unsigned invalid = load_costs();
    start();
    relax();
    trace(invalid);
    if (batch_.distance) write_distances();
  }

 private:
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  struct Place {
    int64_t padded, cell;  // its number with and without the border
  };

  struct Walk {
    int lane;
    Place here, before;  // `before` was the last place; the same as `here` at the target
  };

  struct Found {
    Place place;
    int64_t from;  // where in the queue the place before it is; -1 for a first one
  };

  const Batch<T>& batch_;
  const int64_t width_, height_, pitch_;
  int64_t first_ = 0;
  int count_ = 0;
  bool to_the_right_ = false;  // which way the last relaxed row went first
  int64_t step_[kNeighbours], cell_step_[kNeighbours];  // to the neighbours, in row-major order; in padded and in plain numbers
  V *cost_, *distance_, *row_;  // the distances have a border of infinities
  uint8_t* stale_;              // rows that a change beside them may have put out of date
  simd::Buffer<V> cost_memory_, distance_memory_, row_memory_;
  simd::Buffer<uint8_t> stale_memory_, seen_memory_;
  simd::Buffer<Found> queue_memory_;

  int64_t padded(int64_t cell) const { return (cell / width_ + 1) * pitch_ + cell % width_ + 1; }
  T& distance(int64_t place, int lane) { return reinterpret_cast<T*>(distance_)[place * kSize + lane]; }

  /// Returns the lanes with a cost that is none (negative, if gains are not clipped, or NaN), one bit each. A cell outside the
  /// mask costs infinity.
  unsigned load_costs() {
    const int64_t n = batch_.cells(), first = first_ * n;
    const T sign = batch_.gains ? -1 : 1;
    const uint8_t* mask = batch_.mask ? batch_.mask + first : nullptr;
    lanes::gather_allowed(batch_.cost + first, mask, n, n, count_, sign * kInfinity, cost_);
    const V least = simd::broadcast<V>(batch_.gains ? -kInfinity : T(0)), signs = simd::broadcast<V>(sign);
    simd::Mask<V> valid = ~simd::Mask<V>{};
    for (int64_t k = 0; k < n; ++k) {
      const V cost = cost_[k] * signs;
      valid &= cost >= least;
      cost_[k] = simd::select(cost > V{}, cost, V{});  // relaxing ends only without negative costs
    }
    return ~simd::bits(valid);
  }

  /// All distances infinite but those of the sources.
  void start() {
    std::fill_n(distance_, (height_ + 2) * pitch_, simd::broadcast<V>(kInfinity));
    std::fill_n(stale_, height_ + 2, uint8_t(0));
    for (int lane = 0; lane < kSize; ++lane) {
      const int64_t cell = batch_.source_of(first_ + (lane < count_ ? lane : 0));
      distance(padded(cell), lane) = cost_[cell][lane];
      const int64_t row = cell / width_ + 1;
      stale_[row - 1] = stale_[row] = stale_[row + 1] = 1;
    }
  }

  void relax() {
    for (bool busy = true; busy;) {
      busy = false;
      for (int64_t row = 1; row <= height_; ++row) busy |= visit(row);
      for (int64_t row = height_; row >= 1; --row) busy |= visit(row);
    }
  }

  /// Relaxes a row unless it is up to date; returns whether it was not.
  bool visit(int64_t row) {
    if (!stale_[row]) return false;
    stale_[row] = 0;
    to_the_right_ = !to_the_right_;
    const bool fell = to_the_right_ ? relax_row<1>(row) : relax_row<-1>(row);
    if (fell) stale_[row - 1] = stale_[row + 1] = 1;
    return true;
  }

  /// Returns whether a distance fell. The first pass goes the way of `kStep`, the second comes back. The next row starts the
  /// other way, with the cells that are finished first, so that the passes overlap in the processor.
  template <int kStep>
  bool relax_row(int64_t row) {
    const V *up = distance_ + (row - 1) * pitch_, *down = up + 2 * pitch_, *cost = cost_ + (row - 1) * width_ - 1;
    V* own = distance_ + row * pitch_;
    const int64_t first = kStep > 0 ? 1 : width_, end = kStep > 0 ? width_ + 1 : 0;
    V before = simd::min(up[first - kStep], down[first - kStep]), beside = simd::min(up[first], down[first]);
    V reached = simd::broadcast<V>(kInfinity);
    for (int64_t q = first; q != end; q += kStep) {
      const V after = simd::min(up[q + kStep], down[q + kStep]);
      const V nearest = kNeighbours == 8 ? simd::min(simd::min(before, after), beside) : beside;
      row_[q] = reached = simd::min(simd::min(own[q], nearest + cost[q]), reached + cost[q]);
      before = beside;
      beside = after;
    }
    simd::Mask<V> fell{};
    for (int64_t q = end - kStep; q != first - kStep; q -= kStep) {
      reached = simd::min(row_[q], reached + cost[q]);
      fell |= reached < own[q];
      own[q] = reached;
    }
    return simd::any(fell);
  }

  /// Marks the paths. All lanes walk abreast, a step each, so that the processor has independent work.
  void trace(unsigned invalid) {
    const int64_t n = batch_.cells();
    std::fill_n(batch_.solution + first_ * n, count_ * n, T(0));
    Walk walks[kSize];
    int left = 0;
    for (int lane = 0; lane < count_; ++lane) {
      const int64_t target = batch_.target_of(first_ + lane);
      const Place place{padded(target), target};
      const bool reached = distance(place.padded, lane) < kInfinity;
      const bool valid = !(invalid >> lane & 1);
      batch_.status[first_ + lane] = !valid ? kInvalid : reached ? kSolved : kUnreachable;
      if (valid && reached) walks[left++] = Walk{lane, place, place};
    }
    while (left) {
      for (int i = 0; i < left;) {
        if (advance(walks[i])) ++i;
        else walks[i] = walks[--left];
      }
    }
  }

  /// Marks the place and goes a step towards the source; returns whether there was one to go.
  bool advance(Walk& walk) {
    mark(walk.lane, walk.here);
    if (walk.here.cell == batch_.source_of(first_ + walk.lane)) return false;
    Place next;
    if (!descend(walk.here, walk.lane, next) && !step_over(walk, next)) {
      cross_plateau(walk);
      return true;
    }
    walk.before = walk.here;
    walk.here = next;
    return true;
  }

  void mark(int lane, Place place, T value = 1) { batch_.solution[(first_ + lane) * batch_.cells() + place.cell] = value; }

  /// Finds the neighbour of least distance; returns whether it is nearer than `here`.
  bool descend(Place here, int lane, Place& next) const {
    // Non-negative floats sort as their bits do, and integers are compared without branches.
    using Bits = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
    const T* own = reinterpret_cast<const T*>(distance_) + here.padded * kSize + lane;
    const auto bits = [&](int64_t step) {
      Bits out;
      __builtin_memcpy(&out, own + step * kSize, sizeof(T));
      return out;
    };
    Bits least = bits(step_[0]);
    int64_t best = 0;
#pragma GCC unroll 8
    for (int k = 1; k < kNeighbours; ++k) {
      const Bits other = bits(step_[k]);
      const bool less = other < least;
      best = less ? k : best;
      least = less ? other : least;
    }
    next = Place{here.padded + step_[best], here.cell + cell_step_[best]};
    return least < bits(0);
  }

  /// `walk.here` has no nearer neighbour: finds the equal beside it that has one, which is all there is to do on most plateaus.
  /// Returns false where the place before had another equal to go to, or there is none a step away.
  bool step_over(const Walk& walk, Place& next) {
    const T level = distance(walk.here.padded, walk.lane);
    int equals = 0;
    for (int64_t step : step_) equals += distance(walk.before.padded + step, walk.lane) == level;
    if (walk.before.cell != walk.here.cell && equals != 1) return false;
    const int64_t end = batch_.source_of(first_ + walk.lane);
    Place nearer;
    for (int k = 0; k < kNeighbours; ++k) {
      next = Place{walk.here.padded + step_[k], walk.here.cell + cell_step_[k]};
      if (distance(next.padded, walk.lane) != level) continue;
      if (next.cell == end || descend(next, walk.lane, nearer)) return true;
    }
    return false;
  }

  /// `walk.here` has no nearer neighbour: puts in its place the nearest of its equals that has one (or is the source), in steps
  /// counted from the place before, and marks the way.
  void cross_plateau(Walk& walk) {
    const int64_t padded_size = (height_ + 2) * pitch_;
    Found* queue = queue_memory_.get(batch_.cells());
    uint8_t* seen = seen_memory_.get(padded_size);
    std::fill_n(seen, padded_size, uint8_t(0));
    const T level = distance(walk.here.padded, walk.lane);
    const int64_t end = batch_.source_of(first_ + walk.lane);
    int64_t found = 0;
    const auto push = [&](Place place, int64_t from) {
      if (seen[place.padded] || distance(place.padded, walk.lane) != level) return;
      seen[place.padded] = 1;
      queue[found++] = Found{place, from};
    };
    const auto push_neighbours = [&](Place place, int64_t from) {
      for (int k = 0; k < kNeighbours; ++k) push(Place{place.padded + step_[k], place.cell + cell_step_[k]}, from);
    };
    mark(walk.lane, walk.here, 0);
    if (walk.before.cell == walk.here.cell) push(walk.here, -1);
    else push_neighbours(walk.before, -1);
    int64_t at = 0;
    Place nearer;
    while (queue[at].place.cell != end && !descend(queue[at].place, walk.lane, nearer)) {  // the source is found at the latest
      push_neighbours(queue[at].place, at);
      ++at;
    }
    walk.here = queue[at].place;
    for (; at >= 0; at = queue[at].from) mark(walk.lane, queue[at].place);
  }

  /// The distances, none of them greater than the target's: a potential that proves the path to be optimal.
  void write_distances() {
    const int64_t n = batch_.cells();
    for (int lane = 0; lane < count_; ++lane) {
      T* out = batch_.distance + (first_ + lane) * n;
      const T furthest = distance(padded(batch_.target_of(first_ + lane)), lane);
      for (int64_t cell = 0; cell < n; ++cell) out[cell] = std::min(furthest, distance(padded(cell), lane));
    }
  }
};

template <class T, int kNeighbours>
bool solve_batch(const Batch<T>& batch, int64_t chunk, int threads) {
  constexpr int size = simd::kLanes<T>;
  return parallel::parallel_for((batch.count + chunk - 1) / chunk, threads, [&](int64_t k) {
    Sweeper<T, kNeighbours> sweeper(batch);
    const int64_t last = std::min(batch.count, (k + 1) * chunk);
    for (int64_t b = k * chunk; b < last; b += size) sweeper.solve(b, int(std::min<int64_t>(size, last - b)));
  });
}

constexpr double kNanoseconds = 4;  // for one cell of one instance, about

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve(const Batch<T>& batch, int neighbours, int threads) {
  const double work = double(batch.count) * double(batch.cells()) * kNanoseconds;
  if (work < 200e3) threads = 1;
  int64_t chunk = threads > 1 ? (batch.count + 4 * threads - 1) / (4 * threads) : batch.count;
  chunk = std::max<int64_t>(1, (chunk + simd::kLanes<T> - 1) / simd::kLanes<T>) * simd::kLanes<T>;
  const bool done = neighbours == 8 ? solve_batch<T, 8>(batch, chunk, threads) : solve_batch<T, 4>(batch, chunk, threads);
  return done ? batch.count - std::count(batch.status, batch.status + batch.count, uint8_t(kSolved)) : -1;
}

/// The mean of paths at samples of the scores; `batch` has neither costs nor solutions yet.
template <int kNeighbours>
int mean_of_paths(const samples::Samples& all, const Batch<float>& batch) {
  constexpr int size = simd::kLanes<float>;
  const int64_t together = samples::some(all.width, size);
  return samples::mean_of_solutions(
      all, together, double(all.width) * kNanoseconds,
      [&](int64_t, int64_t first, int64_t count, const float* scores, float* solution) {
        simd::Buffer<uint8_t> status;
        Batch<float> some = batch;
        some.cost = scores, some.solution = solution, some.count = count, some.status = status.get(count);
        if (some.mask) some.mask += first * all.width;
        if (some.source) some.source += first;
        if (some.target) some.target += first;
        Sweeper<float, kNeighbours> sweeper(some);
        for (int64_t b = 0; b < count; b += size) sweeper.solve(b, int(std::min<int64_t>(size, count - b)));
        return std::count(some.status, some.status + count, uint8_t(kSolved)) == count;
      });
}

}  // namespace

#define SOLVERLAYERS_GRID_PATH(NAME, T)                                                                                       \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_grid_path_##NAME(                                    \
      const T* cost, const uint8_t* mask, const int64_t* source, const int64_t* target, int64_t count, int64_t height,        \
      int64_t width, int neighbours, int gains, T* solution, T* distance, uint8_t* status, int threads) {                     \
    const Batch<T> batch{cost, mask, source, target, count, height, width, gains != 0, solution, distance, status};           \
    return solve(batch, neighbours, threads);                                                                                 \
  }

SOLVERLAYERS_GRID_PATH(float32, float)
SOLVERLAYERS_GRID_PATH(float64, double)

extern "C" __attribute__((visibility("default"))) int solverlayers_grid_path_mean(
    const samples::Samples* all, const uint8_t* mask, const int64_t* source, const int64_t* target, int64_t height,
    int64_t width, int64_t neighbours) {
  const Batch<float> batch{nullptr, mask, source, target, 0, height, width, true, nullptr, nullptr, nullptr};
  return neighbours == 8 ? mean_of_paths<8>(*all, batch) : mean_of_paths<4>(*all, batch);
}
