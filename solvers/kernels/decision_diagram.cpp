// The cheapest set of a family, for a batch of costs; a decision diagram holds the family.
//
// Idea: one instance in each SIMD lane. A node of a diagram asks whether one element is in the set; each path down to the node
// "accept" is a set of the family. So the cheapest set is the shortest path, and the nodes, in an order where children come
// first, need an addition and a minimum each, whatever the costs are: lanes never wait for each other. Nodes that ask for the
// same element follow each other, so its cost stays in a register; two registers of instances share what is read of the diagram.
// Values live in few places, which nodes share one after the other, and stay in the cache; only one bit a lane is kept for the
// way back.
//
// Sums are formed in float64. Of equally cheap sets the one that leaves the element out is taken, from the top.
// Source: Minato, "Zero-suppressed BDDs for set manipulation in combinatorial problems" (1993); Knuth, The Art of Computer
// Programming 4A, section 7.1.4.
#include <algorithm>
#include <limits>

#include "batches.hpp"
#include "simd.hpp"

namespace {

using simd::Double;
constexpr int W = simd::kLanes<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Places 0 and 1 hold the values of "reject" and "accept". Node k is number k + 2 and writes to place to[k]. The caller makes
/// one and keeps it: twelve words of eight bytes.
struct Diagram {
  const int32_t *without, *with, *asked;         // of each node the numbers of its children, and its element
  const int16_t *from_without, *from_with, *to;  // places of the values of its children, and of its own
  const int32_t *element, *start;                // of each group its element, and where its nodes start; one start more
  int64_t nodes, groups, places;
  int64_t top;  // the number of the first node on the way back
};

template <class T>
struct Batch {
  const T* costs;
  const uint8_t* mask;
  int64_t count, size;
  bool largest;
  T* solution;
  uint8_t* status;  // (?) 1 where no set is allowed, or a cost is NaN or minus infinity
};

/// Solves kWide registers of instances at a time.
template <class T, int kWide>
class Descent {
 public:
  static constexpr int kSize = W * kWide;

  Descent(const Diagram& diagram, const Batch<T>& batch) : diagram_(diagram), batch_(batch) {
    cost_ = costs_.get(batch.size * kWide);
    value_ = values_.get(diagram.places * kWide);
    left_ = bits_.get(diagram.nodes * kWide);
  }

  /// Solves instances first, ..., first + count - 1; count is at most kSize.
  void solve(int64_t first, int count) {
    gather(first, count);
    climb();
    for (int lane = 0; lane < count; ++lane) trace(first + lane, lane);
  }

 private:
  const Diagram& diagram_;
  const Batch<T>& batch_;
  simd::Buffer<Double> costs_, values_;
  simd::Buffer<uint8_t> bits_;
  Double *cost_, *value_;
  uint8_t* left_;  // of each node one bit a lane: whether its element is left out of the cheapest set
  Double last_[kWide];
  bool valid_[kSize];

  void gather(int64_t first, int count) {
    for (int lane = 0; lane < kSize; ++lane) {
      const int64_t at = (first + (lane < count ? lane : 0)) * batch_.size;
      double* out = reinterpret_cast<double*>(cost_) + lane;
      valid_[lane] = true;
      for (int64_t e = 0; e < batch_.size; ++e) {
        double cost = batch_.largest ? -double(batch_.costs[at + e]) : double(batch_.costs[at + e]);
        if (batch_.mask && !batch_.mask[at + e]) cost = kInfinity;
        valid_[lane] &= cost > -kInfinity;
        out[e * kSize] = cost;
      }
    }
  }

  void climb() {
    const Diagram& d = diagram_;
    for (int i = 0; i < kWide; ++i) {
      value_[i] = simd::broadcast<Double>(kInfinity);
      value_[kWide + i] = Double{};
      last_[i] = value_[(d.top == 1) * kWide + i];
    }
    for (int64_t g = 0; g < d.groups; ++g) {
      Double cost[kWide];
      for (int i = 0; i < kWide; ++i) cost[i] = cost_[d.element[g] * kWide + i];
      for (int32_t k = d.start[g]; k < d.start[g + 1]; ++k) {
        const Double *without = value_ + d.from_without[k] * kWide, *with = value_ + d.from_with[k] * kWide;
        Double* to = value_ + d.to[k] * kWide;
#pragma GCC unroll 4
        for (int i = 0; i < kWide; ++i) {
          const Double out = without[i], less = simd::min(with[i] + cost[i], out);
          left_[k * kWide + i] = uint8_t(simd::equal_bits(less, out));
          to[i] = last_[i] = less;
        }
      }
    }
  }

  void trace(int64_t b, int lane) {
    T* out = batch_.solution + b * batch_.size;
    std::fill_n(out, batch_.size, T(0));
    batch_.status[b] = !(valid_[lane] && last_[lane / W][lane % W] < kInfinity);
    if (batch_.status[b]) return;
    for (int32_t at = int32_t(diagram_.top); at > 1;) {
      const int32_t k = at - 2;
      const bool left = left_[k * kWide + lane / W] >> (lane % W) & 1;
      out[diagram_.asked[k]] = T(!left);  // no path asks twice; a branch would be mispredicted half of the time
      at = left ? diagram_.without[k] : diagram_.with[k];
    }
  }
};

template <class T, int kWide>
void solve_some(const Diagram& diagram, const Batch<T>& batch, int64_t first, int64_t last) {
  Descent<T, kWide> descent(diagram, batch);
  for (int64_t b = first; b < last; b += descent.kSize) descent.solve(b, int(std::min<int64_t>(descent.kSize, last - b)));
}

/// Returns the number of instances that have a status, or -1 if memory ran out.
template <class T>
int64_t solve(const Diagram& diagram, Batch<T> batch, int threads) {
  const auto own = batches::with_status(batch);
  constexpr int64_t together = 2 * W;
  const double nanoseconds = 2.0 * double(diagram.nodes) / W + 4.0 * double(batch.size);
  const int64_t groups = (batch.count + together - 1) / together;
  const bool done = parallel::for_parts(groups, together * nanoseconds, threads, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * together, last = std::min(batch.count, end * together);
    last - first > W ? solve_some<T, 2>(diagram, batch, first, last) : solve_some<T, 1>(diagram, batch, first, last);
  });
  return batches::unsolved(batch, done);
}

}  // namespace

#define SOLVERLAYERS_DECISION_DIAGRAM(NAME, T)                                                                               \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_decision_diagram_##NAME(                            \
      const T* costs, const uint8_t* mask, const Diagram* diagram, int64_t count, int64_t size, int largest, T* solution,    \
      uint8_t* status, int threads) {                                                                                        \
    return solve(*diagram, Batch<T>{costs, mask, count, size, largest != 0, solution, status}, threads);                     \
  }

SOLVERLAYERS_DECISION_DIAGRAM(float32, float)
SOLVERLAYERS_DECISION_DIAGRAM(float64, double)
