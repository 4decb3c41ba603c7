// Cheapest monotone paths of cells through a batch of matrices, by steps down, to the right, and both (dynamic time warping).
//
// Idea: one matrix in each SIMD lane; the cost of the best path to each cell, row after row. Cells that may not be used cost
// infinity, so the paths of a smaller matrix start at the first cell in use: the place diagonally before it costs nothing. The
// path is read backwards; of equally cheap steps the diagonal one is taken, and then the one down.
// Source: H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word recognition" (1978).
#include <algorithm>
#include <limits>

#include "lanes.hpp"
#include "simd.hpp"

namespace {

enum Status : uint8_t { kSolved = 0, kInfeasible = 1, kInvalid = 2 };

template <class T>
struct Batch {
  const T* cost;         // (count, height, width)
  const uint8_t* mask;   // the same shape, or null
  const int64_t* start;  // (count, 2) first row and column in use; null: 0, 0
  const int64_t* end;    // (count, 2) last row and column in use; null: the last
  int64_t count, height, width;
  T* solution;      // the shape of cost
  uint8_t* status;  // (count)
};

/// Solves as many instances at a time as there are lanes.
template <class T>
class Alignments {
 public:
  using V = simd::Vector<T>;
  static constexpr int kSize = simd::kLanes<T>;

  explicit Alignments(const Batch<T>& batch) : batch_(batch), width_(batch.width), pitch_(batch.width + 1) {
    cost_ = cost_memory_.get(batch.height * width_);
    total_ = total_memory_.get((batch.height + 1) * pitch_);
  }

  /// Solves instances first, ..., first + count - 1; count is at most kSize.
  void solve(int64_t first, int count) {
    const int64_t n = batch_.height * width_;
    lanes::gather_allowed(batch_.cost, batch_.mask, first, n, count, kInfinity, cost_);
    const unsigned invalid = ~lanes::where_all(cost_, n, [](V c) { return c > simd::broadcast<V>(-kInfinity); });
    std::fill_n(total_, pitch_, simd::broadcast<V>(kInfinity));
    for (int64_t row = 0; row < batch_.height; ++row) {
      for (int lane = 0; lane < kSize; ++lane) {
        const int64_t b = first + (lane < count ? lane : 0);
        if (start_row(b) == row) total_[row * pitch_ + start_column(b)][lane] = 0;
      }
      add_row(row);
    }
    std::fill_n(batch_.solution + first * n, count * n, T(0));
    for (int lane = 0; lane < count; ++lane)
      batch_.status[first + lane] = invalid >> lane & 1 ? kInvalid : trace(first + lane, lane);
  }

 private:
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  const Batch<T>& batch_;
  const int64_t width_, pitch_;
  V *cost_, *total_;  // the totals have a border of infinities above and on the left
  simd::Buffer<V> cost_memory_, total_memory_;

  int64_t start_row(int64_t b) const { return batch_.start ? batch_.start[2 * b] : 0; }
  int64_t start_column(int64_t b) const { return batch_.start ? batch_.start[2 * b + 1] : 0; }

  void add_row(int64_t row) {
    const V *above = total_ + row * pitch_, *cost = cost_ + row * width_;
    V* own = total_ + (row + 1) * pitch_;
    V left = own[0] = simd::broadcast<V>(kInfinity);
    for (int64_t k = 0; k < width_; ++k)
      own[k + 1] = left = cost[k] + simd::min(simd::min(above[k], above[k + 1]), left);
  }

  Status trace(int64_t b, int lane) {
    const T* total = reinterpret_cast<const T*>(total_) + lane;
    const int64_t top = start_row(b), first = start_column(b);
    int64_t row = batch_.end ? batch_.end[2 * b] : batch_.height - 1, column = batch_.end ? batch_.end[2 * b + 1] : width_ - 1;
    const auto at = [&](int64_t i, int64_t k) { return total[((i + 1) * pitch_ + k + 1) * kSize]; };
    if (!(at(row, column) < kInfinity)) return kInfeasible;
    T* solution = batch_.solution + b * batch_.height * width_;
    solution[row * width_ + column] = 1;
    while (row != top || column != first) {
      const T both = at(row - 1, column - 1), down = at(row - 1, column), right = at(row, column - 1);
      const bool diagonal = both <= down && both <= right, vertical = diagonal || down <= right;
      row -= vertical;
      column -= diagonal || !vertical;
      solution[row * width_ + column] = 1;
    }
    return kSolved;
  }
};

constexpr double kNanoseconds = 1;  // for one cell of one instance, about

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve(const Batch<T>& batch, int threads) {
  const double work = double(batch.count) * double(batch.height * batch.width) * kNanoseconds;
  const bool done = lanes::for_each_group<Alignments<T>, T>(batch, work, threads);
  return done ? batch.count - std::count(batch.status, batch.status + batch.count, uint8_t(kSolved)) : -1;
}

}  // namespace

#define SOLVERLAYERS_ALIGNMENT(NAME, T)                                                                              \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_alignment_##NAME(                           \
      const T* cost, const uint8_t* mask, const int64_t* start, const int64_t* end, int64_t count, int64_t height,   \
      int64_t width, T* solution, uint8_t* status, int threads) {                                                    \
    return solve(Batch<T>{cost, mask, start, end, count, height, width, solution, status}, threads);                 \
  }

SOLVERLAYERS_ALIGNMENT(float32, float)
SOLVERLAYERS_ALIGNMENT(float64, double)
