// What is made of the solutions of a batch at several samples of its scores: their mean, and how much better than the others
// each of them was in the direction of a gradient.
//
// Idea: both read all solutions, which are many times as large as anything else there, long after each other. So those of zeros
// and ones are taken down on the first way as a bit an entry, which is all that the second one needs.
#include <algorithm>
#include <cstring>

#include "parallel.hpp"
#include "simd.hpp"

namespace {

using simd::Float;
using simd::Int;

constexpr int kLanes = simd::kLanes<float>;
constexpr int64_t kWord = 16;  // entries taken together, whatever the width of a vector, so that it changes no sum and no word
constexpr double kNanoseconds = 0.1;  // for one entry, about

int64_t words(int64_t width) { return (width + kWord - 1) / kWord; }

/// Calls `body(first, last)` for parts of the rows, on several threads where that pays.
template <class Body>
void for_rows(int64_t rows, double entries, int threads, Body&& body) {
  if (entries * kNanoseconds < 200e3) threads = 1;
  const int64_t room = threads > 1 ? (rows + 4 * threads - 1) / (4 * threads) : rows;
  if (rows) parallel::parallel_for((rows + room - 1) / room, threads,
                                   [&](int64_t k) { body(k * room, std::min(rows, (k + 1) * room)); });
}

/// sum += y, entry by entry, for the first `n` entries of a word; returns which of them are not zero.
inline uint16_t add(const float* y, int64_t n, float* sum) {
  unsigned bits = 0;
  if (n == kWord) {
    for (int at = 0; at < kWord; at += kLanes) {
      const Float own = simd::load_unaligned<Float>(y + at);
      simd::store_unaligned(sum + at, simd::load_unaligned<Float>(sum + at) + own);
      bits |= simd::bits(own != Float{}) << at;
    }
  } else {
    for (int64_t i = 0; i < n; ++i) sum[i] += y[i], bits |= unsigned(y[i] != 0) << i;
  }
  return uint16_t(bits);
}

/// mean[b * width + e] = the mean over s of y[(s * rows + b) * width + e]; record[(s * rows + b) * words + e / 16] has a bit for
/// each entry of y that is not zero.
void mean_of(const float* y, int64_t samples, int64_t rows, int64_t width, int threads, float* mean, uint16_t* record) {
  const int64_t length = words(width), tile = std::max<int64_t>(1, 4096 / std::max<int64_t>(width, 1));
  for_rows(rows, double(samples) * double(rows * width), threads, [&](int64_t from, int64_t to) {
    for (int64_t first = from; first < to; first += tile) {  // some rows, whose mean stays in the first-level cache
      const int64_t last = std::min(to, first + tile);
      std::fill(mean + first * width, mean + last * width, 0.0f);
      for (int64_t s = 0; s < samples; ++s)
        for (int64_t b = first; b < last; ++b) {
          const float* own = y + (s * rows + b) * width;
          uint16_t* word = record + (s * rows + b) * length;
          for (int64_t e = 0; e < width; e += kWord)
            *word++ = add(own + e, std::min(kWord, width - e), mean + b * width + e);
        }
      for (int64_t i = first * width; i < last * width; ++i) mean[i] /= float(samples);
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
void weigh(const Y* y, int64_t pitch, const float* grad, int64_t samples, int64_t rows, int64_t width, float scale, int threads,
           float* weight) {
  const float others = 1.0f / float(std::max<int64_t>(samples - 1, 1));
  for_rows(rows, double(samples) * double(rows * width), threads, [&](int64_t first, int64_t last) {
    for (int64_t s = 0; s < samples; ++s)
      for (int64_t b = first; b < last; ++b)
        weight[s * rows + b] = dot(grad + b * width, y + (s * rows + b) * pitch, width);
    for (int64_t b = first; b < last; ++b) {
      float sum = 0;
      for (int64_t s = 0; s < samples; ++s) sum += weight[s * rows + b];
      for (int64_t s = 0; s < samples; ++s) {
        const float own = weight[s * rows + b];
        weight[s * rows + b] = scale * (own - (sum - own) * others);
      }
    }
  });
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void solverlayers_samples_mean(const float* y, int64_t samples, int64_t rows,
                                                                                 int64_t width, int threads, float* mean,
                                                                                 uint16_t* record) {
  mean_of(y, samples, rows, width, threads, mean, record);
}

#define SOLVERLAYERS_SAMPLES_WEIGH(NAME, Y, PITCH)                                                                             \
  extern "C" __attribute__((visibility("default"))) void NAME(const Y* y, const float* grad, int64_t samples, int64_t rows,    \
                                                              int64_t width, float scale, int threads, float* weight) {        \
    weigh(y, PITCH, grad, samples, rows, width, scale, threads, weight);                                                       \
  }

SOLVERLAYERS_SAMPLES_WEIGH(solverlayers_samples_weigh_solutions, float, width)
SOLVERLAYERS_SAMPLES_WEIGH(solverlayers_samples_weigh_record, uint16_t, words(width))
