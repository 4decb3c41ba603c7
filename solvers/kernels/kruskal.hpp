// Spanning trees of lists of edges: Kruskal's algorithm.
//
// Edges are sorted by keys, integers in the order of the costs, by counting digits, and taken whenever they join two trees of the
// forest so far. Sources: Kruskal (1956); Knuth, The Art of Computer Programming 3, section 5.2.5 (radix sorting).
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "simd.hpp"

namespace spanning_tree {

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

}  // namespace spanning_tree
