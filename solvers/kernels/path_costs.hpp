// How kernels of paths read scores.
#pragma once

#include <cstdint>
#include <limits>

#include "simd.hpp"

/// Scores are costs, of which a negative one is none; or costs or gains, which cost the opposite, and less than nothing counts as
/// nothing. The numbers are those of `Reading` in grid_path.py.
enum class Reading : int { kGains = -1, kCosts = 0, kClippedCosts = 1 };

/// What a score costs. It may be no cost: NaN, or negative where nothing is clipped.
template <class T>
T cost_of(T score, Reading reading) {
  const T cost = reading == Reading::kGains ? -score : score;
  return reading != Reading::kCosts && cost < 0 ? T(0) : cost;
}

/// The score that costs infinity.
template <class T>
T forbidden(Reading reading) {
  return reading == Reading::kGains ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::infinity();
}

/// Turns vectors of scores into costs, none negative, since relaxing ends only then. Returns the lanes where all were costs.
template <class V>
simd::Mask<V> make_costs(V* scores, int64_t n, Reading reading) {
  using T = simd::Element<V>;
  const V signs = simd::broadcast<V>(T(reading == Reading::kGains ? -1 : 1));
  const V least = simd::broadcast<V>(reading == Reading::kCosts ? T(0) : -std::numeric_limits<T>::infinity());
  simd::Mask<V> valid = ~simd::Mask<V>{};
  for (int64_t k = 0; k < n; ++k) {
    const V cost = scores[k] * signs;
    valid &= cost >= least;
    scores[k] = simd::select(cost > V{}, cost, V{});
  }
  return valid;
}
