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
    least_[0] = Double{};
    for (int set = 1; set < 1 << n; ++set) {
      const Double* row = cost_ + (__builtin_popcount(set) - 1) * n;
      int rest = set, j = __builtin_ctz(rest);
      Double least = least_[set ^ (1 << j)] + row[j];
      simd::Long last = simd::Long{} + j;
      while (rest &= rest - 1) {
        j = __builtin_ctz(rest);
        const Double with = least_[set ^ (1 << j)] + row[j];
        last = with < least ? simd::Long{} + j : last;
        least = simd::min(with, least);
      }
      least_[set] = least;
      last_[set] = last;
    }
  }
};

}  // namespace assignment
