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
        Paths<float, kNeighbours> paths(some);
        for (int64_t b = 0; b < count; b += size) paths.solve(b, int(std::min<int64_t>(size, count - b)));
        return std::count(some.status, some.status + count, uint8_t(kSolved)) == count;
      });
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
