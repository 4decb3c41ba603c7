// A number for each column of a short row, in registers.
#pragma once

#include "scan.hpp"

namespace assignment {

template <int kVectors>
struct Numbers {
  Double at[kVectors];

  /// The columns of vector v.
  static Long columns(int v) { return simd::iota<Long>() + v * kLanes; }

  void set(int j, Double value) {
    change(j, [value](Double) { return value; });
  }

  void lower(int j, Double by) {
    change(j, [by](Double number) { return number - by; });
  }

  /// A bit for each column whose number is `level`.
  uint64_t equal(Double level) const {
    uint64_t hits = 0;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) hits |= uint64_t(simd::equal_bits(at[v], level)) << v * kLanes;
    return hits;
  }

 private:
  /// Vectors that are many are in memory: then one of them is taken. Otherwise all are gone through, which needs no address.
  template <class Change>
  void change(int j, Change&& changed) {
    const Long column = broadcast<Long>(j);
    if constexpr (kVectors > 8) {
      const int v = j / kLanes;
      at[v] = select<Double>(columns(v) == column, changed(at[v]), at[v]);
    } else {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) at[v] = select<Double>(columns(v) == column, changed(at[v]), at[v]);
    }
  }
};

}  // namespace assignment
