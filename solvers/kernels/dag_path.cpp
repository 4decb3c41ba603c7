// Best paths in directed acyclic graphs that a batch of instances shares, with scores of any sign on the arcs.
//
// Idea: one instance in each SIMD lane. Each arc leads to a node of a greater number, so one pass over the nodes in order finds
// the value of the best path from the source to each. The path is read backwards; of equally good arcs the first is taken.
// Several arcs may share a score, and an arc may have none, so that many dynamic programs are such graphs.
#include <algorithm>
#include <limits>

#include "batches.hpp"
#include "lanes.hpp"
#include "simd.hpp"

namespace {

enum Status : uint8_t { kSolved = 0, kInfeasible = 1, kInvalid = 2 };

template <class T>
struct Batch {
  const T* score;         // (count, scores)
  const uint8_t* mask;    // the same shape, or null
  const int32_t* start;   // (nodes + 1): the arcs into node v are start[v], ..., start[v + 1] - 1
  const int32_t *tail, *which;  // of each arc the node it comes from, less than v, and its score; `scores` for an arc with none
  const int64_t *source, *target;  // (count)
  int64_t count, nodes, scores;
  T* uses;          // (count, scores): how often the path takes arcs with each score
  uint8_t* status;  // (count)
};

/// Solves as many instances at a time as there are lanes.
template <class T>
class BestPaths {
 public:
  using V = simd::Vector<T>;
  static constexpr int kSize = simd::kLanes<T>;

  explicit BestPaths(const Batch<T>& batch) : batch_(batch) {
    score_ = score_memory_.get(batch.scores + 1);
    value_ = value_memory_.get(batch.nodes);
  }

  /// Solves instances first, ..., first + count - 1; count is at most kSize.
  void solve(int64_t first, int count) {
    const int64_t n = batch_.scores;
    const uint8_t* mask = batch_.mask ? batch_.mask + first * n : nullptr;
    lanes::gather_allowed(batch_.score + first * n, mask, n, n, count, -kInfinity, score_);
    score_[n] = V{};
    std::fill_n(value_, batch_.nodes, simd::broadcast<V>(-kInfinity));
    for (int lane = 0; lane < kSize; ++lane) value_[batch_.source[first + (lane < count ? lane : 0)]][lane] = 0;
    most_ = simd::broadcast<V>(-kInfinity);
    for (int64_t v = 0; v < batch_.nodes; ++v) enter(v);
    const unsigned invalid = ~simd::bits(most_ < simd::broadcast<V>(kInfinity));
    for (int lane = 0; lane < count; ++lane)
      batch_.status[first + lane] = invalid >> lane & 1 ? unused(first + lane, kInvalid) : trace(first + lane, lane);
  }

 private:
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  const Batch<T>& batch_;
  V *score_, *value_;
  V most_;  // the greatest score of an arc
  simd::Buffer<V> score_memory_, value_memory_;

  void enter(int64_t v) {
    V best = value_[v], other = best, most = most_;
    int32_t arc = batch_.start[v];
    const int32_t end = batch_.start[v + 1];
    for (; arc + 2 <= end; arc += 2) {  // two chains of comparisons, which do not wait for each other
      const V one = score_[batch_.which[arc]], two = score_[batch_.which[arc + 1]];
      best = simd::max(best, value_[batch_.tail[arc]] + one);
      other = simd::max(other, value_[batch_.tail[arc + 1]] + two);
      most = simd::max(most, simd::max(one, two));
    }
    if (arc < end) {
      best = simd::max(best, value_[batch_.tail[arc]] + score_[batch_.which[arc]]);
      most = simd::max(most, score_[batch_.which[arc]]);
    }
    value_[v] = simd::max(best, other);
    most_ = most;
  }

  Status unused(int64_t b, Status status) {
    std::fill_n(batch_.uses + b * batch_.scores, batch_.scores, T(0));
    return status;
  }

  Status trace(int64_t b, int lane) {
    const T *value = reinterpret_cast<const T*>(value_) + lane, *score = reinterpret_cast<const T*>(score_) + lane;
    T* uses = batch_.uses + b * batch_.scores;
    unused(b, kSolved);
    int64_t v = batch_.target[b];
    if (!(value[v * kSize] > -kInfinity)) return kInfeasible;
    while (v != batch_.source[b]) {
      int32_t arc = batch_.start[v];
      while (value[batch_.tail[arc] * int64_t(kSize)] + score[batch_.which[arc] * int64_t(kSize)] != value[v * kSize]) ++arc;
      if (batch_.which[arc] < batch_.scores) uses[batch_.which[arc]] += 1;
      v = batch_.tail[arc];
    }
    return kSolved;
  }
};

constexpr double kNanoseconds = 0.5;  // for one arc of one instance, about

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve(const Batch<T>& batch, int threads) {
  const double work = double(batch.count) * (double(batch.start[batch.nodes]) + double(batch.scores)) * kNanoseconds;
  const bool done = lanes::for_each_group<BestPaths<T>, T>(batch, work, threads);
  return batches::unsolved(batch, done);
}

}  // namespace

#define SOLVERLAYERS_DAG_PATH(NAME, T)                                                                                    \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_dag_path_##NAME(                                 \
      const T* score, const uint8_t* mask, const int32_t* start, const int32_t* tail, const int32_t* which,               \
      const int64_t* source, const int64_t* target, int64_t count, int64_t nodes, int64_t scores, T* uses,                \
      uint8_t* status, int threads) {                                                                                     \
    return solve(Batch<T>{score, mask, start, tail, which, source, target, count, nodes, scores, uses, status}, threads); \
  }

SOLVERLAYERS_DAG_PATH(float32, float)
SOLVERLAYERS_DAG_PATH(float64, double)
