// One instance in each SIMD lane: rows of a matrix into lanes, and a batch in groups of lanes.
#pragma once

#include <algorithm>

#include "parallel.hpp"
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

/// out[k] holds entry k of `count` rows, `pitch` apart, of length n, one row in each lane; lanes without a row repeat the first.
/// Where the mask (null: nowhere), in the order of the rows, is false, it is `otherwise`.
template <class T>
void gather_allowed(
    const T* rows, const uint8_t* mask, int64_t pitch, int64_t n, int count, T otherwise, simd::Vector<T>* out) {
  using V = simd::Vector<T>;
  constexpr int size = simd::kLanes<T>;
  typedef uint8_t Bytes __attribute__((vector_size(size)));
  int64_t k = 0;
  for (; k + size <= n; k += size) {
    V square[size];
    for (int lane = 0; lane < size; ++lane) {
      const int64_t place = (lane < count ? lane : 0) * pitch + k;
      square[lane] = simd::load_unaligned<V>(rows + place);
      if (!mask) continue;
      Bytes allowed;
      __builtin_memcpy(&allowed, mask + place, sizeof(Bytes));
      square[lane] = simd::select(__builtin_convertvector(allowed, simd::Mask<V>) != 0, square[lane], simd::broadcast<V>(otherwise));
    }
    transpose(square);
    for (int i = 0; i < size; ++i) out[k + i] = square[i];
  }
  for (; k < n; ++k) {
    for (int lane = 0; lane < size; ++lane) {
      const int64_t place = (lane < count ? lane : 0) * pitch + k;
      out[k][lane] = !mask || mask[place] ? rows[place] : otherwise;
    }
  }
}

/// As gather_allowed, of rows that follow each other, without a mask.
template <class T>
void gather_rows(const T* rows, int64_t n, int count, simd::Vector<T>* out) {
  gather_allowed(rows, static_cast<const uint8_t*>(nullptr), n, n, count, T(0), out);
}

/// Calls `solve(first, count)` of a workspace, made from the batch once for each chunk, for all groups of lanes of T.
///
/// `nanoseconds` is what the whole batch takes on one thread, about. Returns false if memory ran out.
template <class Workspace, class T, class Batch>
bool for_each_group(const Batch& batch, double nanoseconds, int threads) {
  constexpr int size = simd::kLanes<T>;
  if (nanoseconds < 200e3) threads = 1;
  int64_t chunk = threads > 1 ? (batch.count + 4 * threads - 1) / (4 * threads) : batch.count;
  chunk = std::max<int64_t>(1, (chunk + size - 1) / size) * size;
  return parallel::parallel_for((batch.count + chunk - 1) / chunk, threads, [&](int64_t k) {
    Workspace workspace(batch);
    const int64_t last = std::min(batch.count, (k + 1) * chunk);
    for (int64_t b = k * chunk; b < last; b += size) workspace.solve(b, int(std::min<int64_t>(size, last - b)));
  });
}

}  // namespace lanes
