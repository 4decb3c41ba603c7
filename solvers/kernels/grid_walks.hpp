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
  Walker(const Batch<T>& batch, const Layout<kNeighbours>& layout) : batch_(batch), layout_(layout) {
    for (int k = 0; k < kNeighbours; ++k) step_[k] = layout.step[k] * kSize;
  }

  /// Marks the paths of instances first, ..., first + count - 1, with `distances` by padded number and lane, and writes their
  /// status. All lanes walk abreast, a step each, so that the processor has independent work.
  void mark_paths(int64_t first, int count, unsigned invalid, const T* distances) {
    distances_ = distances;
    const int64_t n = batch_.cells();
    T* solution = batch_.solution + first * n;
    std::fill_n(solution, count * n, T(0));
    Walk walks[kSize];
    int left = 0;
    for (int lane = 0; lane < count; ++lane, solution += n) {
      const auto distance = [&](int64_t cell) { return distances + layout_.padded(cell) * kSize + lane; };
      const int64_t target = batch_.target_of(first + lane);
      const Place place{distance(target), solution + target};
      const bool reached = *place.distance < std::numeric_limits<T>::infinity();
      const bool valid = !(invalid >> lane & 1);
      batch_.status[first + lane] = !valid ? kInvalid : reached ? kSolved : kUnreachable;
      if (valid && reached) walks[left++] = Walk{place, place, distance(batch_.source_of(first + lane))};
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
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

  /// A cell of one instance, or one of the border, which has no mark.
  struct Place {
    const T* distance;
    T* mark;
  };

  struct Walk {
    Place here, before;  // `before` was the last place; the same as `here` at the target
    const T* source;
  };

  struct Found {
    Place place;
    int64_t from;  // where in the queue the place before it is; -1 for a first one
  };

  const Batch<T>& batch_;
  const Layout<kNeighbours>& layout_;
  int64_t step_[kNeighbours];  // from the distance of a place to those of its neighbours
  const T* distances_ = nullptr;
  simd::Buffer<uint8_t> seen_memory_;
  simd::Buffer<Found> queue_memory_;

  /// Marks the place and goes a step towards the source; returns whether there was one to go.
  bool advance(Walk& walk) {
    *walk.here.mark = 1;
    if (walk.here.distance == walk.source) return false;
    Place next;
    if (!descend(walk.here, next) && !step_over(walk, next)) {
      cross_plateau(walk);
      return true;
    }
    walk.before = walk.here;
    walk.here = next;
    return true;
  }

  Place beside(Place place, int64_t k) const { return {place.distance + step_[k], place.mark + layout_.cell_step[k]}; }

  // Distances are not negative, so they compare as their bits do: without branches, which nobody could foresee.

  static Bits bits(Place place, int64_t step = 0) {
    Bits out;
    __builtin_memcpy(&out, place.distance + step, sizeof(T));
    return out;
  }

  /// Which neighbours are at distance `level`, a bit each.
  unsigned equals(Place place, Bits level) const {
    unsigned found = 0;
#pragma GCC unroll 8
    for (int k = 0; k < kNeighbours; ++k) found |= unsigned(bits(place, step_[k]) == level) << k;
    return found;
  }

  /// Finds the neighbour of least distance; returns whether it is nearer than `here`.
  bool descend(Place here, Place& next) const {
    // With its number behind its bits, the least neighbour is a minimum of integers.
    using Key = std::conditional_t<sizeof(T) == 8, unsigned __int128, uint64_t>;
    Key least = Key(bits(here, step_[0])) << 3;
#pragma GCC unroll 8
    for (unsigned k = 1; k < kNeighbours; ++k) least = std::min(least, Key(bits(here, step_[k])) << 3 | k);
    next = beside(here, int64_t(least & 7));
    return least >> 3 < bits(here);
  }

  // What follows is rare, and would keep `advance` from having its numbers in registers.

  /// `walk.here` has no nearer neighbour: finds the equal beside it that has one, which is all there is to do on most plateaus.
  /// Returns false where the place before had another equal to go to, or there is none a step away.
  __attribute__((noinline)) bool step_over(const Walk& walk, Place& next) const {
    const Bits level = bits(walk.here);
    const unsigned others = equals(walk.before, level);
    if (walk.before.distance != walk.here.distance && (others & (others - 1))) return false;
    Place nearer;
    for (unsigned left = equals(walk.here, level); left; left &= left - 1) {
      next = beside(walk.here, __builtin_ctz(left));
      if (next.distance == walk.source || descend(next, nearer)) return true;
    }
    return false;
  }

  /// `walk.here` has no nearer neighbour: puts in its place the nearest of its equals that has one (or is the source), in steps
  /// counted from the place before, and marks the way.
  __attribute__((noinline)) void cross_plateau(Walk& walk) {
    Found* queue = queue_memory_.get(batch_.cells() + 1);  // one that is known already is written behind the others
    uint8_t* seen = seen_memory_.get(layout_.size());
    std::fill_n(seen, layout_.size(), uint8_t(0));
    const Bits level = bits(walk.here);
    int64_t found = 0;
    const auto push = [&](Place place, int64_t from) {
      queue[found] = Found{place, from};
      uint8_t& known = seen[(place.distance - distances_) / kSize];
      found += !known;
      known = 1;
    };
    const auto push_neighbours = [&](Place place, int64_t from) {
      for (unsigned left = equals(place, level); left; left &= left - 1) push(beside(place, __builtin_ctz(left)), from);
    };
    *walk.here.mark = 0;
    if (walk.before.distance == walk.here.distance) push(walk.here, -1);
    else push_neighbours(walk.before, -1);
    int64_t at = 0;
    Place nearer;
    while (queue[at].place.distance != walk.source && !descend(queue[at].place, nearer)) {  // the source is found at the latest
      push_neighbours(queue[at].place, at);
      ++at;
    }
    walk.here = queue[at].place;
    for (; at >= 0; at = queue[at].from) *queue[at].place.mark = 1;
  }
};

}  // namespace grid_path
