// Flows of least cost in whole units, by the network simplex method.
//
// A basis is a spanning tree: arcs outside are empty or full. An artificial root joins every node by an arc of a cost that no path
// reaches, so the first tree is a star; what flow is left on its arcs in the end no other way could carry. An arc whose reduced
// cost has the wrong sign enters (the worst of a block of arcs, blocks in turn), the first arc of its cycle to become full or empty
// leaves, on ties the last one from the apex along the cycle, which keeps the tree strongly feasible, so that the method ends.
// The tree is kept as parents and depths, and the children of a node as a doubly linked list, so that only the subtree that moves
// is walked. Whole numbers throughout: nothing is rounded, and ties are told as they are.
// Numbers that are not whole become multiples of a power of two first, as `cost_flow.py` says and does where there is no compiler.
// Sources: Cunningham (1976), strongly feasible trees; Ahuja, Magnanti, Orlin, "Network flows" (1993), chapter 11.
#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <vector>

#include "parallel.hpp"

namespace {

enum Status : uint8_t { kFeasible = 0, kInfeasible = 1 };

struct Edges {
  const int64_t* ends;  // tails, then heads
  bool own;             // each instance has edges of its own
  int64_t nodes, size;

  const int64_t* of(int64_t b) const { return ends + (own ? 2 * b * size : 0); }
};

class NetworkSimplex {
 public:
  NetworkSimplex(int64_t nodes, int64_t size)
      : n_(int(nodes)), m_(int(size)), tail_(size + nodes), head_(size + nodes), cost_(size + nodes), room_(size + nodes),
        flow_(size + nodes), state_(size + nodes), parent_(nodes + 1), arc_(nodes + 1), depth_(nodes + 1), child_(nodes + 1),
        next_(nodes + 1), before_(nodes + 1), price_(nodes + 1), block_(std::max(10, int(std::sqrt(double(size))))) {}

  /// Whether there is a flow.
  bool solve(const int64_t* costs, const int64_t* capacity, const int64_t* supply, const int64_t* ends) {
    begin(costs, capacity, supply, ends);
    for (int entering = choose(); entering >= 0; entering = choose()) pivot(entering);
    for (int e = m_; e < m_ + n_; ++e)
      if (flow_[e] != 0) return false;
    return true;
  }

  int64_t flow(int64_t e) const { return flow_[e]; }

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

  void begin(const int64_t* costs, const int64_t* capacity, const int64_t* supplies, const int64_t* ends) {
    int64_t largest = 0;
    for (int e = 0; e < m_; ++e) {
      tail_[e] = int32_t(ends[e]), head_[e] = int32_t(ends[m_ + e]);
      cost_[e] = costs[e], room_[e] = capacity[e];
      flow_[e] = 0, state_[e] = kEmpty;
      largest = std::max(largest, std::abs(cost_[e]));
    }
    const int64_t dear = (n_ + 1) * (largest + 1);
    const int root = n_;
    parent_[root] = arc_[root] = child_[root] = next_[root] = before_[root] = -1;
    depth_[root] = 0, price_[root] = 0, at_ = 0;
    for (int v = 0; v < n_; ++v) {
      const int64_t supply = supplies[v];
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

/// Numbers as whole multiples of a power of two, so small that `total` fits 60 bits.
class Units {
 public:
  explicit Units(double total) {
    int exponent;
    std::frexp(std::max(total, DBL_MIN), &exponent);
    many_ = std::ldexp(1.0, std::min(60 - exponent, 1022)), one_ = 1 / many_;
  }
  int64_t whole(double number) const { return int64_t(std::nearbyint(number * many_)); }
  double number(int64_t whole) const { return double(whole) * one_; }

 private:
  double many_, one_;
};

/// An instance in whole units.
class Rounded {
 public:
  explicit Rounded(const Edges& edges) : costs(edges.size), capacity(edges.size), supply(edges.nodes) {}

  std::vector<int64_t> costs, capacity, supply;
  Units amounts{1};

  /// False where numbers are not as they should be, which to say is left to the caller. No `width` is none with a limit.
  bool read(const double* cost, const double* width, const double* given) {
    double total = 0, largest = 0, balance = 0, endless = 0, moved = 0;
    for (size_t e = 0; e < costs.size(); ++e) {
      const double most = room(cost, width, e);
      if (!(cost[e] > -INFINITY) || !(most >= 0) || (most == INFINITY && cost[e] < 0)) return false;
      if (cost[e] < INFINITY) largest = std::max(largest, std::abs(cost[e]));
      (most == INFINITY ? endless : total) += most == INFINITY ? 1 : most;
    }
    for (size_t v = 0; v < supply.size(); ++v) balance += given[v], moved += std::abs(given[v]);
    const double all = (total + moved) * (4 + 2 * endless), steps = 4.0 * double(supply.size()) * (double(supply.size()) + 1);
    if (!(std::abs(balance) <= 1e-6 * moved) || !std::isfinite(all) || !std::isfinite(steps * largest)) return false;
    amounts = Units(all);
    const Units prices(steps * largest);
    for (size_t e = 0; e < costs.size(); ++e) costs[e] = cost[e] < INFINITY ? prices.whole(cost[e]) : 0;
    round(cost, width, given);
    return true;
  }

  static double room(const double* cost, const double* width, size_t e) {
    return cost[e] < INFINITY ? width ? width[e] : INFINITY : 0;
  }

 private:
  void round(const double* cost, const double* width, const double* given) {
    bool lost = false;
    const auto whole = [&](double number) {
      const int64_t found = amounts.whole(number);
      lost |= amounts.number(found) != number;
      return found;
    };
    int64_t over = 0, most = 1;
    for (size_t e = 0; e < costs.size(); ++e) capacity[e] = room(cost, width, e) < INFINITY ? whole(room(cost, width, e)) : 0;
    for (size_t v = 0; v < supply.size(); ++v) over += supply[v] = whole(given[v]);
    if (lost || over != 0)  // what rounding took away
      for (size_t e = 0; e < costs.size(); ++e)
        if (cost[e] < INFINITY) capacity[e] += std::abs(over) + int64_t(supply.size());
    if (over != 0) *std::max_element(supply.begin(), supply.end(), smaller) -= over;  // what it leaves over
    for (const int64_t c : capacity) most += c;
    for (const int64_t s : supply) most += std::max<int64_t>(s, 0);
    for (size_t e = 0; e < costs.size(); ++e)
      if (room(cost, width, e) == INFINITY) capacity[e] = most;
  }

  static bool smaller(int64_t a, int64_t b) { return std::abs(a) < std::abs(b); }
};

/// Calls `solve(simplex, b)` for all instances, in threads where that pays; false if memory ran out.
template <class Solve>
bool for_each(int64_t count, const Edges& edges, int threads, const Solve& solve) {
  const double cost = 500 + 20.0 * double(edges.size) * std::sqrt(double(edges.nodes));
  return parallel::for_parts(count, cost, threads, [&](int64_t begin, int64_t end) {
    NetworkSimplex simplex(edges.nodes, edges.size);
    for (int64_t b = begin; b < end; ++b) solve(simplex, b);
  });
}

}  // namespace

/// Returns the number of instances without a flow, or -1 if memory ran out.
extern "C" __attribute__((visibility("default"))) int64_t solverlayers_min_cost_flow(
    const int64_t* costs, const int64_t* capacity, const int64_t* supply, const int64_t* ends, int own, int64_t count,
    int64_t nodes, int64_t size, int64_t* flow, uint8_t* status, int threads) {
  const Edges edges{ends, own != 0, nodes, size};
  const bool done = for_each(count, edges, threads, [&](NetworkSimplex& simplex, int64_t b) {
    const bool found = simplex.solve(costs + b * size, capacity + b * size, supply + b * nodes, edges.of(b));
    status[b] = found ? kFeasible : kInfeasible;
    for (int64_t e = 0; e < size; ++e) flow[b * size + e] = found ? simplex.flow(e) : 0;
  });
  return done ? count - std::count(status, status + count, uint8_t(kFeasible)) : -1;
}

/// As above, of numbers that are not whole; without `capacity`, edges have no limit. Returns the number of instances without a
/// flow or with numbers that are refused, or -1.
extern "C" __attribute__((visibility("default"))) int64_t solverlayers_min_cost_flow_float64(
    const double* costs, const double* capacity, const double* supply, const int64_t* ends, int own, int64_t count, int64_t nodes,
    int64_t size, double* flow, int threads) {
  const Edges edges{ends, own != 0, nodes, size};
  std::atomic<int64_t> failed{0};
  const bool done = for_each(count, edges, threads, [&](NetworkSimplex& simplex, int64_t b) {
    Rounded whole(edges);
    const double *cost = costs + b * size, *width = capacity ? capacity + b * size : nullptr;
    if (!whole.read(cost, width, supply + b * nodes) ||
        !simplex.solve(whole.costs.data(), whole.capacity.data(), whole.supply.data(), edges.of(b))) {
      ++failed;
      return;
    }
    for (int64_t e = 0; e < size; ++e)
      flow[b * size + e] = std::min(whole.amounts.number(simplex.flow(e)), Rounded::room(cost, width, size_t(e)));
  });
  return done ? failed.load() : -1;
}
