// Cheapest paths of cells in a batch of grids: distances for all lanes together (`grid_sweeps.hpp`), then the paths of each
// (`grid_walks.hpp`).
#include <algorithm>

#include "batches.hpp"
#include "grid_sweeps.hpp"
#include "grid_walks.hpp"
#include "lanes.hpp"
#include "samples.hpp"

namespace grid_path {
namespace {

/// Solves as many instances at a time as there are lanes.
template <class T, int kNeighbours>
class Paths {
 public:
  explicit Paths(const Batch<T>& batch)
      : batch_(batch), layout_(batch.height, batch.width), sweeper_(batch, layout_), walker_(batch, layout_) {}

  void solve(int64_t first, int count) {
    const unsigned invalid = sweeper_.relax(first, count);
    walker_.mark_paths(first, count, invalid, sweeper_.distances());
    if (batch_.distance) write_distances(first, count);
  }

 private:
  const Batch<T>& batch_;
  const Layout<kNeighbours> layout_;
  Sweeper<T, kNeighbours> sweeper_;
  Walker<T, kNeighbours> walker_;

  /// None of them greater than the target's: a potential that proves the path to be optimal.
  void write_distances(int64_t first, int count) {
    const int64_t n = batch_.cells();
    for (int lane = 0; lane < count; ++lane) {
      const T* own = sweeper_.distances() + lane;
      const auto at = [&](int64_t cell) { return own[layout_.padded(cell) * simd::kLanes<T>]; };
      const T furthest = at(batch_.target_of(first + lane));
      for (int64_t cell = 0; cell < n; ++cell) batch_.distance[(first + lane) * n + cell] = std::min(furthest, at(cell));
    }
  }
};

constexpr double kNanoseconds = 4;  // for one cell of one instance, about

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve(const Batch<T>& batch, int neighbours, int threads) {
  const double work = double(batch.count) * double(batch.cells()) * kNanoseconds;
  const bool done = neighbours == 8 ? lanes::for_each_group<Paths<T, 8>, T>(batch, work, threads)
                                    : lanes::for_each_group<Paths<T, 4>, T>(batch, work, threads);
  return batches::unsolved(batch, done);
}

/// Solves some instances of a sample; `batch` has neither costs nor solutions yet.
template <int kNeighbours>
class SomePaths {
 public:
  explicit SomePaths(const Batch<float>& batch) : batch_(batch), some_(batch), paths_(some_) {}

  bool operator()(int64_t, int64_t first, int64_t count, const float* scores, float* solution) {
    some_.cost = scores, some_.solution = solution, some_.count = count, some_.status = status_.get(count);
    if (batch_.mask) some_.mask = batch_.mask + first * batch_.cells();
    if (batch_.source) some_.source = batch_.source + first;
    if (batch_.target) some_.target = batch_.target + first;
    for (int64_t b = 0; b < count; b += kSize) paths_.solve(b, int(std::min<int64_t>(kSize, count - b)));
    return std::count(some_.status, some_.status + count, uint8_t(kSolved)) == count;
  }

  static constexpr int kSize = simd::kLanes<float>;

 private:
  const Batch<float>& batch_;
  Batch<float> some_;
  Paths<float, kNeighbours> paths_;
  simd::Buffer<uint8_t> status_;
};

/// The mean of paths at samples of the scores.
template <int kNeighbours>
int mean_of_paths(const samples::Samples& all, const Batch<float>& batch) {
  using Some = SomePaths<kNeighbours>;
  return samples::mean_of_solutions(all, samples::some(all.width, Some::kSize), double(all.width) * kNanoseconds,
                                    [&] { return Some(batch); });
}

}  // namespace

#define SOLVERLAYERS_GRID_PATH(NAME, T)                                                                                       \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_grid_path_##NAME(                                    \
      const T* cost, const uint8_t* mask, const int64_t* source, const int64_t* target, int64_t count, int64_t height,        \
      int64_t width, int neighbours, int reading, T* solution, T* distance, uint8_t* status, int threads) {                   \
    const Batch<T> batch{cost, mask, source, target, count, height, width, Reading(reading), solution, distance, status};     \
    return solve(batch, neighbours, threads);                                                                                 \
  }

SOLVERLAYERS_GRID_PATH(float32, float)
SOLVERLAYERS_GRID_PATH(float64, double)

extern "C" __attribute__((visibility("default"))) int solverlayers_grid_path_mean(
    const samples::Samples* all, const uint8_t* mask, const int64_t* source, const int64_t* target, int64_t height,
    int64_t width, int64_t neighbours) {
  const Batch<float> batch{nullptr, mask, source, target, 0, height, width, Reading::kGains, nullptr, nullptr, nullptr};
  return neighbours == 8 ? mean_of_paths<8>(*all, batch) : mean_of_paths<4>(*all, batch);
}

}  // namespace grid_path
