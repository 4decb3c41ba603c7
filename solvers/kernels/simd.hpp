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

/// One bit per lane of a mask, lane 0 lowest.
inline unsigned bits(Int m) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return unsigned(_mm512_movepi32_mask((__m512i)m));
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
  return unsigned(_mm512_movepi64_mask((__m512i)m));
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

/// The smallest lane.
template <class V>
inline Element<V> reduce_min(V v) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (std::is_same_v<V, Float>) return _mm512_reduce_min_ps((__m512)v);
  if constexpr (std::is_same_v<V, Double>) return _mm512_reduce_min_pd((__m512d)v);
#endif
  Element<V> out = v[0];
  for (int lane = 1; lane < int(sizeof(V) / sizeof(Element<V>)); ++lane) out = v[lane] < out ? v[lane] : out;
  return out;
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
