// Random numbers of any smooth law, for perturbed scores and for the gradients that the law's score gives.
//
// Idea: number i is a function of the seed and i alone, so nothing has to be kept. The perturbed scores of the forward pass are
// made in one pass, and the backward pass makes the same numbers again. Threads change nothing, nor does the width of a vector.
//
// The bits are those of Threefry-4x32-20, which needs additions, rotations and exclusive ors only. One counter gives four words;
// sixteen counters make a block of 64 numbers, word after word. A word says which half of the law a number is in, and how
// likely it is to be further out: a probability with a floating point, whose exponent and leading digits name a cell of a
// table of quantiles, fine where the law is steep. What the table holds is the caller's: a function of the quantile, such as
// the derivative of the logarithm of the density, comes out as well as the quantile itself.
//
// Source: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
#include <algorithm>

#include "parallel.hpp"
#include "simd.hpp"

namespace {

using simd::Float;
using simd::Int;
using simd::broadcast;
using Word = simd::Vector<uint32_t>;

constexpr int kLanes = simd::kLanes<float>;
constexpr int kCounters = 16, kBlock = 4 * kCounters;  // whatever the width of a vector, so that it changes no number
constexpr int64_t kChunk = 16 * kBlock;                // numbers made at a time, in the first-level cache

constexpr int kDigits = 6, kOctaves = 32;         // of the probability: leading digits, and exponents from -33 to -2
constexpr int kHalf = (kOctaves << kDigits) + 1;  // the cells of one half; the last one is the median
struct Cell { float value, slope; };                      // at the cell's start, and per digit beyond the leading ones

/// A seed and a table: the cells of the lower half, from the far end to the median, and those of the upper half likewise.
struct Source {
  uint64_t seed;
  const Cell* table;
};

// ---- bits ----

template <int kBits>
inline Word rotate(Word x) {
  return (x << kBits) | (x >> (32 - kBits));
}

/// a += b; b = (b rotated) ^ a, for the two pairs of a round.
template <int kFirst, int kSecond>
inline void mix(Word& a, Word& b, Word& c, Word& d) {
  a += b, b = rotate<kFirst>(b) ^ a;
  c += d, d = rotate<kSecond>(d) ^ c;
}

/// Adds the key in the order of injection `kTurn`.
template <int kTurn>
inline void inject(Word* x, const uint32_t* key) {
  for (int i = 0; i < 4; ++i) x[i] += broadcast<Word>(key[(kTurn + i) % 5]);
  x[3] += broadcast<Word>(uint32_t(kTurn));
}

/// Threefry with 20 rounds, in place.
inline void threefry(Word* x, const uint32_t* key) {
  inject<0>(x, key);
  const auto four = [x] {
    mix<10, 26>(x[0], x[1], x[2], x[3]), mix<11, 21>(x[0], x[3], x[2], x[1]);
    mix<13, 27>(x[0], x[1], x[2], x[3]), mix<23, 5>(x[0], x[3], x[2], x[1]);
  };
  const auto next_four = [x] {
    mix<6, 20>(x[0], x[1], x[2], x[3]), mix<17, 11>(x[0], x[3], x[2], x[1]);
    mix<25, 10>(x[0], x[1], x[2], x[3]), mix<18, 20>(x[0], x[3], x[2], x[1]);
  };
  four(), inject<1>(x, key);
  next_four(), inject<2>(x, key);
  four(), inject<3>(x, key);
  next_four(), inject<4>(x, key);
  four(), inject<5>(x, key);
}

// ---- numbers ----

/// The cells in the lanes of `index`.
inline void gather(const Cell* table, Int index, Float& value, Float& slope) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  const __m512i low = _mm512_i32gather_epi64(_mm512_castsi512_si256((__m512i)index), table, 8);
  const __m512i high = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64((__m512i)index, 1), table, 8);
  const __m512i even = (__m512i)(simd::iota<Int>() * 2), odd = (__m512i)(simd::iota<Int>() * 2 + 1);
  value = (Float)_mm512_permutex2var_ps((__m512)low, even, (__m512)high);
  slope = (Float)_mm512_permutex2var_ps((__m512)low, odd, (__m512)high);
#else
  for (int lane = 0; lane < kLanes; ++lane) {
    const Cell cell = table[index[lane]];
    value[lane] = cell.value, slope[lane] = cell.slope;
  }
#endif
}

/// The numbers that words stand for.
inline Float look_up(const Cell* table, Word word) {
  const Int upper = (Int)word >> 31;                                              // -1 in the upper half
  const Float further = __builtin_convertvector((Int)word ^ upper, Float) + 0.5f;  // 2^32 times the probability
  const Int place = (Int)further - 0x3f000000;                                    // 0 for 1/2, the least
  constexpr int kRest = 23 - kDigits;
  Float value, slope;
  gather(table, (place >> kRest) + (upper & kHalf), value, slope);
  return value + __builtin_convertvector(place & ((1 << kRest) - 1), Float) * slope;
}

/// Numbers `first, first + 1, ...`, at least `count` of them, in whole blocks; `first` is a multiple of kBlock.
void fill(const Source& source, int64_t first, int64_t count, float* out) {
  uint32_t key[5] = {uint32_t(source.seed), uint32_t(source.seed >> 32), 0, 0, 0};
  key[4] = 0x1bd11bda ^ key[0] ^ key[1];
  for (int64_t block = first / kBlock; count > 0; ++block, out += kBlock, count -= kBlock) {
    for (int lane = 0; lane < kCounters; lane += kLanes) {
      const uint64_t counter = uint64_t(block) * kCounters + lane;
      Word words[4] = {simd::iota<Word>() + uint32_t(counter), broadcast<Word>(uint32_t(counter >> 32)), Word{}, Word{}};
      threefry(words, key);
      for (int i = 0; i < 4; ++i) simd::store(out + i * kCounters + lane, look_up(source.table, words[i]));
    }
  }
}

// ---- what is made of the numbers ----

constexpr double kNanoseconds = 0.8;  // for one number, about

/// Calls `body(first, count)` for stretches of `size` numbers, of whole chunks, on several threads where that pays.
template <class Body>
void in_stretches(int64_t size, double numbers, int threads, Body&& body) {
  if (numbers * kNanoseconds < 200e3) threads = 1;
  const int64_t chunks = (size + kChunk - 1) / kChunk, room = (chunks + 4 * threads - 1) / (4 * threads) * kChunk;
  if (size) parallel::parallel_for((size + room - 1) / room, threads,
                                   [&](int64_t k) { body(k * room, std::min(room, size - k * room)); });
}

/// out[i] = base[i mod period] + scale * number i; without a base, scale * number i.
void add(const Source& source, const float* base, int64_t period, float scale, int64_t size, int threads, float* out) {
  in_stretches(size, double(size), threads, [&](int64_t first, int64_t count) {
    alignas(simd::kBytes) float z[kChunk];
    for (int64_t from = first; from < first + count; from += kChunk) {
      const int64_t end = std::min(from + kChunk, first + count);
      fill(source, from, end - from, z);
      for (int64_t i = from; i < end;) {
        const int64_t at = i % period, run = std::min(end - i, period - at);
        if (base) for (int64_t k = 0; k < run; ++k) out[i + k] = base[at + k] + scale * z[i - from + k];
        else for (int64_t k = 0; k < run; ++k) out[i + k] = scale * z[i - from + k];
        i += run;
      }
    }
  });
}

/// out[b * width + e] = sum over samples s of weight[s * rows + b] * number (s * rows + b) * width + e.
///
/// A thread takes a stretch of `out` through all samples, so a sum has one order.
void weigh(const Source& source, const float* weight, int64_t samples, int64_t rows, int64_t width, int threads, float* out) {
  const int64_t size = rows * width;
  in_stretches(size, double(samples) * double(size), threads, [&](int64_t begin, int64_t length) {
    alignas(simd::kBytes) float z[kChunk];
    std::fill_n(out + begin, length, 0.0f);
    for (int64_t s = 0; s < samples; ++s) {
      const int64_t first = s * size + begin, end = first + length;
      for (int64_t chunk = first / kBlock * kBlock; chunk < end; chunk += kChunk) {
        const int64_t stop = std::min(chunk + kChunk, end);
        fill(source, chunk, stop - chunk, z);
        for (int64_t i = std::max(chunk, first); i < stop;) {
          const int64_t row = i / width, run = std::min(stop, (row + 1) * width) - i;
          float* sum = out + (i - s * size);
          for (int64_t k = 0; k < run; ++k) sum[k] += weight[row] * z[i - chunk + k];
          i += run;
        }
      }
    }
  });
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void solverlayers_noise_add(int64_t seed, const void* table, const float* base,
                                                                              int64_t period, float scale, int64_t size,
                                                                              int threads, float* out) {
  add({uint64_t(seed), static_cast<const Cell*>(table)}, base, period, scale, size, threads, out);
}

extern "C" __attribute__((visibility("default"))) void solverlayers_noise_weigh(int64_t seed, const void* table,
                                                                                const float* weight, int64_t samples,
                                                                                int64_t rows, int64_t width, int threads,
                                                                                float* out) {
  weigh({uint64_t(seed), static_cast<const Cell*>(table)}, weight, samples, rows, width, threads, out);
}
