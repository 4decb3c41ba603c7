// Random numbers of any smooth law, for perturbed scores and for the gradients that the law's score gives.
//
// Idea: number i of sample s is a function of the seed, s and i alone, so nothing has to be kept. The perturbed scores of the
// forward pass are made in one pass, and the backward pass makes the same numbers again. Threads change nothing, nor does the
// width of a vector.
//
// A sample is cut into stretches of 1024 numbers, each made by sixteen streams of xoshiro128++ side by side. A
// stream starts from four words of Threefry-4x32-20, for a counter of its own. Both need additions, rotations and exclusive ors
// only. A word says which half of the law a number is in, and how likely it is to be further out: a probability with a floating
// point, whose exponent and leading digits name a cell of a table, and whose other digits are the argument of the cell's cubic.
// What the cubics are fitted to is the caller's: a function of the quantile, such as the derivative of the logarithm of the
// density, comes out as well as the quantile itself. Cells are many where the law is steep, and few enough for those of nearly
// all numbers, of which one in 256 is further out, to stay in the registers of AVX-512.
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

constexpr int kDigits = 2, kOctaves = 32;     // of the probability: leading digits, and exponents from -33 to -2
constexpr int kHalf = kOctaves << kDigits;    // the cells of one half
constexpr int kDegree = 3, kRest = 23 - kDigits;
struct Cell { float of[kDegree + 1]; };       // coefficients of a cubic in the rest of the digits, as a whole number

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

/// Where the numbers of words are: the place in one half, digits of it counted from the far end, and the half.
struct Place {
  Int digits, upper;  // -1 in the upper half

  explicit Place(Word word) : upper((Int)word >> 31) {
    const Float further = __builtin_convertvector((Int)word ^ upper, Float) + 0.5f;  // 2^32 times the probability
    digits = (Int)further - 0x3f000000;                                              // 0 for 1/2, the least
    const Int last = broadcast<Int>((kHalf << kRest) - 1);                           // before the median
    digits = digits < last ? digits : last;
  }

  Int cell() const { return (digits >> kRest) + (upper & kHalf); }
  Float rest() const { return __builtin_convertvector(digits & ((1 << kRest) - 1), Float); }
};

template <class T>
inline T cubic(T a, T b, T c, T d, T x) {
  return ((d * x + c) * x + b) * x + a;
}

#if defined(__AVX512F__) && defined(__AVX512DQ__)
/// The numbers that words stand for.
class Law {
 public:
  explicit Law(const Cell* table) : table_(table) {
    for (int half = 0; half < 2; ++half)
      for (int k = 0; k < kNear; k += kLanes)
        for (int d = 0; d <= kDegree; ++d) near_[d][half][k / kLanes] = column(table + (half + 1) * kHalf - kNear + k, d);
  }

  Float operator()(Word word) const {
    const Place place(word);
    const __m512i cell = (__m512i)(place.digits >> kRest);
    const __mmask16 upper = _mm512_movepi32_mask((__m512i)word);
    const auto of = [&](int d) {
      const auto pick = [&](const Float* columns) {
        return _mm512_permutex2var_ps((__m512)columns[0], cell, (__m512)columns[1]);
      };
      return (Float)_mm512_mask_blend_ps(upper, pick(near_[d][0]), pick(near_[d][1]));
    };
    const Float value = cubic(of(0), of(1), of(2), of(3), place.rest());
    const Int near = broadcast<Int>((kHalf - kNear) << kRest);
    const unsigned far = _mm512_cmplt_epi32_mask((__m512i)place.digits, (__m512i)near);
    return __builtin_expect(far, 0) ? with_far(value, far, place) : value;
  }

 private:
  static constexpr int kNear = 8 << kDigits;  // cells of a half

  const Cell* table_;
  Float near_[kDegree + 1][2][kNear / kLanes];

  /// Coefficient d of as many cells as there are lanes.
  static Float column(const Cell* cells, int d) {
    const __m512i index = (__m512i)(simd::iota<Int>() * 4 + d);  // of 32 numbers: the upper lanes have what the lower ones have
    const auto eight = [&](int first) {
      return _mm512_permutex2var_ps(_mm512_loadu_ps(cells[first].of), index, _mm512_loadu_ps(cells[first + 4].of));
    };
    return (Float)_mm512_mask_blend_ps(0xff00, eight(0), eight(8));
  }

  /// Inlined: a call would cost more, for all that is in registers.
  __attribute__((always_inline)) Float with_far(Float value, unsigned far, Place place) const {
    alignas(64) int32_t cell[kLanes];
    alignas(64) float rest[kLanes], out[kLanes];
    simd::store(cell, place.cell()), simd::store(rest, place.rest()), simd::store(out, value);
    for (; far; far &= far - 1) {
      const int lane = __builtin_ctz(far);
      const float* c = table_[cell[lane]].of;
      out[lane] = cubic(c[0], c[1], c[2], c[3], rest[lane]);
    }
    return simd::load<Float>(out);
  }
};
#else
/// The numbers that words stand for.
class Law {
 public:
  explicit Law(const Cell* table) : table_(table) {}

  Float operator()(Word word) const {
    const Place place(word);
    const Int cell = place.cell();
#if defined(__AVX2__)
    const auto of = [&](int lane) { return _mm_loadu_ps(table_[cell[lane]].of); };
    __m256 pair[4];
    for (int k = 0; k < 4; ++k) pair[k] = _mm256_insertf128_ps(_mm256_castps128_ps256(of(k)), of(k + 4), 1);
    const __m256 low = _mm256_unpacklo_ps(pair[0], pair[1]), high = _mm256_unpackhi_ps(pair[0], pair[1]);
    const __m256 next_low = _mm256_unpacklo_ps(pair[2], pair[3]), next_high = _mm256_unpackhi_ps(pair[2], pair[3]);
    const Float a = (Float)_mm256_shuffle_ps(low, next_low, 0x44), b = (Float)_mm256_shuffle_ps(low, next_low, 0xee);
    const Float c = (Float)_mm256_shuffle_ps(high, next_high, 0x44), d = (Float)_mm256_shuffle_ps(high, next_high, 0xee);
#elif defined(__SSE2__)
    const auto of = [&](int lane) { return _mm_loadu_ps(table_[cell[lane]].of); };
    __m128 a = of(0), b = of(1), c = of(2), d = of(3);
    _MM_TRANSPOSE4_PS(a, b, c, d);
#else
    Float a, b, c, d;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float* of = table_[cell[lane]].of;
      a[lane] = of[0], b[lane] = of[1], c[lane] = of[2], d[lane] = of[3];
    }
#endif
    return cubic(Float(a), Float(b), Float(c), Float(d), place.rest());
  }

 private:
  const Cell* table_;
};
#endif

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
  const Law law(source.table);
  for (int stream = 0; stream < kStreams; stream += kLanes) {
    Word state[4];
    start(source.seed, uint64_t(stretch), stream, state);
    for (int64_t i = stream; i < count; i += kStreams) simd::store(out + i, law(next(state)));
  }
}

inline int64_t stretches(int64_t size) { return (size + kStretch - 1) / kStretch; }

}  // namespace noise
