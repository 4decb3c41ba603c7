// Vectors as wide as the instruction set this file is compiled for, on GCC and Clang vector extensions.
//
// A vector wider than the registers is split by the compiler into slow scalar code, so the number of lanes is a constant of
// the build: 64 bytes with AVX-512, 32 with AVX2, 16 with SSE2 and NEON. Operators (+ - * < == & | ?:) work lane by lane;
// a comparison gives an integer vector of the same lanes, -1 where true.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace simd {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};

template <class T>
using Vector = typename VectorOf<T>::type;
using Float = Vector<float>;
using Double = Vector<double>;
using Int = Vector<int32_t>;
using Long = Vector<int64_t>;

template <class T>
constexpr int kLanes = kBytes / int(sizeof(T));

template <class V>
using Element = std::remove_cv_t<std::remove_reference_t<decltype(std::declval<V&>()[0])>>;

/// The integer vector with the lanes of V: what comparing two V gives.
template <class V>
using Mask = std::conditional_t<sizeof(Element<V>) == 8, Long, Int>;

template <class V>
inline V broadcast(Element<V> x) {
  return x - V{};  // not x + V{}: that turns -0.0 into 0.0
}

/// 0, 1, 2, ... in the lanes.
template <class V>
inline V iota() {
  V v{};
  for (int lane = 0; lane < int(sizeof(V) / sizeof(Element<V>)); ++lane) v[lane] = Element<V>(lane);
  return v;
}

/// `p` is a multiple of kBytes.
template <class V>
inline V load(const Element<V>* p) {
  V v;
  __builtin_memcpy(&v, __builtin_assume_aligned(p, sizeof(V)), sizeof(V));
  return v;
}

template <class V>
inline V load_unaligned(const Element<V>* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof(V));
  return v;
}

template <class V>
inline void store(Element<V>* p, V v) {
  __builtin_memcpy(__builtin_assume_aligned(p, sizeof(V)), &v, sizeof(V));
}

template <class V>
inline void store_unaligned(Element<V>* p, V v) {
  __builtin_memcpy(p, &v, sizeof(V));
}

/// Lane by lane `m ? a : b`.
template <class V>
inline V select(Mask<V> m, V a, V b) {
  return m ? a : b;
}

/// Lane by lane `a < b ? a : b`. Compilers do not see one instruction in that when NaN is possible, hence the intrinsics.
template <class V>
inline V min(V a, V b) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (std::is_same_v<V, Float>) return (V)_mm512_min_ps((__m512)a, (__m512)b);
  if constexpr (std::is_same_v<V, Double>) return (V)_mm512_min_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<V, Float>) return (V)_mm256_min_ps((__m256)a, (__m256)b);
  if constexpr (std::is_same_v<V, Double>) return (V)_mm256_min_pd((__m256d)a, (__m256d)b);
#elif defined(__SSE2__)
  if constexpr (std::is_same_v<V, Float>) return (V)_mm_min_ps((__m128)a, (__m128)b);
  if constexpr (std::is_same_v<V, Double>) return (V)_mm_min_pd((__m128d)a, (__m128d)b);
#endif
  return a < b ? a : b;
}

/// Lane by lane `a > b ? a : b`.
template <class V>
inline V max(V a, V b) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (std::is_same_v<V, Float>) return (V)_mm512_max_ps((__m512)a, (__m512)b);
  if constexpr (std::is_same_v<V, Double>) return (V)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<V, Float>) return (V)_mm256_max_ps((__m256)a, (__m256)b);
  if constexpr (std::is_same_v<V, Double>) return (V)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif defined(__SSE2__)
  if constexpr (std::is_same_v<V, Float>) return (V)_mm_max_ps((__m128)a, (__m128)b);
  if constexpr (std::is_same_v<V, Double>) return (V)_mm_max_pd((__m128d)a, (__m128d)b);
#endif
  return a > b ? a : b;
}

/// The bits of a mask register. The statement makes them a whole number: where registers are scarce, GCC 12 was seen to keep the 8
/// or 16 bits in memory, and to read 32 from there.
inline unsigned whole(unsigned mask) {
#if defined(__GNUC__)
  asm("" : "+r"(mask));
#endif
  return mask;
}

/// One bit per lane of a mask, lane 0 lowest.
inline unsigned bits(Int m) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return whole(_mm512_movepi32_mask((__m512i)m));
#elif defined(__AVX2__)
  return unsigned(_mm256_movemask_ps((__m256)m));
#elif defined(__SSE2__)
  return unsigned(_mm_movemask_ps((__m128)m));
#else
  unsigned out = 0;
  for (int lane = 0; lane < kLanes<int32_t>; ++lane) out |= unsigned(m[lane] & 1) << lane;
  return out;
#endif
}

inline unsigned bits(Long m) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return whole(_mm512_movepi64_mask((__m512i)m));
#elif defined(__AVX2__)
  return unsigned(_mm256_movemask_pd((__m256d)m));
#elif defined(__SSE2__)
  return unsigned(_mm_movemask_pd((__m128d)m));
#else
  unsigned out = 0;
  for (int lane = 0; lane < kLanes<int64_t>; ++lane) out |= unsigned(m[lane] & 1) << lane;
  return out;
#endif
}

template <class M>
inline bool any(M m) {
  return bits(m) != 0;
}

/// Lane i of the result is lane i + K of `v`, cyclically.
template <int K, class V>
inline V rotate(V v) {
  constexpr int lanes = int(sizeof(V) / sizeof(Element<V>));
#if defined(__clang__)
  V out;
  for (int lane = 0; lane < lanes; ++lane) out[lane] = v[(lane + K) % lanes];
  return out;
#else
  return __builtin_shuffle(v, (iota<Mask<V>>() + K) & (lanes - 1));
#endif
}

/// The smallest lane, in every lane.
template <class V>
__attribute__((always_inline)) inline V spread_min(V v) {
  constexpr int lanes = int(sizeof(V) / sizeof(Element<V>));
  if constexpr (lanes > 8) v = min(v, rotate<8>(v));
  if constexpr (lanes > 4) v = min(v, rotate<4>(v));
  if constexpr (lanes > 2) v = min(v, rotate<2>(v));
  return min(v, rotate<1>(v));
}

/// The smallest lane.
template <class V>
inline Element<V> reduce_min(V v) {
  return spread_min(v)[0];
}

/// One bit per lane where `a == b`. Compilers take a detour through a vector for bits(a == b).
inline unsigned equal_bits(Double a, Double b) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return whole(_mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_EQ_OQ));
#else
  return bits(a == b);
#endif
}

inline unsigned equal_bits(Float a, Float b) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return whole(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ));
#else
  return bits(a == b);
#endif
}

/// The same for `a <= b`.
inline unsigned at_most_bits(Double a, Double b) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return whole(_mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LE_OQ));
#else
  return bits(a <= b);
#endif
}

/// The lanes of `p[0], p[1], ...` converted to float64. Compilers convert halves of a vector and put them together, hence the
/// intrinsics.
template <class T>
inline Double load_as_double(const T* p) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (std::is_same_v<T, float>) return (Double)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>) return (Double)_mm256_cvtps_pd(_mm_loadu_ps(p));
#endif
  typedef T Packed __attribute__((vector_size(kLanes<double> * sizeof(T))));
  Packed packed;
  __builtin_memcpy(&packed, p, sizeof(Packed));
  return __builtin_convertvector(packed, Double);
}

/// The least multiple of the lanes of T that is at least n: the padded length of a row.
template <class T>
inline int64_t padded(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

/// Scratch memory aligned for vectors; it only grows, so a workspace is allocated once and reused from instance to instance.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  /// Room for `size` elements, with undefined contents. Throws std::bad_alloc.
  T* get(int64_t size) {
    if (size > size_) {
      std::free(data_);
      size_ = 0;
      data_ = static_cast<T*>(std::aligned_alloc(64, (size_t(size) * sizeof(T) + 63) / 64 * 64));
      if (!data_) throw std::bad_alloc();
      size_ = size;
    }
    return data_;
  }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace simd
