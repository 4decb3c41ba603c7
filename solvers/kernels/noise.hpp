// Random numbers of any smooth law, for perturbed scores and for the gradients that the law's score gives.
//
// Idea: number i of sample s is a function of the seed, s and i alone, so nothing has to be kept. The perturbed scores of the
// forward pass are made in one pass, and the backward pass makes the same numbers again. Threads change nothing, nor does the
// width of a vector.
//
// A sample is cut into stretches of 1024 numbers, each made by sixteen streams of xoshiro128++ side by side. A
// stream starts from four words of Threefry-4x32-20, for a counter of its own. Both need additions, rotations and exclusive ors
// only. A word says which half of the law a number is in, and how likely it is to be further out: a probability with a floating
// point, whose exponent and leading digits name a cell of a table of quantiles, fine where the law is steep. What the table
// holds is the caller's: a function of the quantile, such as the derivative of the logarithm of the density, comes out as well
// as the quantile itself.
//
// Sources: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011);
// D. Blackman, S. Vigna, "Scrambled linear pseudorandom number generators" (ACM TOMS 47, 2021).
#pragma once

#include <algorithm>

#include "simd.hpp"

namespace noise {

using simd::Float;
using simd::Int;
using simd::broadcast;
using Word = simd::Vector<uint32_t>;

constexpr int kLanes = simd::kLanes<float>;
constexpr int kStreams = 16;        // side by side, whatever the width of a vector, so that it changes no number
constexpr int64_t kStretch = 1024;  // numbers of all streams together, in the first-level cache

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

/// The states that the streams in the lanes from `stream` on start from, in a stretch.
inline void start(uint64_t seed, uint64_t stretch, int stream, Word* state) {
  uint32_t key[5] = {uint32_t(seed), uint32_t(seed >> 32), 0, 0, 0};
  key[4] = 0x1bd11bda ^ key[0] ^ key[1];
  const uint64_t counter = stretch * kStreams + stream;
  state[0] = simd::iota<Word>() + uint32_t(counter), state[1] = broadcast<Word>(uint32_t(counter >> 32));
  state[2] = state[3] = Word{};
  threefry(state, key);
}

/// A step of xoshiro128++.
inline Word next(Word* s) {
  const Word out = rotate<7>(s[0] + s[3]) + s[0], shifted = s[1] << 9;
  s[2] ^= s[0], s[3] ^= s[1], s[1] ^= s[2], s[0] ^= s[3];
  s[2] ^= shifted, s[3] = rotate<11>(s[3]);
  return out;
}

/// The first `count` numbers of a stretch; there is room for all kStretch in `out`.
inline void fill(const Source& source, int64_t stretch, int64_t count, float* out) {
  for (int stream = 0; stream < kStreams; stream += kLanes) {
    Word state[4];
    start(source.seed, uint64_t(stretch), stream, state);
    for (int64_t i = stream; i < count; i += kStreams) simd::store(out + i, look_up(source.table, next(state)));
  }
}

inline int64_t stretches(int64_t size) { return (size + kStretch - 1) / kStretch; }

}  // namespace noise
