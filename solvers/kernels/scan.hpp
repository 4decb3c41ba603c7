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

/// The lowest of `columns` in the lanes where `values` are the least of all: without a branch, since several often are, and how
/// many is not to be foreseen.
inline int lowest(Double values, Double least, Double columns) {
  return int(simd::spread_min(select<Double>(values == least, columns, broadcast<Double>(kInfinity)))[0]);
}

}  // namespace assignment
