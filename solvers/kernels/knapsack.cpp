// Knapsacks: the most valuable items whose weights stay within the capacity, in one dimension or several.
//
// Integer weights: value[c] is the best of the items so far within capacity c, and one more item of value v and weight w makes it
// max(value[c], value[c - w] + v). That is done for a register of capacities at a time, from the highest down, in place; one bit
// for each item and capacity says whether the item was taken. Two bounds cut the table: capacities beyond the weights so far are
// all alike, and those that the items to come cannot reduce the full capacity to are never asked for. In several dimensions the
// capacities form a grid, whose rows run along the last dimension.
//
// Other weights, or integers for which the table is too large: depth first branch and bound over the items in the order of value
// for weight. A partial choice is given up when the fractional knapsack of the items left, in any one dimension, cannot beat the
// best that is known. Exact, though the time can grow exponentially. Mostly it does not, and is over long before a large table
// would be, so instances with such a table are searched first, for as long as the table would take.
// Sources: Bellman (1957); Dantzig (1957); Kolesar (1967); Horowitz and Sahni (1974).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "parallel.hpp"
#include "simd.hpp"

namespace {

constexpr double kLargestGrid = 1 << 24, kLargestTable = 1 << 28;  // capacities; times items
constexpr int64_t kEntriesPerBound = 64;  // of a table are filled in the time that a bound takes, for each dimension
constexpr int64_t kLeastBounds = 16;      // for each item: searches that may not take so many are not begun
constexpr double kRounding = 1e-12;  // by which share of a capacity sums of weights that are not whole may exceed it

template <class T>
struct Batch {
  const T* values;
  const double* weights;   // (count, size, dimensions), not negative
  const double* capacity;  // (count, dimensions), not negative
  const uint8_t* mask;
  int64_t count, size, dimensions;
  bool integer;
  T* solution;
};

/// The items of one instance that may be worth taking.
template <class T>
class Knapsack {
 public:
  explicit Knapsack(const Batch<T>& batch) : batch_(batch), d_(batch.dimensions), slack_(batch.integer ? 1 : 1 + kRounding) {}

  void solve(int64_t b) {
    out_ = batch_.solution + b * batch_.size;
    std::fill_n(out_, batch_.size, T(0));
    collect(b);
    reduce_capacity(b);
    if (item_.empty()) return;
    if (!batch_.integer || !fits_a_table()) {
      search(std::numeric_limits<int64_t>::max());
      return;
    }
    const int64_t bounds = rows_ * row_ / (kEntriesPerBound * d_);
    if (bounds < kLeastBounds * items() || !search(bounds)) fill_table();
  }

 private:
  using V = simd::Vector<T>;
  static constexpr int64_t W = simd::kLanes<T>;

  const Batch<T>& batch_;
  const int64_t d_;
  const double slack_;  // times this a capacity is still kept
  T* out_ = nullptr;
  std::vector<int64_t> item_;            // their numbers, ascending
  std::vector<T> value_;                 // all positive
  std::vector<double> weight_;           // (items, dimensions)
  std::vector<double> capacity_, total_;
  simd::Buffer<T> table_;
  simd::Buffer<uint8_t> taken_;

  int64_t items() const { return int64_t(item_.size()); }

  /// Takes what weighs nothing and drops what is worth nothing or too heavy.
  void collect(int64_t b) {
    const T* values = batch_.values + b * batch_.size;
    const double* weights = batch_.weights + b * batch_.size * d_;
    const double* capacity = batch_.capacity + b * d_;
    item_.clear(), value_.clear(), weight_.clear();
    total_.assign(d_, 0);
    for (int64_t i = 0; i < batch_.size; ++i) {
      if ((batch_.mask && !batch_.mask[b * batch_.size + i]) || !(values[i] > 0)) continue;
      const double* w = weights + i * d_;
      bool fits = true, light = true;
      for (int64_t k = 0; k < d_; ++k) fits &= w[k] <= slack_ * capacity[k], light &= w[k] == 0;
      if (light) out_[i] = T(1);
      if (light || !fits) continue;
      item_.push_back(i);
      value_.push_back(values[i]);
      weight_.insert(weight_.end(), w, w + d_);
      for (int64_t k = 0; k < d_; ++k) total_[k] += w[k];
    }
  }

  /// No more capacity than the items can use; whole numbers if the weights are.
  void reduce_capacity(int64_t b) {
    capacity_.assign(batch_.capacity + b * d_, batch_.capacity + (b + 1) * d_);
    for (int64_t k = 0; k < d_; ++k) {
      capacity_[k] = slack_ * std::min(capacity_[k], total_[k]);
      if (batch_.integer) capacity_[k] = std::floor(capacity_[k]);
    }
  }

  // -------------------------------------------------------------------------------------------------------------- tables

  int64_t row_ = 0, rows_ = 0;            // capacities in the last dimension, with padding, and in all others together
  std::vector<int64_t> stride_, extent_;  // of the grid, in table entries and capacities

  bool fits_a_table() {
    double grid = 1;
    for (const double c : capacity_) grid *= c + 16;
    if (grid > kLargestGrid || grid * double(items()) > kLargestTable) return false;
    extent_.resize(d_), stride_.resize(d_);
    for (int64_t k = 0; k < d_; ++k) extent_[k] = int64_t(capacity_[k]) + 1;
    row_ = (extent_[d_ - 1] + 15) / 16 * 16;  // whole registers, and whole bytes of bits
    stride_[d_ - 1] = 1;
    int64_t size = row_;
    for (int64_t k = d_ - 2; k >= 0; --k) stride_[k] = size, size *= extent_[k];
    rows_ = size / row_;
    return true;
  }

  void fill_table() {
    const int64_t size = rows_ * row_;
    T* best = table_.get(size);
    std::fill_n(best, size, T(0));
    uint8_t* taken = taken_.get(items() * (size / 8));
    std::vector<double> before(d_, 0.0), after = total_;
    std::vector<int64_t> low(d_), high(d_), shift(d_);
    for (int64_t i = 0; i < items(); ++i) {
      for (int64_t k = 0; k < d_; ++k) {
        const double w = weight_[i * d_ + k];
        shift[k] = int64_t(w);
        before[k] += w, after[k] -= w;
        low[k] = std::max(shift[k], int64_t(capacity_[k] - std::min(capacity_[k], after[k])));
        high[k] = extent_[k] - 1;
      }
      // In one dimension capacities beyond the weights so far would repeat the last; they are filled in when first needed.
      uint8_t* bits = taken + i * (size / 8);
      if (d_ == 1) offer_in_line(best, bits, value_[i], shift[0], low[0], int64_t(before[0]));
      else offer(best, bits, value_[i], shift, low, high);
    }
    trace(taken, size);
  }

  /// One dimension: entries beyond the weights so far, `used`, are made when an item first reaches them.
  void offer_in_line(T* best, uint8_t* taken, T value, int64_t shift, int64_t low, int64_t used) {
    const int64_t top = extent_[0] - 1, last = std::min(top, used), known = std::min(top, used - shift);
    std::fill(best + known + 1, best + last + 1, best[known]);
    row(best, best - shift, taken, value, low, last);
    last_.push_back(last);
  }
  std::vector<int64_t> last_;  // up to which capacity each item has bits

  /// Offers an item to the capacities of all rows of the grid, the highest first.
  void offer(T* best, uint8_t* taken, T value, const std::vector<int64_t>& shift, const std::vector<int64_t>& low,
             const std::vector<int64_t>& high) {
    int64_t back = 0;
    for (int64_t k = 0; k < d_; ++k) back += shift[k] * stride_[k];
    std::vector<int64_t> at(high);  // the row, by its place in each dimension but the last
    for (;;) {
      int64_t start = 0;
      for (int64_t k = 0; k + 1 < d_; ++k) start += at[k] * stride_[k];
      row(best + start, best + start - back, taken + start / 8, value, low[d_ - 1], high[d_ - 1]);
      int64_t k = d_ - 2;
      while (k >= 0 && at[k] == low[k]) at[k] = high[k], --k;
      if (k < 0) return;
      --at[k];
    }
  }

  /// now[c] = max(now[c], then[c] + value) for c from `high` down to `low`, with a bit where the item is taken.
  static void row(T* now, const T* then, uint8_t* taken, T value, int64_t low, int64_t high) {
    const V gain = simd::broadcast<V>(value);
    int64_t c = high / W * W;
    for (; c >= low; c -= W) step(now + c, then + c, taken, c, gain);
    if (c + W > low && c >= 0) {  // the register that `low` is inside of: lanes below it stay as they are
      V kept = simd::load_unaligned<V>(now + c);
      V with = load_from(then + c, low - c) + gain;
      const simd::Mask<V> inside = simd::iota<simd::Mask<V>>() >= simd::Element<simd::Mask<V>>(low - c);
      const simd::Mask<V> better = (with > kept) & inside;
      simd::store_unaligned(now + c, better ? with : kept);
      put(taken, c, simd::bits(better));
    }
  }

  static void step(T* now, const T* then, uint8_t* taken, int64_t c, V gain) {
    const V kept = simd::load_unaligned<V>(now), with = simd::load_unaligned<V>(then) + gain;
    const simd::Mask<V> better = with > kept;
    simd::store_unaligned(now, better ? with : kept);
    put(taken, c, simd::bits(better));
  }

  /// The lanes from `first` on; those before it may lie outside the table.
  static V load_from(const T* p, int64_t first) {
    V v{};
    for (int64_t lane = first; lane < W; ++lane) v[lane] = p[lane];
    return v;
  }

  /// Sets the bits of W capacities from c on, a multiple of W.
  static void put(uint8_t* taken, int64_t c, unsigned bits) {
    if constexpr (W == 16) {
      const uint16_t both = uint16_t(bits);
      __builtin_memcpy(taken + c / 8, &both, 2);
    } else if constexpr (W == 8) {
      taken[c / 8] = uint8_t(bits);
    } else {
      const int place = int(c % 8);
      const uint8_t others = uint8_t(~(((1u << W) - 1) << place));
      taken[c / 8] = uint8_t((taken[c / 8] & others) | bits << place);
    }
  }

  /// Follows the bits from the full capacity, last item first.
  void trace(const uint8_t* taken, int64_t size) {
    std::vector<int64_t> left(d_);
    for (int64_t k = 0; k < d_; ++k) left[k] = extent_[k] - 1;
    for (int64_t i = items() - 1; i >= 0; --i) {
      if (d_ == 1) left[0] = std::min(left[0], last_[i]);
      int64_t at = 0;
      bool fits = true;
      for (int64_t k = 0; k < d_; ++k) at += left[k] * stride_[k], fits &= double(left[k]) >= weight_[i * d_ + k];
      if (!fits || !(taken[i * (size / 8) + at / 8] >> (at % 8) & 1)) continue;
      out_[item_[i]] = T(1);
      for (int64_t k = 0; k < d_; ++k) left[k] -= int64_t(weight_[i * d_ + k]);
    }
    last_.clear();
  }

  // -------------------------------------------------------------------------------------------------------------- search

  std::vector<int64_t> order_;                // items by value for weight
  std::vector<std::vector<int64_t>> sorted_;  // for each dimension, places in `order_` by value for that weight
  std::vector<double> left_, gain_, load_;
  std::vector<uint8_t> in_, best_in_;
  double best_ = 0;  // the greatest value known

  /// Depth first, the branch that takes an item before the one that leaves it. False if it would take more `bounds`.
  bool search(int64_t bounds) {
    prepare();
    double value = 0;
    int64_t place = 0;
    for (;;) {
      while (place < items()) {  // go down as long as it may pay
        if (bounds-- == 0) return false;
        if (bound(place, value) <= best_) break;
        in_[place] = fits(place);
        if (in_[place]) change(place, -1, value);
        ++place;
      }
      if (place == items() && value > best_) best_ = value, best_in_ = in_;
      while (--place >= 0 && !in_[place]) {  // back to the last item that was taken
      }
      if (place < 0) break;
      change(place, 1, value);
      in_[place++] = 0;
    }
    for (int64_t place = 0; place < items(); ++place)
      if (best_in_[place]) out_[item_[order_[place]]] = T(1);
    return true;
  }

  void prepare() {
    const int64_t m = items();
    order_.resize(m), gain_.resize(m), load_.resize(m * d_);
    std::iota(order_.begin(), order_.end(), 0);
    std::vector<double> worth(m);
    for (int64_t i = 0; i < m; ++i) {
      double share = 0;
      for (int64_t k = 0; k < d_; ++k) share += capacity_[k] > 0 ? weight_[i * d_ + k] / capacity_[k] : 0;
      worth[i] = double(value_[i]) / share;
    }
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) { return worth[a] > worth[b]; });
    for (int64_t p = 0; p < m; ++p) {
      gain_[p] = double(value_[order_[p]]);
      for (int64_t k = 0; k < d_; ++k) load_[p * d_ + k] = weight_[order_[p] * d_ + k];
    }
    sorted_.assign(d_, std::vector<int64_t>(m));
    for (int64_t k = 0; k < d_; ++k) {
      std::iota(sorted_[k].begin(), sorted_[k].end(), 0);
      std::stable_sort(sorted_[k].begin(), sorted_[k].end(),
                       [&](int64_t a, int64_t b) { return gain_[a] * load_[b * d_ + k] > gain_[b] * load_[a * d_ + k]; });
    }
    left_ = capacity_;
    in_.assign(m, 0), best_in_.assign(m, 0);
    best_ = 0;
  }

  bool fits(int64_t place) const {
    for (int64_t k = 0; k < d_; ++k)
      if (load_[place * d_ + k] > left_[k]) return false;
    return true;
  }

  /// Takes an item out of (sign 1) or into (-1) the knapsack. What is left is summed anew, so that no rounding piles up.
  void change(int64_t place, int sign, double& value) {
    in_[place] = sign < 0;
    value = 0;
    left_ = capacity_;
    for (int64_t p = 0; p <= place; ++p) {
      if (!in_[p]) continue;
      value += gain_[p];
      for (int64_t k = 0; k < d_; ++k) left_[k] -= load_[p * d_ + k];
    }
  }

  /// At most this value can be had with the items from `place` on: fractions of them are allowed, in each dimension alone.
  double bound(int64_t place, double value) const {
    double least = std::numeric_limits<double>::infinity();
    for (int64_t k = 0; k < d_; ++k) {
      double left = left_[k], total = value;
      for (const int64_t p : sorted_[k]) {
        if (p < place) continue;
        const double load = load_[p * d_ + k];
        if (load > left) {
          total += gain_[p] * (left / load);
          break;
        }
        left -= load;
        total += gain_[p];
      }
      least = std::min(least, total);
    }
    return least * (1 + 1e-14);
  }
};

template <class T>
int64_t solve_batch(const Batch<T>& batch, int threads) {
  double capacities = 1;
  for (int64_t k = 0; k < batch.dimensions && batch.count; ++k) capacities *= 1 + batch.capacity[k];
  const double cost = 200 + double(batch.size) * (20 + std::min(1e7, 0.1 * capacities));
  const bool done = parallel::for_parts(batch.count, cost, threads, [&](int64_t begin, int64_t end) {
    Knapsack<T> knapsack(batch);
    for (int64_t b = begin; b < end; ++b) knapsack.solve(b);
  });
  return done ? 0 : -1;
}

}  // namespace

#define SOLVERLAYERS_KNAPSACK(NAME, T)                                                                                        \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_knapsack_##NAME(                                     \
      const T* values, const double* weights, const double* capacity, const uint8_t* mask, int64_t count, int64_t size,       \
      int64_t dimensions, int integer, T* solution, int threads) {                                                            \
    return solve_batch(Batch<T>{values, weights, capacity, mask, count, size, dimensions, integer != 0, solution}, threads);  \
  }

SOLVERLAYERS_KNAPSACK(float32, float)
SOLVERLAYERS_KNAPSACK(float64, double)
