// The mean of the solutions of a batch at several samples of its scores, without a tensor of the size of all samples.
//
// Idea: a kernel that solves some instances is called for some instances of one sample at a time. Their scores are made of the
// batch's and of noise just before, and what they add to the mean is added just after, so all of it stays in the second-level
// cache. What the backward pass wants of solutions of zeros and ones is a bit an entry, the record.
#pragma once

#include <algorithm>
#include <atomic>

#include "noise.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace samples {

using simd::Float;

constexpr int kLanes = simd::kLanes<float>;
constexpr int64_t kWord = 16;  // entries taken together, whatever the width of a vector, so that it changes no sum and no word

inline int64_t words(int64_t width) { return (width + kWord - 1) / kWord; }

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

/// Adds a row of a solution to `sum` and takes it down.
inline void add_row(const float* y, int64_t width, float* sum, uint16_t* record) {
  for (int64_t e = 0; e < width; e += kWord) *record++ = add(y + e, std::min(kWord, width - e), sum + e);
}

/// What the caller passes: `theta` and noise, and room for what is made of the solutions.
struct Samples {
  int64_t seed;
  const void* table;
  const float* theta;  // (rows, width)
  int64_t samples, rows, width;
  float* mean;         // (rows, width)
  uint16_t* record;    // (samples, rows, words)
  float scale;
  int threads;
};

/// The numbers of a sample, one after the other from any place on.
class Stream {
 public:
  Stream(const Samples& s, int64_t sample, int64_t place)
      : source_{uint64_t(s.seed), static_cast<const noise::Cell*>(s.table)}, size_(s.rows * s.width), place_(place),
        first_stretch_(sample * noise::stretches(size_)) {
    if (place_ % noise::kStretch) refill();
  }

  /// out = theta + scale * number, for the next `count` entries.
  void perturb(const Samples& s, int64_t count, float* out) {
    for (int64_t i = 0; i < count;) {
      const int64_t at = place_ % noise::kStretch, run = std::min(count - i, noise::kStretch - at);
      if (at == 0) refill();
      const float* theta = s.theta + place_;
      for (int64_t k = 0; k < run; ++k) out[i + k] = theta[k] + s.scale * numbers_[at + k];
      i += run, place_ += run;
    }
  }

 private:
  noise::Source source_;
  int64_t size_, place_, first_stretch_;
  alignas(simd::kBytes) float numbers_[noise::kStretch];

  void refill() {
    const int64_t stretch = place_ / noise::kStretch;
    noise::fill(source_, first_stretch_ + stretch, std::min(noise::kStretch, size_ - stretch * noise::kStretch), numbers_);
  }
};

/// How many instances are best solved together, a multiple of `lanes`: so many that their scores fill the first-level cache.
inline int64_t some(int64_t width, int64_t lanes) { return std::max<int64_t>(1, 12288 / (width * lanes)) * lanes; }

/// Calls `solve(sample, first, count, scores, solution)`, which says whether it solved all, for `together` instances at a time.
///
/// Each thread has a `solve` of its own, which `make` makes, for memory that lasts from call to call. `nanoseconds` is what an
/// instance takes, about. Returns 0, 1 where an instance was not solved, or -1 if memory ran out.
template <class Make>
int mean_of_solutions(const Samples& s, int64_t together, double nanoseconds, Make&& make) {
  const bool alone = double(s.samples) * double(s.rows) * nanoseconds < 200e3;
  const int threads = alone ? 1 : s.threads;
  const int64_t part = threads > 1 ? (s.rows + 4 * threads - 1) / (4 * threads) : s.rows;
  const int64_t room = std::max<int64_t>(1, (part + together - 1) / together) * together;
  std::atomic<bool> failed{false};
  const bool done = parallel::parallel_for((s.rows + room - 1) / room, threads, [&](int64_t k) {
    const int64_t from = k * room, to = std::min(s.rows, from + room);
    auto solve = make();
    simd::Buffer<float> memory;
    float *scores = memory.get(2 * together * s.width + kWord), *y = scores + simd::padded<float>(together * s.width);
    std::fill(s.mean + from * s.width, s.mean + to * s.width, 0.0f);
    for (int64_t sample = 0; sample < s.samples && !failed; ++sample) {
      Stream stream(s, sample, from * s.width);
      for (int64_t first = from; first < to; first += together) {
        const int64_t count = std::min(together, to - first);
        stream.perturb(s, count * s.width, scores);
        if (!solve(sample, first, count, scores, y)) failed.store(true, std::memory_order_relaxed);
        uint16_t* record = s.record + (sample * s.rows + first) * words(s.width);
        for (int64_t b = 0; b < count; ++b)
          add_row(y + b * s.width, s.width, s.mean + (first + b) * s.width, record + b * words(s.width));
      }
    }
    for (int64_t i = from * s.width; i < to * s.width; ++i) s.mean[i] /= float(s.samples);
  });
  return done ? int(failed) : -1;
}

}  // namespace samples
