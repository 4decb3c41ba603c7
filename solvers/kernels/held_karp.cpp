// Shortest tours through all cities, exactly, in a batch of cost matrices.
//
// Idea: one instance in each SIMD lane. For every set of cities and every city in it, the cheapest path that starts in city 0,
// visits the set and ends there. Sets are taken in the order of their bits, so a set comes after all its subsets. Each set
// hands its paths on to the sets with one city more: its own values are read once, and four sums run side by side. What is done
// does not depend on the costs, so lanes never wait for each other.
//
// Where costs are symmetric, half of the sets are enough: a tour is two paths from city 0 that meet in a city half way, and
// each visits at most half of the other cities and one more. (Otherwise one path visits all, and the other is the step back.)
//
// Sums are formed along the paths, from city 0 on. Of equally short tours the one is taken whose first path has the lowest set,
// and then ends in the lowest city; of equally cheap last cities before that the lowest, at each step back.
// Source: M. Held, R. M. Karp, "A dynamic programming approach to sequencing problems", SIAM J. 10 (1962).
#include <algorithm>
#include <limits>

#include "batches.hpp"
#include "lanes.hpp"
#include "simd.hpp"

namespace {

enum Status : uint8_t { kSolved = 0, kInfeasible = 1, kInvalid = 2 };

template <class T>
struct Batch {
  const T* cost;  // (count, cities, cities), from row to column; infinite where forbidden; the diagonal does not matter
  int64_t count;
  int cities;
  bool symmetric;
  int64_t* tour;    // (count, cities), from city 0
  uint8_t* status;  // (count)
};

/// Solves as many instances at a time as there are lanes. "Others" are the cities but 0, numbered from 0: the bits of a set.
template <class T>
class SubsetPaths {
 public:
  using V = simd::Vector<T>;
  static constexpr int kSize = simd::kLanes<T>;

  explicit SubsetPaths(const Batch<T>& batch) : batch_(batch), cities_(batch.cities), others_(batch.cities - 1) {
    cost_ = cost_memory_.get(cities_ * cities_);
    length_ = length_memory_.get((int64_t(1) << others_) * std::max(1, others_));
  }

  /// Solves instances first, ..., first + count - 1; count is at most kSize.
  void solve(int64_t first, int count) {
    lanes::gather_rows(batch_.cost + first * cities_ * cities_, int64_t(cities_) * cities_, count, cost_);
    const unsigned invalid = invalid_lanes(), all = (1u << others_) - 1;
    const int most = batch_.symmetric ? others_ / 2 + 1 : others_;  // cities of a path
    for (int j = 0; j < others_; ++j) length_[place(1u << j, j)] = cost_[j + 1];
    for (unsigned set = 1; set < all; ++set)
      if (__builtin_popcount(set) < most) hand_on(set, all);
    meet(most, all);
    for (int lane = 0; lane < count; ++lane) batch_.status[first + lane] = invalid >> lane & 1 ? kInvalid : trace(first, lane, all);
  }

 private:
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();
  static constexpr int kMost = 32;

  const Batch<T>& batch_;
  const int cities_, others_;
  V *cost_, *length_;
  V best_, meeting_;  // the length of the shortest tour, and its first path: the place of its set and last city
  simd::Buffer<V> cost_memory_, length_memory_;

  int64_t place(unsigned set, int last) const { return int64_t(set) * others_ + last; }

  /// One bit for each lane with minus infinity (or NaN), which has no shortest tour.
  unsigned invalid_lanes() const {
    simd::Mask<V> valid = ~simd::Mask<V>{};
    for (int i = 0; i < cities_; ++i)
      for (int j = 0; j < cities_; ++j)
        if (i != j) valid &= cost_[i * cities_ + j] > simd::broadcast<V>(-kInfinity);
    return ~simd::bits(valid);
  }

  /// The paths of all sets with one city more than `set`, from its own.
  void hand_on(unsigned set, unsigned all) {
    int inside[kMost], outside[kMost], in = 0, out = 0;
    for (unsigned rest = set; rest; rest &= rest - 1) inside[in++] = __builtin_ctz(rest);
    for (unsigned rest = all ^ set; rest; rest &= rest - 1) outside[out++] = __builtin_ctz(rest);
    int k = 0;
    for (; k + 4 <= out; k += 4) append<4>(set, inside, in, outside + k);
    for (; k + 2 <= out; k += 2) append<2>(set, inside, in, outside + k);
    if (k < out) append<1>(set, inside, in, outside + k);
  }

  /// The paths that go on from `set` to each of kCount cities `next`.
  template <int kCount>
  void append(unsigned set, const int* inside, int in, const int* next) {
    const V* own = length_ + place(set, 0);
    V best[kCount];
    for (V& b : best) b = simd::broadcast<V>(kInfinity);
    for (int k = 0; k < in; ++k) {
      const V length = own[inside[k]];
      const V* step = cost_ + (inside[k] + 1) * cities_ + 1;
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) best[i] = simd::min(best[i], length + step[next[i]]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) length_[place(set | 1u << next[i], next[i])] = best[i];
  }

  /// Finds the shortest tour that a path through `most` cities, and another back from its last, make.
  void meet(int most, unsigned all) {
    const bool twice = batch_.symmetric && others_ % 2;  // both paths are as long, so each pair is met from either side
    best_ = simd::broadcast<V>(kInfinity);
    meeting_ = simd::broadcast<V>(-1);
    for (unsigned set = 1; set <= all; set += twice ? 2 : 1) {
      if (__builtin_popcount(set) != most) continue;
      for (unsigned rest = set; rest; rest &= rest - 1) {
        const int last = __builtin_ctz(rest);
        const V back = batch_.symmetric ? length_[place((all ^ set) | 1u << last, last)] : cost_[(last + 1) * cities_];
        const V total = length_[place(set, last)] + back;
        meeting_ = simd::select(total < best_, simd::broadcast<V>(T(place(set, last))), meeting_);
        best_ = simd::min(total, best_);
      }
    }
  }

  /// Reads the tour of a lane backwards from where its paths meet, one after the other.
  Status trace(int64_t first, int lane, unsigned all) {
    if (meeting_[lane] < 0) return kInfeasible;
    const int64_t at = int64_t(meeting_[lane]);
    const unsigned set = unsigned(at / others_), last = unsigned(at % others_);
    int64_t* tour = batch_.tour + (first + lane) * cities_;
    const int middle = __builtin_popcount(set);
    tour[0] = 0;
    tour[middle] = last + 1;
    walk_back(lane, set ^ 1u << last, last, tour + middle - 1, -1);
    walk_back(lane, all ^ set, last, tour + middle + 1, 1);
    return kSolved;
  }

  /// Writes the cities of `set` along the shortest path from city 0 to `after`, last first.
  void walk_back(int lane, unsigned set, int after, int64_t* tour, int step) const {
    const T* length = reinterpret_cast<const T*>(length_) + lane;
    const T* cost = reinterpret_cast<const T*>(cost_) + lane;
    for (; set; tour += step) {
      T least = kInfinity;
      int best = 0;
      for (unsigned rest = set; rest; rest &= rest - 1) {
        const int k = __builtin_ctz(rest);
        const T total = length[place(set, k) * kSize] + cost[((k + 1) * cities_ + after + 1) * kSize];
        if (total < least) {
          least = total;
          best = k;
        }
      }
      *tour = best + 1;
      after = best;
      set ^= 1u << best;
    }
  }
};

constexpr double kNanoseconds = 0.05;  // for one step between cities in one set of one instance, about

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve(const Batch<T>& batch, int threads) {
  const int others = batch.cities - 1;
  const double half = batch.symmetric ? 0.5 : 1;
  const double work = double(batch.count) * others * others * double(int64_t(1) << others) / 4 * half * kNanoseconds;
  const bool done = lanes::for_each_group<SubsetPaths<T>, T>(batch, work, threads);
  return batches::unsolved(batch, done);
}

}  // namespace

#define SOLVERLAYERS_HELD_KARP(NAME, T)                                                                       \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_held_karp_##NAME(                    \
      const T* cost, int64_t count, int cities, int symmetric, int64_t* tour, uint8_t* status, int threads) { \
    return solve(Batch<T>{cost, count, cities, symmetric != 0, tour, status}, threads);                       \
  }

SOLVERLAYERS_HELD_KARP(float32, float)
SOLVERLAYERS_HELD_KARP(float64, double)
