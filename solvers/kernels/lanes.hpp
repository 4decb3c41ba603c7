// One instance in each SIMD lane: rows of a matrix into lanes.
#pragma once

#include "simd.hpp"

namespace lanes {

/// a0 b0 a1 b1 ... from the first halves of a and b, or from the second halves.
template <bool second, class V>
inline V interleave(V a, V b) {
  constexpr int size = int(sizeof(V) / sizeof(simd::Element<V>));
  constexpr int start = second ? size / 2 : 0;
#if defined(__clang__)
  V out;
  for (int i = 0; i < size; ++i) out[i] = i % 2 ? b[start + i / 2] : a[start + i / 2];
  return out;
#else
  const simd::Mask<V> i = simd::iota<simd::Mask<V>>();
  return __builtin_shuffle(a, b, start + (i >> 1) + (i & 1) * size);
#endif
}

/// The transpose of a square of numbers. Interleaving the two halves of the rows log2(size) times is one.
template <class V>
inline void transpose(V* square) {
  constexpr int size = int(sizeof(V) / sizeof(simd::Element<V>));
  V other[size];
#pragma GCC unroll 8
  for (int step = 1; step < size; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < size / 2; ++i) {
      other[2 * i] = interleave<false>(square[i], square[i + size / 2]);
      other[2 * i + 1] = interleave<true>(square[i], square[i + size / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < size; ++i) square[i] = other[i];
  }
}

/// out[k] holds entry k of `count` rows of length n, one row in each lane; lanes without a row repeat the first.
template <class T>
void gather_rows(const T* rows, int64_t n, int count, simd::Vector<T>* out) {
  using V = simd::Vector<T>;
  constexpr int size = simd::kLanes<T>;
  int64_t k = 0;
  for (; k + size <= n; k += size) {
    V square[size];
    for (int lane = 0; lane < size; ++lane) square[lane] = simd::load_unaligned<V>(rows + (lane < count ? lane : 0) * n + k);
    transpose(square);
    for (int i = 0; i < size; ++i) out[k + i] = square[i];
  }
  for (; k < n; ++k)
    for (int lane = 0; lane < size; ++lane) out[k][lane] = rows[(lane < count ? lane : 0) * n + k];
}

}  // namespace lanes
