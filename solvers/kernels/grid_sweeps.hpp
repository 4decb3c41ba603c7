// Distances in a batch of grids with costs on the cells, one grid in each SIMD lane.
//
// The distances are the least solution of d[v] = c[v] + min d[neighbours of v], found by relaxing row after row, downwards and
// upwards in turn, until nothing changes. Relaxing a row settles it given the rows above and below: a path inside a row goes one
// way, so a pass to the right and one to the left are enough. A row is left out as long as the rows beside it have not changed.
// What is done does not depend on the costs, so lanes never wait for each other.
//
// Rounding is monotone, so the least solution is unique and does not depend on the order of relaxing.
// Source: fast sweeping, Zhao, "A fast sweeping method for eikonal equations" (2005), with whole rows for cells.
#pragma once

#include <algorithm>
#include <limits>

#include "lanes.hpp"
#include "path_costs.hpp"
#include "simd.hpp"

namespace grid_path {

enum Status : uint8_t { kSolved = 0, kUnreachable = 1, kInvalid = 2 };

template <class T>
struct Batch {
  const T* cost;          // (count, height, width)
  const uint8_t* mask;    // the same shape, or null
  const int64_t* source;  // (count), row-major cell numbers; null: the first cell
  const int64_t* target;  // (count); null: the last cell
  int64_t count, height, width;
  Reading reading;  // what `cost` holds
  T* solution;      // the shape of cost
  T* distance;      // the shape of cost, or null
  uint8_t* status;  // (count)

  int64_t cells() const { return height * width; }
  int64_t source_of(int64_t b) const { return source ? source[b] : 0; }
  int64_t target_of(int64_t b) const { return target ? target[b] : cells() - 1; }
};

/// Where cells and their neighbours lie in an array with a border around the grid. `kNeighbours` is 4 or 8.
template <int kNeighbours>
struct Layout {
  int64_t width, height, pitch;
  int64_t step[kNeighbours], cell_step[kNeighbours];  // to the neighbours, in row-major order; in padded and in plain numbers

  Layout(int64_t height, int64_t width) : width(width), height(height), pitch(width + 2) {
    int k = 0;
    for (int64_t down = -1; down <= 1; ++down) {
      for (int64_t right = -1; right <= 1; ++right) {
        const bool straight = (down == 0) != (right == 0);
        if (!straight && (kNeighbours == 4 || down == 0)) continue;
        step[k] = down * pitch + right;
        cell_step[k++] = down * width + right;
      }
    }
  }

  int64_t size() const { return (height + 2) * pitch; }
  int64_t padded(int64_t cell) const { return (cell / width + 1) * pitch + cell % width + 1; }
};

/// Distances of as many instances at a time as there are lanes.
template <class T, int kNeighbours>
class Sweeper {
 public:
  using V = simd::Vector<T>;
  static constexpr int kSize = simd::kLanes<T>;

  Sweeper(const Batch<T>& batch, const Layout<kNeighbours>& layout)
      : batch_(batch), layout_(layout), width_(layout.width), height_(layout.height), pitch_(layout.pitch) {
    cost_ = cost_memory_.get(batch.cells());
    distance_ = distance_memory_.get(layout.size());
    row_ = row_memory_.get(pitch_);
    stale_ = stale_memory_.get(height_ + 2);
  }

  /// Relaxes instances first, ..., first + count - 1; count is at most kSize. Returns the lanes with a cost that is none
  /// (NaN, or negative where nothing is clipped), one bit each.
  unsigned relax(int64_t first, int count) {
    first_ = first;
    count_ = count;
    const unsigned invalid = load_costs();
    start();
    for (bool busy = true; busy;) {
      busy = false;
      for (int64_t row = 1; row <= height_; ++row) busy |= visit(row);
      for (int64_t row = height_; row >= 1; --row) busy |= visit(row);
    }
    return invalid;
  }

  /// The distances by padded number and lane, infinite on the border.
  const T* distances() const { return reinterpret_cast<const T*>(distance_); }

 private:
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  const Batch<T>& batch_;
  const Layout<kNeighbours>& layout_;
  const int64_t width_, height_, pitch_;
  int64_t first_ = 0;
  int count_ = 0;
  bool to_the_right_ = false;   // which way the last relaxed row went first
  V *cost_, *distance_, *row_;  // the distances have a border of infinities
  uint8_t* stale_;              // rows that a change beside them may have put out of date
  simd::Buffer<V> cost_memory_, distance_memory_, row_memory_;
  simd::Buffer<uint8_t> stale_memory_;

  /// As `relax` returns; a cell outside the mask costs infinity.
  unsigned load_costs() {
    const int64_t n = batch_.cells(), first = first_ * n;
    const uint8_t* mask = batch_.mask ? batch_.mask + first : nullptr;
    lanes::gather_allowed(batch_.cost + first, mask, n, n, count_, forbidden<T>(batch_.reading), cost_);
    return ~simd::bits(make_costs(cost_, n, batch_.reading));
  }

  /// All distances infinite but those of the sources.
  void start() {
    std::fill_n(distance_, layout_.size(), simd::broadcast<V>(kInfinity));
    std::fill_n(stale_, height_ + 2, uint8_t(0));
    for (int lane = 0; lane < kSize; ++lane) {
      const int64_t cell = batch_.source_of(first_ + (lane < count_ ? lane : 0));
      distance_[layout_.padded(cell)][lane] = cost_[cell][lane];
      const int64_t row = cell / width_ + 1;
      stale_[row - 1] = stale_[row] = stale_[row + 1] = 1;
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
};

}  // namespace grid_path
