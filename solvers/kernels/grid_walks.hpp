// Paths of cells, read off the distances in a batch of grids.
//
// A path is read backwards from the target. The next cell is the neighbour of least distance; of equal ones, the one with the
// fewest steps to a cell with a nearer neighbour, and then the first in row-major order. Such steps are needed where cells cost
// nothing (or too little to change the sum), so that no neighbour is nearer; then a breadth-first search crosses the cells of
// equal distance. Distance and then steps strictly fall, so no cell is met twice, and cells of a path that are not
// consecutive are not neighbours.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "grid_sweeps.hpp"
#include "simd.hpp"

namespace grid_path {

/// Walks from the targets of as many instances at a time as there are lanes.
template <class T, int kNeighbours>
class Walker {
 public:
  Walker(const Batch<T>& batch, const Layout<kNeighbours>& layout) : batch_(batch), layout_(layout) {}

  /// Marks the paths of instances first, ..., first + count - 1, with `distances` by padded number and lane, and writes their
  /// status. All lanes walk abreast, a step each, so that the processor has independent work.
  void mark_paths(int64_t first, int count, unsigned invalid, const T* distances) {
    first_ = first;
    distance_ = distances;
    const int64_t n = batch_.cells();
    std::fill_n(batch_.solution + first * n, count * n, T(0));
    Walk walks[kSize];
    int left = 0;
    for (int lane = 0; lane < count; ++lane) {
      const int64_t target = batch_.target_of(first + lane);
      const Place place{layout_.padded(target), target};
      const bool reached = distance(place.padded, lane) < std::numeric_limits<T>::infinity();
      const bool valid = !(invalid >> lane & 1);
      batch_.status[first + lane] = !valid ? kInvalid : reached ? kSolved : kUnreachable;
      if (valid && reached) walks[left++] = Walk{lane, place, place};
    }
    while (left) {
      for (int i = 0; i < left;) {
        if (advance(walks[i])) ++i;
        else walks[i] = walks[--left];
      }
    }
  }

 private:
  static constexpr int kSize = simd::kLanes<T>;

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
  const Layout<kNeighbours>& layout_;
  int64_t first_ = 0;
  const T* distance_ = nullptr;
  simd::Buffer<uint8_t> seen_memory_;
  simd::Buffer<Found> queue_memory_;

  T distance(int64_t place, int lane) const { return distance_[place * kSize + lane]; }

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
    const T* own = distance_ + here.padded * kSize + lane;
    const auto bits = [&](int64_t step) {
      Bits out;
      __builtin_memcpy(&out, own + step * kSize, sizeof(T));
      return out;
    };
    Bits least = bits(layout_.step[0]);
    int64_t best = 0;
#pragma GCC unroll 8
    for (int k = 1; k < kNeighbours; ++k) {
      const Bits other = bits(layout_.step[k]);
      const bool less = other < least;
      best = less ? k : best;
      least = less ? other : least;
    }
    next = Place{here.padded + layout_.step[best], here.cell + layout_.cell_step[best]};
    return least < bits(0);
  }

  /// `walk.here` has no nearer neighbour: finds the equal beside it that has one, which is all there is to do on most plateaus.
  /// Returns false where the place before had another equal to go to, or there is none a step away.
  bool step_over(const Walk& walk, Place& next) {
    const T level = distance(walk.here.padded, walk.lane);
    int equals = 0;
    for (int64_t step : layout_.step) equals += distance(walk.before.padded + step, walk.lane) == level;
    if (walk.before.cell != walk.here.cell && equals != 1) return false;
    const int64_t end = batch_.source_of(first_ + walk.lane);
    Place nearer;
    for (int k = 0; k < kNeighbours; ++k) {
      next = Place{walk.here.padded + layout_.step[k], walk.here.cell + layout_.cell_step[k]};
      if (distance(next.padded, walk.lane) != level) continue;
      if (next.cell == end || descend(next, walk.lane, nearer)) return true;
    }
    return false;
  }

  /// `walk.here` has no nearer neighbour: puts in its place the nearest of its equals that has one (or is the source), in steps
  /// counted from the place before, and marks the way.
  void cross_plateau(Walk& walk) {
    Found* queue = queue_memory_.get(batch_.cells());
    uint8_t* seen = seen_memory_.get(layout_.size());
    std::fill_n(seen, layout_.size(), uint8_t(0));
    const T level = distance(walk.here.padded, walk.lane);
    const int64_t end = batch_.source_of(first_ + walk.lane);
    int64_t found = 0;
    const auto push = [&](Place place, int64_t from) {
      if (seen[place.padded] || distance(place.padded, walk.lane) != level) return;
      seen[place.padded] = 1;
      queue[found++] = Found{place, from};
    };
    const auto push_neighbours = [&](Place place, int64_t from) {
      for (int k = 0; k < kNeighbours; ++k) push(Place{place.padded + layout_.step[k], place.cell + layout_.cell_step[k]}, from);
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
};

}  // namespace grid_path
