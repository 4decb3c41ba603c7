// Spanning trees of least or greatest cost: Kruskal's algorithm for lists of edges, Prim's for matrices.
//
// Both build the one tree that is least in the order (cost, number of the edge), so ties do not tell them apart.
//
// Kruskal: edges are sorted by keys, integers in the order of the costs, by counting digits, and taken whenever they join two
// trees of the forest so far. Prim: a tree grows from one node; for each node outside, its cheapest edge into the tree is kept,
// and a whole register of nodes is brought up to date at a time. A node in the tree has NaN for that cost, which is less than
// nothing, so it needs no test. Costs of the pairs (i, j) and (j, i) are summed first, in tiles that are transposed in registers.
// Sources: Kruskal (1956); Prim (1957); Knuth, The Art of Computer Programming 3, section 5.2.5 (radix sorting).
#include <algorithm>
#include <cmath>
#include <limits>

#include "lanes.hpp"
#include "parallel.hpp"

namespace {

enum Status : uint8_t { kSolved = 0, kDisconnected = 1 };

template <class T>
using Key = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

/// An unsigned integer that sorts as `x` does; both zeros have the same.
template <class T>
inline Key<T> key_of(T x) {
  constexpr int sign = 8 * sizeof(T) - 1;
  x += T(0);  // -0.0 + 0.0 is 0.0
  Key<T> bits;
  __builtin_memcpy(&bits, &x, sizeof(x));
  return bits ^ (bits >> sign ? ~Key<T>(0) : Key<T>(1) << sign);
}

// ---------------------------------------------------------------------------------------------------------------- lists of edges

template <class K>
struct Entry {
  K key;
  int32_t edge;
  bool operator<(const Entry& other) const { return key < other.key || (key == other.key && edge < other.edge); }
};

constexpr int kDigit = 11;         // bits that are sorted in one pass
constexpr int64_t kFew = 400;      // up to here comparing is faster

template <class T>
struct Batch {
  const T* costs;
  const uint8_t* mask;
  const int64_t* edges;  // tails, then heads
  bool own;              // each instance has edges of its own
  int64_t count, nodes, size;
  bool largest;
  T* solution;
  uint8_t* status;
};

template <class T>
class Kruskal {
  using K = Key<T>;

 public:
  explicit Kruskal(const Batch<T>& batch) : batch_(batch) {
    entries_ = first_.get(batch.size);
    parent_ = parents_.get(batch.nodes);
  }

  void solve(int64_t b) {
    const int64_t* tails = batch_.edges + (batch_.own ? 2 * b * batch_.size : 0);
    const int64_t* heads = tails + batch_.size;
    const int64_t m = collect(b);
    int64_t wanted = begin_forest(b, tails, heads) - 1;
    sort(m);
    T* out = batch_.solution + b * batch_.size;
    std::fill_n(out, batch_.size, T(0));
    for (int64_t i = 0; i < m && wanted > 0; ++i) {
      const int32_t e = entries_[i].edge, tail = root(int32_t(tails[e])), head = root(int32_t(heads[e]));
      if (tail == head) continue;
      parent_[tail] = head;
      out[e] = T(1);
      --wanted;
    }
    batch_.status[b] = wanted > 0 ? kDisconnected : kSolved;
    if (wanted > 0) std::fill_n(out, batch_.size, T(0));
  }

 private:
  const Batch<T>& batch_;
  simd::Buffer<Entry<K>> first_, second_;
  simd::Buffer<int32_t> parents_;
  Entry<K>* entries_;
  int32_t* parent_;

  /// Entries for the edges that may be used; returns how many there are.
  int64_t collect(int64_t b) {
    const T* costs = batch_.costs + b * batch_.size;
    const uint8_t* mask = batch_.mask ? batch_.mask + b * batch_.size : nullptr;
    entries_ = first_.get(batch_.size);
    int64_t m = 0;
    for (int64_t e = 0; e < batch_.size; ++e) {
      const T cost = batch_.largest ? -costs[e] : costs[e];
      entries_[m] = {key_of(cost), int32_t(e)};
      m += (!mask || mask[e]) && cost < std::numeric_limits<T>::infinity();
    }
    return m;
  }

  /// Every node a tree of its own; returns how many there are: those that an edge in the mask names, or all of a shared graph.
  int64_t begin_forest(int64_t b, const int64_t* tails, const int64_t* heads) {
    if (!batch_.own) {
      for (int64_t v = 0; v < batch_.nodes; ++v) parent_[v] = int32_t(v);
      return batch_.nodes;
    }
    const uint8_t* mask = batch_.mask ? batch_.mask + b * batch_.size : nullptr;
    std::fill_n(parent_, batch_.nodes, -1);
    int64_t count = 0;
    for (int64_t e = 0; e < batch_.size; ++e) {
      if (mask && !mask[e]) continue;
      for (const int64_t v : {tails[e], heads[e]}) {
        count += parent_[v] < 0;
        parent_[v] = int32_t(v);
      }
    }
    return count;
  }

  int32_t root(int32_t v) {
    while (parent_[v] != v) v = parent_[v] = parent_[parent_[v]];
    return v;
  }

  /// Sorts the entries: digit after digit from the lowest, each pass keeping the order of the one before.
  void sort(int64_t m) {
    if (m <= kFew) return std::sort(entries_, entries_ + m);
    constexpr int passes = (8 * int(sizeof(K)) + kDigit - 1) / kDigit;
    constexpr int64_t digits = int64_t(1) << kDigit;
    int32_t ends[passes][digits] = {};
    for (int64_t i = 0; i < m; ++i)
      for (int p = 0; p < passes; ++p) ++ends[p][entries_[i].key >> (p * kDigit) & (digits - 1)];
    Entry<K>* other = second_.get(batch_.size);
    for (int p = 0; p < passes; ++p) {
      if (ends[p][entries_[0].key >> (p * kDigit) & (digits - 1)] == m) continue;  // all have the same digit
      int32_t start = 0;
      for (int64_t d = 0; d < digits; ++d) start += std::exchange(ends[p][d], start);
      for (int64_t i = 0; i < m; ++i) other[ends[p][entries_[i].key >> (p * kDigit) & (digits - 1)]++] = entries_[i];
      std::swap(entries_, other);
    }
  }
};

// ---------------------------------------------------------------------------------------------------------------- matrices

template <class T>
class Prim {
  using V = simd::Vector<T>;
  using M = simd::Mask<V>;
  using Number = simd::Element<M>;
  static constexpr int W = simd::kLanes<T>;
  static constexpr T kNever = std::numeric_limits<T>::infinity();

 public:
  Prim(int64_t n, bool largest) : n_(n), row_(simd::padded<T>(n)), largest_(largest) {
    pairs_ = pair_buffer_.get(row_ * row_);
    key_ = key_buffer_.get(row_);
    near_ = near_buffer_.get(row_);
  }

  Status solve(const T* costs, const uint8_t* mask, T* out) {
    add_pairs(costs, mask);
    std::fill_n(out, n_ * n_, T(0));
    std::fill_n(key_, row_, kNever);
    std::fill_n(near_, row_, Number(0));
    for (int64_t v = first_node(mask); v < n_;) {
      key_[v] = std::numeric_limits<T>::quiet_NaN();
      const T least = relax(v);
      if (!(least < kNever)) break;
      v = cheapest(least);
      out[v * n_ + near_[v]] = out[near_[v] * n_ + v] = T(1);
    }
    for (int64_t v = 0; v < n_; ++v) {
      if (std::isnan(key_[v]) || is_padding(v, mask)) continue;
      std::fill_n(out, n_ * n_, T(0));
      return kDisconnected;
    }
    return kSolved;
  }

 private:
  const int64_t n_, row_;
  const bool largest_;
  simd::Buffer<T> pair_buffer_, key_buffer_;
  simd::Buffer<Number> near_buffer_;
  T *pairs_, *key_;  // costs of pairs; of each node's cheapest edge into the tree
  Number* near_;     // where that edge ends

  /// Costs to make least, infinite where there is no edge, as a square of whole tiles.
  void copy(const T* costs, const uint8_t* mask) {
    for (int64_t i = 0; i < n_; ++i) {
      T* row = pairs_ + i * row_;
      const T* from = costs + i * n_;
      if (largest_)
        for (int64_t j = 0; j < n_; ++j) row[j] = -from[j];
      else
        std::copy_n(from, n_, row);
      if (mask)
        for (int64_t j = 0; j < n_; ++j) row[j] = mask[i * n_ + j] ? row[j] : kNever;
      std::fill(row + n_, row + row_, kNever);
    }
    std::fill(pairs_ + n_ * row_, pairs_ + row_ * row_, kNever);
  }

  /// pairs[i][j] = pairs[j][i] = the cost of (i, j) plus that of (j, i).
  void add_pairs(const T* costs, const uint8_t* mask) {
    copy(costs, mask);
    V above[W], below[W];
    for (int64_t i = 0; i < row_; i += W)
      for (int64_t j = i; j < row_; j += W) {
        for (int k = 0; k < W; ++k) below[k] = simd::load<V>(pairs_ + (j + k) * row_ + i);
        lanes::transpose(below);
        for (int k = 0; k < W; ++k) {
          above[k] = simd::load<V>(pairs_ + (i + k) * row_ + j) + below[k];
          simd::store(pairs_ + (i + k) * row_ + j, above[k]);
        }
        if (i == j) continue;
        lanes::transpose(above);
        for (int k = 0; k < W; ++k) simd::store(pairs_ + (j + k) * row_ + i, above[k]);
      }
    for (int64_t i = 0; i < n_; ++i) pairs_[i * row_ + i] = kNever;
  }

  /// Whether the mask excludes all pairs with node v, so that it is not part of the instance.
  bool is_padding(int64_t v, const uint8_t* mask) const {
    if (!mask) return false;
    for (int64_t j = 0; j < n_; ++j)
      if (j != v && mask[v * n_ + j] && mask[j * n_ + v]) return false;
    return true;
  }

  int64_t first_node(const uint8_t* mask) const {
    int64_t v = 0;
    while (v < n_ && is_padding(v, mask)) ++v;
    return v;
  }

  /// Offers all nodes their edges to v; returns the least cost of an edge into the tree. Of equal ones the lower end wins.
  T relax(int64_t v) {
    const T* row = pairs_ + v * row_;
    const M here = simd::broadcast<M>(Number(v));
    V least = simd::broadcast<V>(kNever);
    for (int64_t j = 0; j < row_; j += W) {
      const V offer = simd::load<V>(row + j), key = simd::load<V>(key_ + j);
      const M near = simd::load<M>(near_ + j);
      const M better = (offer < key) | ((offer == key) & (here < near));
      const V now = simd::select(better, offer, key);
      simd::store(key_ + j, now);
      simd::store(near_ + j, better ? here : near);
      least = simd::min(now, least);  // in this order: NaN gives way
    }
    return simd::reduce_min(least);
  }

  /// The node whose cheapest edge costs `least`; of several the one whose edge has the lowest number.
  int64_t cheapest(T least) const {
    const V wanted = simd::broadcast<V>(least);
    int64_t best = -1;
    for (int64_t j = 0; j < row_; j += W)
      for (unsigned found = simd::equal_bits(simd::load<V>(key_ + j), wanted); found; found &= found - 1) {
        const int64_t v = j + __builtin_ctz(found);
        if (best < 0 || number(v) < number(best)) best = v;
      }
    return best;
  }

  int64_t number(int64_t v) const { return std::min<int64_t>(v, near_[v]) * n_ + std::max<int64_t>(v, near_[v]); }
};

// ---------------------------------------------------------------------------------------------------------------- batches

/// Solves `count` instances of `nanoseconds` each with workers from `make`; returns how many failed, or -1 without memory.
template <class Make>
int64_t solve_all(int64_t count, double nanoseconds, int threads, const uint8_t* status, Make make) {
  const bool done = parallel::for_parts(count, nanoseconds, threads, [&](int64_t begin, int64_t end) {
    auto solve = make();
    for (int64_t b = begin; b < end; ++b) solve(b);
  });
  return done ? count - std::count(status, status + count, uint8_t(kSolved)) : -1;
}

template <class T>
struct KruskalWorker {
  Kruskal<T> kruskal;
  void operator()(int64_t b) { kruskal.solve(b); }
};

template <class T>
int64_t solve_lists(const Batch<T>& batch, int threads) {
  return solve_all(batch.count, 20.0 * double(batch.size) + 5.0 * double(batch.nodes) + 50, threads, batch.status,
                   [&] { return KruskalWorker<T>{Kruskal<T>(batch)}; });
}

template <class T>
struct PrimWorker {
  const Batch<T>& batch;
  Prim<T> prim;
  void operator()(int64_t b) {
    const int64_t at = b * batch.nodes * batch.nodes;
    batch.status[b] = prim.solve(batch.costs + at, batch.mask ? batch.mask + at : nullptr, batch.solution + at);
  }
};

template <class T>
int64_t solve_matrices(const Batch<T>& batch, int threads) {
  return solve_all(batch.count, 1.0 * double(batch.nodes * batch.nodes) + 50, threads, batch.status,
                   [&] { return PrimWorker<T>{batch, Prim<T>(batch.nodes, batch.largest)}; });
}

}  // namespace

#define SOLVERLAYERS_SPANNING_TREE(NAME, T)                                                                                   \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_spanning_tree_##NAME(                                \
      const T* costs, const uint8_t* mask, const int64_t* edges, int own, int64_t count, int64_t nodes, int64_t size,         \
      int largest, T* solution, uint8_t* status, int threads) {                                                               \
    return solve_lists(Batch<T>{costs, mask, edges, own != 0, count, nodes, size, largest != 0, solution, status}, threads);  \
  }                                                                                                                           \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_spanning_tree_dense_##NAME(                          \
      const T* costs, const uint8_t* mask, int64_t count, int64_t nodes, int largest, T* solution, uint8_t* status,           \
      int threads) {                                                                                                          \
    return solve_matrices(Batch<T>{costs, mask, nullptr, false, count, nodes, 0, largest != 0, solution, status}, threads);   \
  }

SOLVERLAYERS_SPANNING_TREE(float32, float)
SOLVERLAYERS_SPANNING_TREE(float64, double)
