// The nodes that wait in Dijkstra's algorithm: a heap of the nearest, and buckets of those further away.
//
// Source: Cherkassky, Goldberg and Silverstein, "Buckets, heaps, lists, and monotone priority queues" (1999).
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "simd.hpp"

namespace graph_path {

/// A heap whose nodes have four children. Its entries are one integer, the bits of a distance and then a node, because
/// non-negative floats sort as their bits do. Nodes are not moved when their distance falls, but entered again.
template <class T>
class Heap {
 public:
  using Entry = std::conditional_t<sizeof(T) == 8, unsigned __int128, uint64_t>;
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

  static int32_t node_of(Entry entry) { return int32_t(uint32_t(entry)); }
  static T distance_of(Entry entry) {
    const Bits bits = Bits(entry >> 32);
    T out;
    __builtin_memcpy(&out, &bits, sizeof(T));
    return out;
  }

  void reserve(int64_t size) { entries_ = memory_.get(size); }
  void clear() { size_ = 0; }
  bool empty() const { return size_ == 0; }

  void push(T distance, int32_t node) {
    Bits bits;
    __builtin_memcpy(&bits, &distance, sizeof(T));
    const Entry entry = Entry(bits) << 32 | uint32_t(node);
    int64_t i = size_++;
    for (int64_t parent; i > 0 && entry < entries_[parent = (i - 1) / 4]; i = parent) entries_[i] = entries_[parent];
    entries_[i] = entry;
  }

  Entry pop() {
    const Entry top = entries_[0], last = entries_[--size_];
    int64_t i = 0;
    for (int64_t child = 1; child < size_; child = 4 * i + 1) {
      int64_t least = child;
      for (int64_t c = child + 1; c < std::min(child + 4, size_); ++c) least = entries_[c] < entries_[least] ? c : least;
      if (!(entries_[least] < last)) break;
      entries_[i] = entries_[least];
      i = least;
    }
    entries_[i] = last;
    return top;
  }

 private:
  simd::Buffer<Entry> memory_;
  Entry* entries_ = nullptr;
  int64_t size_ = 0;
};

/// The nodes that wait in Dijkstra's algorithm, in buckets of equal ranges of distance. Only those of the nearest bucket are in
/// a heap, so that it is small, and entries that have been overtaken by then never enter it.
template <class T>
class Queue {
 public:
  using Entry = typename Heap<T>::Entry;

  /// `pushes` is the most that there will be, `step` about what an arc costs.
  void reset(int64_t pushes, T step) {
    waiting_ = memory_.get(pushes);
    used_ = 0;
    std::fill_n(first_, kBuckets, kNone);
    beyond_ = kNone;
    start_ = 0;
    nearest_ = 0;
    scale_ = T(kPerStep) / step;
    if (!(scale_ < kInfinity)) scale_ = 0;  // all in the nearest bucket
    heap_.reserve(pushes);
    heap_.clear();
  }

  void push(T distance, int32_t node) {
    const T bucket = (distance - start_) * scale_;
    if (bucket < T(nearest_ + 1)) return heap_.push(distance, node);
    link(used_, bucket);
    waiting_[used_].distance = distance;
    waiting_[used_++].node = node;
  }

  /// Whether no node waits. Entries that are not at the `distances` of their nodes were overtaken.
  bool empty(const T* distances) {
    while (heap_.empty()) {
      if (++nearest_ < kBuckets) {
        for (int32_t i = first_[nearest_]; i != kNone; i = waiting_[i].next)
          if (waiting_[i].distance == distances[waiting_[i].node]) heap_.push(waiting_[i].distance, waiting_[i].node);
      } else if (beyond_ != kNone) {
        spread(distances);
      } else {
        return true;
      }
    }
    return false;
  }

  Entry pop() { return heap_.pop(); }

 private:
  static constexpr int kBuckets = 512, kPerStep = 64;
  static constexpr int32_t kNone = -1;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();
  struct Waiting {
    T distance;
    int32_t node, next;
  };
  Heap<T> heap_;
  simd::Buffer<Waiting> memory_;
  Waiting* waiting_ = nullptr;
  int32_t used_ = 0, nearest_ = 0;
  int32_t first_[kBuckets], beyond_ = kNone;  // lists of waiting nodes, the last one of those beyond the last bucket
  T start_ = 0, scale_ = 0;

  void link(int32_t i, T bucket) {
    int32_t& list = bucket < T(kBuckets) ? first_[int32_t(bucket)] : beyond_;
    waiting_[i].next = std::exchange(list, i);
  }

  /// Puts what is beyond the last bucket into new ones, twice as wide, so that it does not happen often.
  void spread(const T* distances) {
    int32_t list = std::exchange(beyond_, kNone), left = kNone;
    start_ = kInfinity;
    while (list != kNone) {
      const int32_t i = std::exchange(list, waiting_[list].next);
      if (waiting_[i].distance != distances[waiting_[i].node]) continue;
      waiting_[i].next = std::exchange(left, i);
      start_ = std::min(start_, waiting_[i].distance);
    }
    std::fill_n(first_, kBuckets, kNone);
    nearest_ = -1;
    scale_ /= 2;
    while (left != kNone) {
      const int32_t i = std::exchange(left, waiting_[left].next);
      link(i, (waiting_[i].distance - start_) * scale_);
    }
  }
};

}  // namespace graph_path
