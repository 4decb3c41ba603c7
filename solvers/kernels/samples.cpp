// What is made of the solutions of a batch at several samples of its scores: their mean, and how much better than the others
// each of them was in the direction of a gradient.
//
// Idea: both read all solutions, which are many times as large as anything else there, long after each other. So those of zeros
// and ones are taken down on the first way as a bit an entry, which is all that the second one needs.
#include <algorithm>
#include <cstring>

#include "parallel.hpp"
#include "samples.hpp"
#include "simd.hpp"

namespace {

using samples::kLanes;
using samples::kWord;
using samples::words;
using simd::Float;
using simd::Int;

constexpr double kNanoseconds = 0.1;  // for one entry, about

/// mean[b * width + e] = the mean over s of y[(s * rows + b) * width + e]; record[(s * rows + b) * words + e / 16] has a bit for
/// each entry of y that is not zero.
void mean_of(const float* y, int64_t count, int64_t rows, int64_t width, int threads, float* mean, uint16_t* record) {
  const int64_t length = words(width), tile = std::max<int64_t>(1, 4096 / std::max<int64_t>(width, 1));
  parallel::for_parts(rows, kNanoseconds * double(count * width), threads, [&](int64_t from, int64_t to) {
    for (int64_t first = from; first < to; first += tile) {  // some rows, whose mean stays in the first-level cache
      const int64_t last = std::min(to, first + tile);
      std::fill(mean + first * width, mean + last * width, 0.0f);
      for (int64_t s = 0; s < count; ++s)
        for (int64_t b = first; b < last; ++b)
          samples::add_row(y + (s * rows + b) * width, width, mean + b * width, record + (s * rows + b) * length);
      for (int64_t i = first * width; i < last * width; ++i) mean[i] /= float(count);
    }
  });
}

/// Sixteen sums, side by side.
struct Sums {
  Float of[kWord / kLanes]{};

  float total() const {
    float parts[kWord];
    std::memcpy(parts, of, sizeof(parts));
    for (int half = kWord / 2; half; half /= 2)
      for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
    return parts[0];
  }
};

/// <a, y>
float dot(const float* a, const float* y, int64_t n) {
  Sums sums;
  int64_t i = 0;
  for (; i + kWord <= n; i += kWord)
    for (int v = 0; v < kWord / kLanes; ++v)
      sums.of[v] += simd::load_unaligned<Float>(a + i + v * kLanes) * simd::load_unaligned<Float>(y + i + v * kLanes);
  float rest = 0;
  for (; i < n; ++i) rest += a[i] * y[i];
  return sums.total() + rest;
}

/// <a, y>, where y is a record
float dot(const float* a, const uint16_t* record, int64_t n) {
  Sums sums;
  int64_t i = 0;
  for (; i + kWord <= n; i += kWord, ++record)
    for (int v = 0; v < kWord / kLanes; ++v) {
      const Int bit = (Int{} + 1) << (simd::iota<Int>() + v * kLanes), on = (simd::broadcast<Int>(*record) & bit) != 0;
      sums.of[v] += (Float)((Int)simd::load_unaligned<Float>(a + i + v * kLanes) & on);
    }
  float rest = 0;
  for (; i < n; ++i) rest += *record >> (i % kWord) & 1 ? a[i] : 0;
  return sums.total() + rest;
}

/// weight[s * rows + b] = scale * (d_s - the mean of the other samples' d), where d_s = <grad_b, y_sb>. `y` are the solutions, a
/// row every `pitch`, or their record.
template <class Y>
void weigh(const Y* y, int64_t pitch, const float* grad, int64_t count, int64_t rows, int64_t width, float scale, int threads,
           float* weight) {
  const float others = 1.0f / float(std::max<int64_t>(count - 1, 1));
  parallel::for_parts(rows, kNanoseconds * double(count * width), threads, [&](int64_t first, int64_t last) {
    for (int64_t s = 0; s < count; ++s)
      for (int64_t b = first; b < last; ++b)
        weight[s * rows + b] = dot(grad + b * width, y + (s * rows + b) * pitch, width);
    for (int64_t b = first; b < last; ++b) {
      float sum = 0;
      for (int64_t s = 0; s < count; ++s) sum += weight[s * rows + b];
      for (int64_t s = 0; s < count; ++s) {
        const float own = weight[s * rows + b];
        weight[s * rows + b] = scale * (own - (sum - own) * others);
      }
    }
  });
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void solverlayers_samples_mean(const float* y, int64_t count, int64_t rows,
                                                                                 int64_t width, int threads, float* mean,
                                                                                 uint16_t* record) {
  mean_of(y, count, rows, width, threads, mean, record);
}

#define SOLVERLAYERS_SAMPLES_WEIGH(NAME, Y, PITCH)                                                                             \
  extern "C" __attribute__((visibility("default"))) void NAME(const Y* y, const float* grad, int64_t count, int64_t rows,    \
                                                              int64_t width, float scale, int threads, float* weight) {        \
    weigh(y, PITCH, grad, count, rows, width, scale, threads, weight);                                                       \
  }

SOLVERLAYERS_SAMPLES_WEIGH(solverlayers_samples_weigh_solutions, float, width)
SOLVERLAYERS_SAMPLES_WEIGH(solverlayers_samples_weigh_record, uint16_t, words(width))
