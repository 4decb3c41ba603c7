// Perturbed scores, and weighted sums of the scores of the noise, from the numbers of noise.hpp.
#include <algorithm>

#include "noise.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace {

using noise::Cell;
using noise::Source;
using noise::fill;
using noise::kStretch;
using noise::stretches;

constexpr double kNanoseconds = 0.5;  // for one number, about

/// Calls `body(k)` for `count` stretches, for which so many numbers have to be made altogether.
template <class Body>
void for_each(int64_t count, double numbers, int threads, Body&& body) {
  if (count == 0) return;
  parallel::for_parts(count, kNanoseconds * numbers / double(count), threads, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) body(k);
  });
}

/// out[s * size + i] = base[i] + scale * number i of sample s; without a base, scale * number.
void perturb(const Source& source, const float* base, int64_t size, int64_t samples, float scale, int threads, float* out) {
  const int64_t each = stretches(size);
  for_each(samples * each, double(samples) * double(size), threads, [&](int64_t k) {
    alignas(simd::kBytes) float z[kStretch];
    const int64_t first = k % each * kStretch, count = std::min(kStretch, size - first);
    fill(source, k, count, z);
    float* to = out + k / each * size + first;
    if (base) for (int64_t i = 0; i < count; ++i) to[i] = base[first + i] + scale * z[i];
    else for (int64_t i = 0; i < count; ++i) to[i] = scale * z[i];
  });
}

/// out[b * width + e] = sum over samples s of weight[s * rows + b] * number b * width + e of sample s.
///
/// A thread takes a stretch of `out` through all samples, so a sum has one order.
void weigh(const Source& source, const float* weight, int64_t samples, int64_t rows, int64_t width, int threads, float* out) {
  const int64_t size = rows * width, each = stretches(size);
  for_each(each, double(samples) * double(size), threads, [&](int64_t stretch) {
    alignas(simd::kBytes) float z[kStretch];
    const int64_t first = stretch * kStretch, end = std::min(size, first + kStretch);
    std::fill(out + first, out + end, 0.0f);
    for (int64_t s = 0; s < samples; ++s) {
      fill(source, s * each + stretch, end - first, z);
      for (int64_t row = first / width, i = first; i < end; ++row) {
        const int64_t stop = std::min(end, (row + 1) * width);
        const float w = weight[s * rows + row];
        for (; i < stop; ++i) out[i] += w * z[i - first];
      }
    }
  });
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void solverlayers_noise_perturb(int64_t seed, const void* table,
                                                                                  const float* base, int64_t size,
                                                                                  int64_t samples, float scale, int threads,
                                                                                  float* out) {
  perturb({uint64_t(seed), static_cast<const Cell*>(table)}, base, size, samples, scale, threads, out);
}

extern "C" __attribute__((visibility("default"))) void solverlayers_noise_weigh(int64_t seed, const void* table,
                                                                                const float* weight, int64_t samples,
                                                                                int64_t rows, int64_t width, int threads,
                                                                                float* out) {
  weigh({uint64_t(seed), static_cast<const Cell*>(table)}, weight, samples, rows, width, threads, out);
}
