// Cheapest monotone paths of cells through a batch of matrices, by steps down, to the right, and both (dynamic time warping).
//
// Idea: one matrix in each SIMD lane; the cost of the best path to each cell, row after row. Cells that may not be used cost
// infinity, so the paths of a smaller matrix start at the first cell in use: the place diagonally before it costs nothing. Of
// each cell two bits a lane are kept, which say by which step it is reached best; the path is read backwards along them. Of
// equally cheap steps the diagonal one is taken, and then the one down.
// Source: H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word recognition" (1978).
#include <algorithm>
#include <limits>

#include "batches.hpp"
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

  explicit Alignments(const Batch<T>& batch) : batch_(batch), width_(batch.width) {
    cost_ = cost_memory_.get(width_);
    total_ = total_memory_.get(width_ + 1);
    step_ = step_memory_.get(batch.height * width_);
  }

  /// Solves instances first, ..., first + count - 1; count is at most kSize.
  void solve(int64_t first, int count) {
    const int64_t n = batch_.height * width_;
    valid_ = ~simd::Mask<V>{};
    V last = simd::broadcast<V>(kInfinity);  // the cost of the path to the last cell in use
    std::fill_n(total_, width_ + 1, last);
    for (int64_t row = 0; row < batch_.height; ++row) {
      for (int lane = 0; lane < kSize; ++lane) {
        const int64_t b = first + (lane < count ? lane : 0);
        if (start_row(b) == row) total_[start_column(b)][lane] = 0;
      }
      const int64_t place = first * n + row * width_;
      lanes::gather_allowed(batch_.cost + place, batch_.mask ? batch_.mask + place : nullptr, n, width_, count, kInfinity, cost_);
      add_row(step_ + row * width_);
      for (int lane = 0; lane < count; ++lane)
        if (end_row(first + lane) == row) last[lane] = total_[end_column(first + lane) + 1][lane];
    }
    std::fill_n(batch_.solution + first * n, count * n, T(0));
    const unsigned invalid = ~simd::bits(valid_);
    for (int lane = 0; lane < count; ++lane) {
      uint8_t& status = batch_.status[first + lane];
      status = invalid >> lane & 1 ? kInvalid : last[lane] < kInfinity ? kSolved : kInfeasible;
      if (status == kSolved) trace(first + lane, lane);
    }
  }

 private:
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();
  struct Step {
    uint16_t diagonal, vertical;  // a bit for each lane; neither: the step to the right
  };

  const Batch<T>& batch_;
  const int64_t width_;
  V *cost_, *total_;  // of one row; the totals have an infinity on the left
  Step* step_;
  simd::Mask<V> valid_;
  simd::Buffer<V> cost_memory_, total_memory_;
  simd::Buffer<Step> step_memory_;

  int64_t start_row(int64_t b) const { return batch_.start ? batch_.start[2 * b] : 0; }
  int64_t start_column(int64_t b) const { return batch_.start ? batch_.start[2 * b + 1] : 0; }
  int64_t end_row(int64_t b) const { return batch_.end ? batch_.end[2 * b] : batch_.height - 1; }
  int64_t end_column(int64_t b) const { return batch_.end ? batch_.end[2 * b + 1] : width_ - 1; }

  /// Turns the totals of the row above into those of this row.
  void add_row(Step* step) {
    V both = total_[0], left = simd::broadcast<V>(kInfinity);
    simd::Mask<V> valid = valid_;
    total_[0] = left;
    for (int64_t k = 0; k < width_; ++k) {
      const V down = total_[k + 1], best = simd::min(both, down);
      valid &= cost_[k] > simd::broadcast<V>(-kInfinity);
      step[k] = Step{uint16_t(simd::bits((both <= down) & (both <= left))), uint16_t(simd::bits(down <= left))};
      total_[k + 1] = left = cost_[k] + simd::min(best, left);
      both = down;
    }
    valid_ = valid;
  }

  void trace(int64_t b, int lane) {
    const int64_t top = start_row(b), first = start_column(b);
    int64_t row = end_row(b), column = end_column(b);
    T* solution = batch_.solution + b * batch_.height * width_;
    solution[row * width_ + column] = 1;
    while (row != top || column != first) {
      const Step step = step_[row * width_ + column];
      const bool diagonal = step.diagonal >> lane & 1, vertical = diagonal || (step.vertical >> lane & 1);
      row -= vertical;
      column -= diagonal || !vertical;
      solution[row * width_ + column] = 1;
    }
  }
};

constexpr double kNanoseconds = 1;  // for one cell of one instance, about

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve(const Batch<T>& batch, int threads) {
  const double work = double(batch.count) * double(batch.height * batch.width) * kNanoseconds;
  const bool done = lanes::for_each_group<Alignments<T>, T>(batch, work, threads);
  return batches::unsolved(batch, done);
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
