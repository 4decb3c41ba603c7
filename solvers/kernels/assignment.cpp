// Linear assignment: a batch of dense, square or rectangular cost matrices.
//
// Matrices up to 8 x 8 are solved by dynamic programming over sets of columns, one instance in each lane (subset_matching.hpp);
// others along shortest augmenting paths, with vectors inside an instance: rows of up to 32 costs in registers
// (short_matching.hpp), longer ones, and those that may be skipped or masked, in memory (path_matching.hpp). Sums are float64
// everywhere, and equal costs are resolved in an order that does not depend on the width of vectors, nor does the answer.
#include "parallel.hpp"
#include "path_matching.hpp"
#include "samples.hpp"
#include "short_matching.hpp"
#include "subset_matching.hpp"

namespace {

using namespace assignment;

template <class Matching, class T>
void match_each(const Batch<T>& batch, int64_t first, int64_t last) {
  Matching matching;
  for (int64_t b = first; b < last; ++b) matching.solve(batch, b);
}

/// False where rows are not short, or not as ShortMatching takes them.
template <class T>
bool match_short(const Batch<T>& batch, int64_t first, int64_t last) {
  const int64_t length = std::max(batch.n, batch.m);
  if (batch.mask || batch.skip_row || length < 1) return false;
  if (length <= 8) match_each<ShortMatching<8>>(batch, first, last);
  else if (length <= 16) match_each<ShortMatching<16>>(batch, first, last);
  else if (length <= 24) match_each<ShortMatching<24>>(batch, first, last);
  else if (length <= 32) match_each<ShortMatching<32>>(batch, first, last);
  else return false;
  return true;
}

template <class T>
void solve_range(const Batch<T>& batch, int64_t first, int64_t last) {
  const bool small = batch.n == batch.m && batch.n > 0 && batch.n <= SubsetMatching::kMaxSize;
  if (small && !batch.mask && !batch.skip_row && !batch.column_duals) {
    SubsetMatching matching;
    for (int64_t b = first; b < last; b += kLanes) matching.solve(batch, b, int(std::min<int64_t>(kLanes, last - b)));
  } else if (!match_short(batch, first, last)) {
    using Costs = std::conditional_t<std::is_same_v<T, float>, float, double>;  // read more often than computed with
    if (batch.skip_column) match_by_paths<double>(batch, first, last);
    else match_by_paths<Costs>(batch, first, last);
  }
}

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve_batch(const Batch<T>& batch, int64_t chunk, int threads) {
  const int64_t chunks = (batch.count + chunk - 1) / chunk;
  const bool enough_memory = parallel::parallel_for(chunks, threads, [&](int64_t k) {
    solve_range(batch, k * chunk, std::min(batch.count, (k + 1) * chunk));
  });
  if (!enough_memory) return -1;
  return batch.count - std::count(batch.status, batch.status + batch.count, uint8_t(kSolved));
}

/// The mean of matchings at samples of the scores, which are gains. Starts have one row for each instance of each sample.
int mean_of_matchings(const samples::Samples& all, const uint8_t* mask, const double* warm_start, double* start, int64_t n,
                      int64_t m) {
  const auto solve = [=, &all](int64_t sample, int64_t first, int64_t count, const float* scores, float* solution) {
    simd::Buffer<uint8_t> status;
    const int64_t row = (sample * all.rows + first) * m;
    const Batch<float> some{scores, mask ? mask + first * n * m : nullptr, nullptr, nullptr,
                            warm_start ? warm_start + row : nullptr, count, n, m, true, solution, nullptr,
                            start ? start + row : nullptr, status.get(count)};
    solve_range(some, 0, count);
    return std::count(some.status, some.status + count, uint8_t(kSolved)) == count;
  };
  return samples::mean_of_solutions(all, samples::some(all.width, kLanes), 4 * double(all.width), [&] { return solve; });
}

}  // namespace

#define SOLVERLAYERS_ASSIGNMENT(NAME, T)                                                                                     \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_assignment_##NAME(                                  \
      const T* scores, const uint8_t* mask, const double* skip_row, const double* skip_column, const double* warm_start,     \
      int64_t count, int64_t n, int64_t m, int maximize, T* solution, double* row_duals, double* column_duals,               \
      uint8_t* status, int64_t chunk, int threads) {                                                                         \
    return solve_batch(Batch<T>{scores, mask, skip_row, skip_column, warm_start, count, n, m, maximize != 0, solution,       \
                                row_duals, column_duals, status},                                                            \
                       chunk, threads);                                                                                      \
  }

SOLVERLAYERS_ASSIGNMENT(float32, float)
SOLVERLAYERS_ASSIGNMENT(float64, double)
SOLVERLAYERS_ASSIGNMENT(int32, int32_t)
SOLVERLAYERS_ASSIGNMENT(int64, int64_t)

extern "C" __attribute__((visibility("default"))) int solverlayers_assignment_mean(
    const samples::Samples* all, const uint8_t* mask, const double* warm_start, double* start, int64_t n, int64_t m) {
  return mean_of_matchings(*all, mask, warm_start, start, n, m);
}
