// Flows of least cost in whole units, by the network simplex method.
//
// A basis is a spanning tree: arcs outside are empty or full. An artificial root joins every node by an arc of a cost that no path
// reaches, so the first tree is a star; what flow is left on its arcs in the end no other way could carry. An arc whose reduced
// cost has the wrong sign enters (the worst of a block of arcs, blocks in turn), the first arc of its cycle to become full or empty
// leaves, on ties the last one from the apex along the cycle, which keeps the tree strongly feasible, so that the method ends.
// The tree is kept as parents and depths, and the children of a node as a doubly linked list, so that only the subtree that moves
// is walked. Whole numbers throughout: nothing is rounded, and ties are told as they are.
// Sources: Cunningham (1976), strongly feasible trees; Ahuja, Magnanti, Orlin, "Network flows" (1993), chapter 11.
#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel.hpp"

namespace {

enum Status : uint8_t { kFeasible = 0, kInfeasible = 1 };

struct Batch {
  const int64_t *costs, *capacity, *supply;
  const int64_t* edges;  // tails, then heads
  bool own;              // each instance has edges of its own
  int64_t count, nodes, size;
  int64_t* flow;
  uint8_t* status;
};

class NetworkSimplex {
 public:
  NetworkSimplex(int64_t nodes, int64_t size)
      : n_(int(nodes)), m_(int(size)), tail_(size + nodes), head_(size + nodes), cost_(size + nodes), room_(size + nodes),
        flow_(size + nodes), state_(size + nodes), parent_(nodes + 1), arc_(nodes + 1), depth_(nodes + 1), child_(nodes + 1),
        next_(nodes + 1), before_(nodes + 1), price_(nodes + 1), block_(std::max(10, int(std::sqrt(double(size))))) {}

  /// Whether there is a flow; it is then in `flow`.
  bool solve(const Batch& batch, int64_t b) {
    begin(batch, b);
    for (int entering = choose(); entering >= 0; entering = choose()) pivot(entering);
    for (int e = m_; e < m_ + n_; ++e)
      if (flow_[e] != 0) return false;
    std::copy_n(flow_.begin(), m_, batch.flow + b * batch.size);
    return true;
  }

 private:
  enum State : int8_t { kEmpty = 1, kInTree = 0, kFull = -1 };

  int n_, m_;
  std::vector<int32_t> tail_, head_;
  std::vector<int64_t> cost_, room_, flow_;
  std::vector<int8_t> state_;
  std::vector<int32_t> parent_, arc_, depth_, child_, next_, before_;  // arc_[v] joins v and its parent
  std::vector<int64_t> price_;
  std::vector<int32_t> stack_;
  int block_, at_ = 0;

  void begin(const Batch& batch, int64_t b) {
    const int64_t *tails = batch.edges + (batch.own ? 2 * b * batch.size : 0), *heads = tails + batch.size;
    int64_t largest = 0;
    for (int e = 0; e < m_; ++e) {
      tail_[e] = int32_t(tails[e]), head_[e] = int32_t(heads[e]);
      cost_[e] = batch.costs[b * batch.size + e], room_[e] = batch.capacity[b * batch.size + e];
      flow_[e] = 0, state_[e] = kEmpty;
      largest = std::max(largest, std::abs(cost_[e]));
    }
    const int64_t dear = (n_ + 1) * (largest + 1);
    const int root = n_;
    parent_[root] = arc_[root] = child_[root] = next_[root] = before_[root] = -1;
    depth_[root] = 0, price_[root] = 0, at_ = 0;
    for (int v = 0; v < n_; ++v) {
      const int64_t supply = batch.supply[b * batch.nodes + v];
      const int e = m_ + v;
      const bool up = supply >= 0;  // without supply, too: an empty arc of the tree has to lead to the root
      tail_[e] = up ? v : root, head_[e] = up ? root : v;
      cost_[e] = dear, room_[e] = INT64_MAX, flow_[e] = std::abs(supply), state_[e] = kInTree;
      parent_[v] = root, arc_[v] = e, depth_[v] = 1, child_[v] = -1;
      price_[v] = up ? -dear : dear;  // cost + price of the tail - price of the head is 0 in the tree
      attach(v, root);
    }
  }

  int64_t reduced(int e) const { return cost_[e] + price_[tail_[e]] - price_[head_[e]]; }

  /// The arc that enters, or -1 if all have the right sign.
  int choose() {
    int best = -1, seen = 0;
    int64_t worst = 0;
    for (int k = 0; k < m_; ++k) {
      const int64_t gain = state_[at_] * reduced(at_);
      if (gain < worst && room_[at_] > 0) worst = gain, best = at_;
      if (++at_ == m_) at_ = 0;
      if (++seen == block_) {
        if (best >= 0) return best;
        seen = 0;
      }
    }
    return best;
  }

  void attach(int v, int parent) {
    parent_[v] = parent, before_[v] = -1, next_[v] = child_[parent];
    if (child_[parent] >= 0) before_[child_[parent]] = v;
    child_[parent] = v;
  }

  void detach(int v) {
    if (before_[v] >= 0) next_[before_[v]] = next_[v];
    else child_[parent_[v]] = next_[v];
    if (next_[v] >= 0) before_[next_[v]] = before_[v];
  }

  /// How much more goes along the tree arc of v, towards its parent if `up`.
  int64_t slack(int v, bool up) const {
    const int e = arc_[v];
    return (tail_[e] == v) == up ? room_[e] - flow_[e] : flow_[e];
  }

  void pivot(int entering) {
    const bool forward = state_[entering] == kEmpty;
    const int from = forward ? tail_[entering] : head_[entering], to = forward ? head_[entering] : tail_[entering];
    int u = from, v = to;
    while (u != v) (depth_[u] >= depth_[v] ? u : v) = parent_[depth_[u] >= depth_[v] ? u : v];
    const int apex = u;
    // Flow goes down from the apex to `from`, over the entering arc, and up from `to`. The last arc that blocks leaves.
    int64_t most = room_[entering];
    int leaving = -1;
    bool below_from = false;
    for (u = from; u != apex; u = parent_[u])
      if (slack(u, false) < most) most = slack(u, false), leaving = u, below_from = true;
    for (v = to; v != apex; v = parent_[v])
      if (slack(v, true) <= most) most = slack(v, true), leaving = v, below_from = false;
    push(from, apex, false, most);
    push(to, apex, true, most);
    flow_[entering] += forward ? most : -most;
    if (leaving < 0) {
      state_[entering] = forward ? kFull : kEmpty;
      return;
    }
    state_[arc_[leaving]] = flow_[arc_[leaving]] == 0 ? kEmpty : kFull;
    state_[entering] = kInTree;
    hang(below_from ? from : to, below_from ? to : from, leaving, entering);
  }

  void push(int v, int apex, bool up, int64_t most) {
    for (; v != apex; v = parent_[v]) flow_[arc_[v]] += (tail_[arc_[v]] == v) == up ? most : -most;
  }

  /// The subtree below `leaving`, in which `inside` is, hangs on `outside` by the entering arc: the path is turned round.
  void hang(int inside, int outside, int leaving, int entering) {
    int v = inside, parent = outside, arc = entering;
    for (;;) {
      const int above = parent_[v], own = arc_[v];
      const bool last = v == leaving;
      detach(v);
      attach(v, parent);
      arc_[v] = arc;
      if (last) break;
      parent = v, arc = own, v = above;
    }
    const int64_t change = tail_[entering] == inside ? price_[head_[entering]] - cost_[entering] - price_[inside]
                                                     : price_[tail_[entering]] + cost_[entering] - price_[inside];
    stack_.assign(1, inside);
    while (!stack_.empty()) {
      const int w = stack_.back();
      stack_.pop_back();
      price_[w] += change;
      depth_[w] = depth_[parent_[w]] + 1;
      for (int c = child_[w]; c >= 0; c = next_[c]) stack_.push_back(c);
    }
  }
};

}  // namespace

/// Returns the number of instances without a flow, or -1 if memory ran out.
extern "C" __attribute__((visibility("default"))) int64_t solverlayers_min_cost_flow(
    const int64_t* costs, const int64_t* capacity, const int64_t* supply, const int64_t* edges, int own, int64_t count,
    int64_t nodes, int64_t size, int64_t* flow, uint8_t* status, int threads) {
  const Batch batch{costs, capacity, supply, edges, own != 0, count, nodes, size, flow, status};
  const double cost = 500 + 20.0 * double(size) * std::sqrt(double(nodes));
  if (double(count) * cost < 200e3) threads = 1;
  const int64_t together = threads > 1 ? std::max<int64_t>(1, int64_t(50e3 / cost)) : std::max<int64_t>(1, count);
  const bool done = parallel::parallel_for((count + together - 1) / together, threads, [&](int64_t chunk) {
    NetworkSimplex simplex(nodes, size);
    for (int64_t b = chunk * together; b < std::min(count, (chunk + 1) * together); ++b) {
      status[b] = simplex.solve(batch, b) ? kFeasible : kInfeasible;
      if (status[b] != kFeasible) std::fill_n(flow + b * size, size, int64_t(0));
    }
  });
  return done ? count - std::count(status, status + count, uint8_t(kFeasible)) : -1;
}
