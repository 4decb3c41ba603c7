// Cheapest paths in a batch of graphs with costs on the edges.
//
// Graphs that share their edges are solved with one instance in each SIMD lane. The distances are the least solution of
// d[v] = min d[u] + c[u, v]. Nodes wait in line in the order in which Dijkstra's algorithm settles them under the mean costs of
// some instances, or in one that is known from similar costs; a node whose distance has fallen in some lane is put (back) into
// its place, and the line is walked through until it is empty. With costs that are alike each node is relaxed a few times for
// all lanes together. If it takes too many times, or where there are few instances, or each has its own edges, each is solved
// alone: Dijkstra's algorithm, up to the distance of the target. Rounding is monotone, so both have the same distances, bit for
// bit, whatever the order.
//
// The path is read backwards from the target, over the edge of lowest index that explains the distance and comes from a
// nearer node. Where there is none (edges that cost nothing, or too little to change the sum) a breadth-first search over
// edges between equally far nodes leads by the fewest of them to a node with one. Distance and then steps strictly fall, so
// no node is met twice.
//
// Sources: Dijkstra (1959); the line is label correcting in topological order of a reference solution, compare Bertsekas,
// "A simple and fast label correcting algorithm for shortest paths" (1993); the queue of Dijkstra's algorithm is as in
// Cherkassky, Goldberg and Silverstein, "Buckets, heaps, lists, and monotone priority queues" (1999).
#include <algorithm>
#include <limits>
#include <utility>

#include "lanes.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace {

enum Status : uint8_t { kSolved = 0, kUnreachable = 1, kInvalid = 2 };

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

/// The arcs of each node v are start[v], ..., start[v + 1] - 1, in the order of their edges.
struct Arcs {
  const int32_t *start, *node, *edge;
};

struct Graph {
  int64_t nodes, edges;
  Arcs out, in;
};

/// What all instances have, whether they share their edges or not.
template <class T>
struct Batch {
  const T* cost;        // (count, edges)
  const uint8_t* mask;  // the same shape, or null
  const int64_t *source, *target;
  int64_t count, nodes, edges;
  bool gains;       // whether `cost` holds gains; an edge costs the opposite, or nothing where that is negative
  T* solution;      // the shape of cost
  T* distance;      // (count, nodes), or null
  uint8_t* status;  // (count)

  /// What edge `e` of instance `b` costs, infinity outside the mask. It may be no cost: NaN, or negative where it was no gain.
  T cost_of(int64_t b, int64_t e) const {
    const T given = cost[b * edges + e];
    if (mask && !mask[b * edges + e]) return kInfinity<T>;
    return !gains ? given : given > 0 ? T(0) : -given;
  }
};

/// Numbers of one instance, which lie `stride` apart where instances lie in lanes.
template <class T>
struct Column {
  const T* first;
  int64_t stride;
  T operator[](int64_t i) const { return first[i * stride]; }
};

/// The same, where entry i lies at place[i].
template <class T>
struct Placed {
  Column<T> column;
  const int32_t* place;
  T operator[](int64_t i) const { return column[place[i]]; }
};

/// Reads paths off distances.
template <class T>
class Tracer {
 public:
  /// Writes the solution, the status, and the distances if they are asked for, of instance `b`.
  template <class Distance>
  void write(const Batch<T>& batch, int64_t b, const Arcs& in, Column<T> cost, Distance distance, bool valid) {
    T* solution = batch.solution + b * batch.edges;
    std::fill_n(solution, batch.edges, T(0));
    const T furthest = distance[batch.target[b]];
    batch.status[b] = !valid ? kInvalid : furthest < kInfinity<T> ? kSolved : kUnreachable;
    if (batch.distance)
      for (int64_t v = 0; v < batch.nodes; ++v) batch.distance[b * batch.nodes + v] = std::min(furthest, distance[v]);
    if (batch.status[b] != kSolved) return;
    for (int32_t v = int32_t(batch.target[b]); v != batch.source[b];) {
      const int32_t arc = from_nearer(in, cost, distance, v);
      if (arc < 0) {
        v = cross_plateau(batch, b, in, cost, distance, v);
      } else {
        solution[in.edge[arc]] = 1;
        v = in.node[arc];
      }
    }
  }

 private:
  struct Found {
    int32_t node, edge, from;  // found over `edge` from place `from` in the queue
  };
  simd::Buffer<Found> queue_memory_;
  simd::Buffer<uint8_t> seen_memory_;

  /// The first arc that explains the distance of v and comes from a nearer node, or -1.
  template <class Distance>
  static int32_t from_nearer(const Arcs& in, Column<T> cost, Distance distance, int32_t v) {
    const T own = distance[v];
    for (int32_t arc = in.start[v]; arc < in.start[v + 1]; ++arc) {
      const T there = distance[in.node[arc]];
      if (there < own && there + cost[in.edge[arc]] == own) return arc;
    }
    return -1;
  }

  /// Marks the fewest edges between nodes as far as v that lead to one with a nearer node (or the source), and returns that.
  template <class Distance>
  int32_t cross_plateau(const Batch<T>& batch, int64_t b, const Arcs& in, Column<T> cost, Distance distance, int32_t v) {
    Found* queue = queue_memory_.get(batch.nodes);
    uint8_t* seen = seen_memory_.get(batch.nodes);
    std::fill_n(seen, batch.nodes, uint8_t(0));
    const T level = distance[v];
    int32_t found = 0, at = 0;
    queue[found++] = Found{v, -1, -1};
    seen[v] = 1;
    while (queue[at].node != batch.source[b] && from_nearer(in, cost, distance, queue[at].node) < 0) {
      const int32_t here = queue[at].node;
      for (int32_t arc = in.start[here]; arc < in.start[here + 1]; ++arc) {
        const int32_t node = in.node[arc];
        if (seen[node] || distance[node] != level || level + cost[in.edge[arc]] != level) continue;
        seen[node] = 1;
        queue[found++] = Found{node, in.edge[arc], at};
      }
      ++at;  // the source is found at the latest, so the queue does not run dry
    }
    const int32_t end = queue[at].node;
    for (; queue[at].from >= 0; at = queue[at].from) batch.solution[b * batch.edges + queue[at].edge] = 1;
    return end;
  }
};

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
    if (!(scale_ < kInfinity<T>)) scale_ = 0;  // all in the nearest bucket
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
    start_ = kInfinity<T>;
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

/// One instance at a time.
template <class T>
class Dijkstra {
 public:
  /// The distances of all nodes that are not further than `reach` times the target (-1: of all nodes); those of others may be
  /// too large. Calls `settle(v)` for each, in order of distance.
  template <class Settle>
  void run(const Graph& graph, const T* cost, int32_t source, int32_t target, T reach, Settle&& settle) {
    const Arcs& out = graph.out;
    distance_ = distance_memory_.get(graph.nodes);
    std::fill_n(distance_, graph.nodes, kInfinity<T>);
    queue_.reset(out.start[graph.nodes] + 1, typical(cost, graph.edges));
    distance_[source] = 0;
    queue_.push(0, source);
    T furthest = target == source ? T(0) : kInfinity<T>;
    while (!queue_.empty(distance_)) {
      const auto entry = queue_.pop();
      const int32_t v = Heap<T>::node_of(entry);
      const T own = Heap<T>::distance_of(entry);
      if (own > distance_[v]) continue;
      if (own > furthest) break;
      settle(v);
      for (int32_t arc = out.start[v]; arc < out.start[v + 1]; ++arc) {
        const T via = own + cost[out.edge[arc]];
        const int32_t head = out.node[arc];
        if (!(via < distance_[head])) continue;
        distance_[head] = via;
        if (head == target) furthest = reach * via;
        if (via <= furthest) queue_.push(via, head);
      }
    }
  }

  void solve(const Batch<T>& batch, int64_t b, const Graph& graph) {
    const T* cost = load_costs(batch, b);
    bool valid = true;
    for (int64_t e = 0; e < batch.edges; ++e) valid &= cost[e] >= 0;  // not so for NaN
    if (valid) run(graph, cost, int32_t(batch.source[b]), int32_t(batch.target[b]), 1, [](int32_t) {});
    else std::fill_n(distance_ = distance_memory_.get(graph.nodes), graph.nodes, kInfinity<T>);
    tracer_.write(batch, b, graph.in, Column<T>{cost, 1}, Column<T>{distance_, 1}, valid);
  }

 private:
  Queue<T> queue_;
  Tracer<T> tracer_;
  simd::Buffer<T> distance_memory_, cost_memory_;
  T* distance_ = nullptr;

  const T* load_costs(const Batch<T>& batch, int64_t b) {
    if (!batch.mask && !batch.gains) return batch.cost + b * batch.edges;
    T* cost = cost_memory_.get(batch.edges);
    for (int64_t e = 0; e < batch.edges; ++e) cost[e] = batch.cost_of(b, e);
    return cost;
  }

  /// The mean of some costs that are finite.
  static T typical(const T* cost, int64_t edges) {
    T sum = 0, count = 0;
    for (int64_t e = 0; e < edges; e += 1 + edges / 128) {
      const bool finite = cost[e] < kInfinity<T>;
      sum += finite ? cost[e] : T(0);
      count += finite;
    }
    return sum / count;
  }
};

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
    const T sign = batch_.gains ? -1 : 1;
    const V least = simd::broadcast<V>(batch_.gains ? -kInfinity<T> : T(0)), signs = simd::broadcast<V>(sign);
    cost_ = cost_memory_.get(n);
    simd::Mask<V> valid = ~simd::Mask<V>{};
    for (int64_t block = 0; block < n; block += kBlock) {
      const int64_t from = first * n + block, end = std::min(n, block + kBlock);
      const uint8_t* mask = batch_.mask ? batch_.mask + from : nullptr;
      lanes::gather_allowed(batch_.cost + from, mask, n, end - block, count, sign * kInfinity<T>, cost_ + block);
      for (int64_t e = block; e < end; ++e) {
        const V cost = cost_[e] * signs;
        valid &= cost >= least;
        cost_[e] = simd::select(cost > V{}, cost, V{});  // relaxing ends only without negative costs
      }
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

constexpr int kFew = 2;  // up to here solving each alone is faster

template <class T>
struct Workspace {
  Lanes<T> lanes;
  Dijkstra<T> dijkstra;

  Workspace(const Batch<T>& batch, const Graph& graph) : lanes(batch, graph) {}
};

/// Solves a batch of instances with the same edges. Returns false if memory ran out.
template <class T>
bool solve_shared(const Batch<T>& batch, const Graph& graph, const int32_t* known, int32_t* made, int threads) {
  constexpr int size = simd::kLanes<T>;
  if (batch.count <= kFew) {
    return parallel::parallel_for(batch.count, threads, [&](int64_t b) { Dijkstra<T>().solve(batch, b, graph); });
  }
  simd::Buffer<int32_t> memory;
  Workspace<T> first_workspace(batch, graph);  // makes the line, and then serves the first chunk
  Line line;
  const auto prepare = [&](int64_t) {
    line = first_workspace.lanes.make_line(known, made, first_workspace.dijkstra, memory);
  };
  if (!parallel::parallel_for(1, 1, prepare)) return false;
  const int64_t groups = (batch.count + size - 1) / size;
  const int64_t together = threads > 1 ? (groups + 4 * threads - 1) / (4 * threads) : groups;
  return parallel::parallel_for((groups + together - 1) / together, threads, [&](int64_t chunk) {
    Workspace<T> own(batch, graph);
    Workspace<T>& workspace = chunk == 0 ? first_workspace : own;
    for (int64_t group = chunk * together; group < std::min(groups, (chunk + 1) * together); ++group) {
      const int64_t first = group * size, last = std::min(batch.count, first + size);
      if (last - first > kFew && workspace.lanes.solve(first, int(last - first), line)) continue;
      for (int64_t b = first; b < last; ++b) workspace.dijkstra.solve(batch, b, graph);
    }
  });
}

/// The arcs of a graph of one instance.
class OwnArcs {
 public:
  /// `tail` and `head` are the ends of the edges; an edge outside the mask has no arc.
  void make(const int64_t* tail, const int64_t* head, const uint8_t* mask, int64_t nodes, int64_t edges, bool directed) {
    const int64_t arcs = directed ? edges : 2 * edges;
    int32_t* start = memory_.get(nodes + 2 + 2 * arcs);
    int32_t *node = start + nodes + 2, *edge = node + arcs;
    std::fill_n(start, nodes + 2, 0);
    const auto for_each_arc = [&](auto&& visit) {
      for (int64_t e = 0; e < edges; ++e) {
        if (mask && !mask[e]) continue;
        visit(int32_t(tail[e]), int32_t(head[e]), int32_t(e));
        if (!directed) visit(int32_t(head[e]), int32_t(tail[e]), int32_t(e));
      }
    };
    for_each_arc([&](int32_t from, int32_t, int32_t) { ++start[from + 2]; });
    for (int64_t v = 0; v < nodes; ++v) start[v + 2] += start[v + 1];
    for_each_arc([&](int32_t from, int32_t to, int32_t e) {
      const int32_t k = start[from + 1]++;
      node[k] = to;
      edge[k] = e;
    });
    arcs_ = Arcs{start, node, edge};
  }

  const Arcs& arcs() const { return arcs_; }

 private:
  simd::Buffer<int32_t> memory_;
  Arcs arcs_{};
};

/// Solves a batch of instances with their own edges (count, 2, edges). Returns false if memory ran out.
template <class T>
bool solve_own(const Batch<T>& batch, const int64_t* edge_index, bool directed, int64_t together, int threads) {
  return parallel::parallel_for((batch.count + together - 1) / together, threads, [&](int64_t chunk) {
    Dijkstra<T> dijkstra;
    OwnArcs out, in;
    for (int64_t b = chunk * together; b < std::min(batch.count, (chunk + 1) * together); ++b) {
      const int64_t *tail = edge_index + 2 * b * batch.edges, *head = tail + batch.edges;
      const uint8_t* mask = batch.mask ? batch.mask + b * batch.edges : nullptr;
      out.make(tail, head, mask, batch.nodes, batch.edges, directed);
      if (directed) in.make(head, tail, mask, batch.nodes, batch.edges, true);
      dijkstra.solve(batch, b, Graph{batch.nodes, batch.edges, out.arcs(), directed ? in.arcs() : out.arcs()});
    }
  });
}

/// The threads that the work is worth, at about `nanoseconds` for a node or an edge of an instance.
template <class T>
int worth(const Batch<T>& batch, double nanoseconds, int threads) {
  return double(batch.count) * double(batch.nodes + batch.edges) * nanoseconds < 200e3 ? 1 : threads;
}

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t count_failures(const Batch<T>& batch, bool done) {
  return done ? batch.count - std::count(batch.status, batch.status + batch.count, uint8_t(kSolved)) : -1;
}

}  // namespace

#define SOLVERLAYERS_GRAPH_PATH(NAME, T)                                                                                      \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_graph_path_##NAME(                                   \
      const T* cost, const uint8_t* mask, const int32_t* out_start, const int32_t* out_node, const int32_t* out_edge,         \
      const int32_t* in_start, const int32_t* in_node, const int32_t* in_edge, const int64_t* source, const int64_t* target,  \
      const int32_t* known, int32_t* made, int64_t count, int64_t nodes, int64_t edges, int gains, T* solution, T* distance,  \
      uint8_t* status, int threads) {                                                                                         \
    const Batch<T> batch{cost, mask, source, target, count, nodes, edges, gains != 0, solution, distance, status};            \
    const Graph graph{nodes, edges, {out_start, out_node, out_edge}, {in_start, in_node, in_edge}};                           \
    return count_failures(batch, solve_shared(batch, graph, known, made, worth(batch, 2, threads)));                          \
  }                                                                                                                           \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_graph_path_own_##NAME(                               \
      const T* cost, const uint8_t* mask, const int64_t* edge_index, int directed, const int64_t* source,                     \
      const int64_t* target, int64_t count, int64_t nodes, int64_t edges, int gains, T* solution, T* distance,                \
      uint8_t* status, int64_t together, int threads) {                                                                       \
    const Batch<T> batch{cost, mask, source, target, count, nodes, edges, gains != 0, solution, distance, status};            \
    return count_failures(batch, solve_own(batch, edge_index, directed != 0, together, worth(batch, 20, threads)));           \
  }

SOLVERLAYERS_GRAPH_PATH(float32, float)
SOLVERLAYERS_GRAPH_PATH(float64, double)
