// Linear assignment of small square matrices by dynamic programming over sets of columns, one instance in each lane.
#pragma once

#include "cost_matrix.hpp"
#include "lanes.hpp"

namespace assignment {

using simd::Mask;
using simd::broadcast;

/// Least cost of matching the first |S| rows with the columns S, for all sets S, with one instance in each lane.
class SubsetMatching {
 public:
  static constexpr int kMaxSize = 8;

  /// Solves instances [b, b + count) of square matrices, count <= kLanes.
  template <class T>
  void solve(const Batch<T>& batch, int64_t b, int count) {
    const int n = int(batch.n), size = n * n;
    const T* scores = batch.scores + b * size;
    const double sign = batch.maximize ? -1 : 1;
    const Mask<Double> valid = read(scores, size, count, sign);
    tabulate(n);
    T* solution = batch.solution + b * size;
    std::memset(solution, 0, sizeof(T) * size * count);
    const int all = (1 << n) - 1;
    for (int lane = 0; lane < count; ++lane, solution += size) {
      batch.status[b + lane] = !valid[lane] ? kInvalid : least_[all][lane] == kInfinity ? kInfeasible : kSolved;
      if (batch.status[b + lane] != kSolved) continue;
      for (int i = n - 1, set = all; i >= 0; --i) {
        const int j = int(last_[set][lane]);
        solution[i * n + j] = T(1);
        set ^= 1 << j;
      }
    }
  }

 private:
  Double cost_[kMaxSize * kMaxSize], least_[1 << kMaxSize];
  simd::Long last_[1 << kMaxSize];  // the column of the last row

  /// Transposes instances into lanes; lanes left over repeat the first one. Gives the lanes without NaN or minus infinity.
  template <class T>
  Mask<Double> read(const T* scores, int size, int count, double sign) {
    Mask<Double> valid = Mask<Double>{} == 0;
    int k = 0;
    for (; k + kLanes <= size; k += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane)
        cost_[k + lane] = simd::load_as_double(scores + (lane < count ? lane : 0) * size + k);
      lanes::transpose(cost_ + k);
    }
    for (; k < size; ++k)
      for (int lane = 0; lane < kLanes; ++lane) cost_[k][lane] = double(scores[(lane < count ? lane : 0) * size + k]);
    for (k = 0; k < size; ++k) {
      cost_[k] *= sign;
      valid &= cost_[k] > broadcast<Double>(-kInfinity);
    }
    return valid;
  }

  void tabulate(int n) {
    if (n == 1) tabulate<1>(n);
    else if (n == 2) tabulate<2>(n);
    else tabulate<3>(n);
  }

  /// Sets that differ in the first kLow columns alone are taken together, which keeps them in registers.
  template <int kLow>
  void tabulate(int n) {
    constexpr int kBlock = 1 << kLow;
    for (int high = 0; high < 1 << n; high += kBlock) {
      const int row = (__builtin_popcount(high) - 1) * n;  // costs of the last row of the set without low columns
      Double least[kBlock];
      simd::Long last[kBlock];
#pragma GCC unroll 8
      for (int low = 0; low < kBlock; ++low) least[low] = broadcast<Double>(kInfinity), last[low] = simd::Long{};
      if (!high) least[0] = Double{};
      for (int rest = high; rest; rest &= rest - 1) {
        const int j = __builtin_ctz(rest);
        const Double* before = least_ + (high ^ (1 << j));
#pragma GCC unroll 8
        for (int low = 0; low < kBlock; ++low) {
          const Double with = before[low] + cost_[row + __builtin_popcount(low) * n + j];
          last[low] = with < least[low] ? simd::Long{} + j : last[low];
          least[low] = simd::min(with, least[low]);
        }
      }
#pragma GCC unroll 8
      for (int low = 1; low < kBlock; ++low)
#pragma GCC unroll 3
        for (int j = kLow - 1; j >= 0; --j) {
          if (!(low >> j & 1)) continue;
          const Double with = least[low ^ (1 << j)] + cost_[row + __builtin_popcount(low) * n + j];
          last[low] = with <= least[low] ? simd::Long{} + j : last[low];  // of equals the lowest column
          least[low] = simd::min(with, least[low]);
        }
#pragma GCC unroll 8
      for (int low = 0; low < kBlock; ++low) least_[high + low] = least[low], last_[high + low] = last[low];
    }
  }
};

}  // namespace assignment
