// What scans of a row are made of.
#pragma once

#include "cost_matrix.hpp"

namespace assignment {

using simd::Long;
using simd::Mask;
using simd::broadcast;
using simd::load;
using simd::select;
using simd::store;

/// From the least and second least number of each lane those of all lanes, in every lane: call with half the lanes.
template <int kStep = kLanes / 2>
inline void merge(Double& first, Double& second) {
  const Double other = simd::rotate<kStep>(first);
  second = simd::min(simd::min(second, simd::rotate<kStep>(second)), simd::max(first, other));
  first = simd::min(first, other);
  if constexpr (kStep > 1) merge<kStep / 2>(first, second);
}

/// The lowest of the columns in the lanes of `hits`.
inline int lowest(unsigned hits, Long columns) {
  alignas(simd::kBytes) int64_t column[kLanes];
  store(column, columns);
  int64_t least = column[__builtin_ctz(hits)];
  while (hits &= hits - 1) least = std::min(least, column[__builtin_ctz(hits)]);
  return int(least);
}

}  // namespace assignment
