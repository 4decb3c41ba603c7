// Cheapest paths in graphs that share their edges, with one instance in each SIMD lane.
//
// The distances are the least solution of d[v] = min d[u] + c[u, v]. Nodes wait in line in the order in which Dijkstra's
// algorithm settles them under the mean costs of some instances, or in one that is known from similar costs; a node whose
// distance has fallen in some lane is put (back) into its place, and the line is walked through until it is empty. With costs
// that are alike each node is relaxed a few times for all lanes together.
//
// Source: label correcting in topological order of a reference solution; compare Bertsekas, "A simple and fast label
// correcting algorithm for shortest paths" (1993).
#pragma once

#include "dijkstra.hpp"
#include "lanes.hpp"
#include "path_tracer.hpp"

namespace graph_path {

/// The order in which nodes wait in line, and the outgoing arcs in that order, between places in line.
struct Line {
  const int32_t *place_of;            // by node
  const int32_t *start, *head, *edge;  // by place
};

/// As many instances at a time as there are lanes.
template <class T>
class Lanes {
 public:
  using V = simd::Vector<T>;
  static constexpr int kSize = simd::kLanes<T>;

  Lanes(const Batch<T>& batch, const Graph& graph) : batch_(batch), graph_(graph) {}

  /// Makes the line in the order that is `known`, or else of the mean costs of the first instances, and writes that to `made`.
  Line make_line(const int32_t* known, int32_t* made, Dijkstra<T>& dijkstra, simd::Buffer<int32_t>& memory) {
    const int64_t n = graph_.nodes, arcs = graph_.out.start[n];
    int32_t* place_of = memory.get(3 * n + 1 + 2 * arcs);
    int32_t *order = place_of + n, *start = order + n, *head = start + n + 1, *edge = head + arcs;
    std::fill_n(place_of, n, -1);
    int32_t placed = 0;
    const auto append = [&](int32_t v) {
      if (v >= 0 && v < n && place_of[v] < 0) order[place_of[v] = placed++] = v;
    };
    if (known) {
      std::for_each_n(known, n, append);
    } else {
      const int64_t some = std::min<int64_t>(8, batch_.count), target = batch_.target[0];
      const bool one_target = std::all_of(batch_.target, batch_.target + some, [&](int64_t t) { return t == target; });
      const T reach = T(1.15);  // in most instances the target is not further than that beyond where it is on average
      dijkstra.run(graph_, mean_costs(some), int32_t(batch_.source[0]), one_target ? int32_t(target) : -1, reach, append);
    }
    for (int32_t v = 0; v < n; ++v) append(v);
    if (made) std::copy_n(order, n, made);
    start[0] = 0;
    for (int64_t p = 0; p < n; ++p) {
      int32_t k = start[p];
      for (int32_t arc = graph_.out.start[order[p]]; arc < graph_.out.start[order[p] + 1]; ++arc, ++k) {
        head[k] = place_of[graph_.out.node[arc]];
        edge[k] = graph_.out.edge[arc];
      }
      start[p + 1] = k;
    }
    return Line{place_of, start, head, edge};
  }

  /// Solves instances first, ..., first + count - 1; returns false if that takes too long.
  bool solve(int64_t first, int count, const Line& line) {
    const unsigned invalid = load_costs(first, count);
    if (!find_distances(first, count, line)) return false;
    for (int lane = 0; lane < count; ++lane) {
      const Column<T> cost{reinterpret_cast<const T*>(cost_) + lane, kSize};
      const Placed<T> distance{{reinterpret_cast<const T*>(distance_) + lane, kSize}, line.place_of};
      tracer_.write(batch_, first + lane, graph_.in, cost, distance, !(invalid >> lane & 1));
    }
    return true;
  }

 private:
  const Batch<T>& batch_;
  const Graph& graph_;
  Tracer<T> tracer_;
  simd::Buffer<V> cost_memory_, distance_memory_;
  simd::Buffer<T> sum_memory_;
  simd::Buffer<uint64_t> waiting_memory_;
  V *cost_ = nullptr, *distance_ = nullptr;  // by edge; by place in line
  uint64_t* waiting_ = nullptr;              // one bit for each place in line

  /// Returns the lanes with a cost that is none (see `Batch::cost_of`), one bit each.
  unsigned load_costs(int64_t first, int count) {
    const int64_t n = graph_.edges;
    constexpr int64_t kBlock = 16 * kSize;  // checked while it is in the nearest cache
    cost_ = cost_memory_.get(n);
    simd::Mask<V> valid = ~simd::Mask<V>{};
    for (int64_t block = 0; block < n; block += kBlock) {
      const int64_t from = first * n + block, end = std::min(n, block + kBlock);
      const uint8_t* mask = batch_.mask ? batch_.mask + from : nullptr;
      lanes::gather_allowed(batch_.cost + from, mask, n, end - block, count, forbidden<T>(batch_.reading), cost_ + block);
      valid &= make_costs(cost_ + block, end - block, batch_.reading);
    }
    return ~simd::bits(valid);
  }

  /// The mean cost of each edge that is finite and not negative, over the first `count` instances; infinity if there is none.
  const T* mean_costs(int64_t count) {
    const int64_t n = graph_.edges;
    T *sum = sum_memory_.get(2 * n), *terms = sum + n;
    std::fill_n(sum, 2 * n, T(0));
    for (int64_t b = 0; b < count; ++b) {
      for (int64_t e = 0; e < n; ++e) {
        const T cost = batch_.cost_of(b, e);
        const bool counts = cost >= 0 && cost < kInfinity<T>;
        sum[e] += counts ? cost : T(0);
        terms[e] += counts ? T(1) : T(0);
      }
    }
    for (int64_t e = 0; e < n; ++e) sum[e] = terms[e] > 0 ? sum[e] / terms[e] : kInfinity<T>;
    return sum;
  }

  bool find_distances(int64_t first, int count, const Line& line) {
    const int64_t n = graph_.nodes, words = (n + 63) / 64;
    distance_ = distance_memory_.get(n);
    waiting_ = waiting_memory_.get(words);
    std::fill_n(distance_, n, simd::broadcast<V>(kInfinity<T>));
    std::fill_n(waiting_, words, uint64_t(0));
    int32_t targets[kSize];
    for (int lane = 0; lane < kSize; ++lane) {
      const int64_t b = first + (lane < count ? lane : 0);
      const int32_t source = line.place_of[batch_.source[b]];
      distance_[source][lane] = 0;
      waiting_[source / 64] |= uint64_t(1) << source % 64;
      targets[lane] = line.place_of[batch_.target[b]];
    }
    constexpr int64_t kPatience = 32;  // times that a node is relaxed, on average, before solving each alone would be faster
    int64_t relaxed = 0;
    for (int64_t before = -1; before != relaxed && relaxed <= kPatience * n;) {
      before = relaxed;
      for (int64_t word = 0; word < words; ++word) {
        if (waiting_[word]) relaxed += relax_word(word, targets, line);
      }
    }
    return relaxed <= kPatience * n;
  }

  /// Relaxes the nodes of 64 places in line until none of them waits; returns how many times one was relaxed.
  int64_t relax_word(int64_t word, const int32_t* targets, const Line& line) {
    V furthest;
    for (int lane = 0; lane < kSize; ++lane) furthest[lane] = distance_[targets[lane]][lane];
    int64_t relaxed = 0;
    for (; waiting_[word] && relaxed < 4096; ++relaxed) {
      const int bit = __builtin_ctzll(waiting_[word]);
      waiting_[word] &= waiting_[word] - 1;
      relax(word * 64 + bit, furthest, line);
    }
    return relaxed;
  }

  void relax(int64_t place, V furthest, const Line& line) {
    const V own = distance_[place];
    if (!simd::any(own <= furthest)) return;  // beyond all targets
    for (int32_t k = line.start[place]; k < line.start[place + 1]; ++k) {
      const int32_t head = line.head[k];
      const V old = distance_[head], now = simd::min(old, own + cost_[line.edge[k]]);
      distance_[head] = now;
      constexpr unsigned all = unsigned((uint64_t(1) << kSize) - 1);
      waiting_[head / 64] |= uint64_t(simd::equal_bits(now, old) != all) << (head % 64);
    }
  }
};

}  // namespace graph_path
