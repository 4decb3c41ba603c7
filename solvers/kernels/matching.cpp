// Matchings in general graphs of greatest weight: perfect ones, or any.
//
// Edmonds' blossom algorithm in O(n^3): vertices and blossoms (odd sets that are contracted) have dual values, and alternating
// trees grow from all unmatched vertices at once along tight edges. Between two steps all duals in the trees change at the same
// speed, so each vertex keeps its dual at time 0 of the search and the direction in which it moves; then everything that is
// compared, such as the time at which an edge becomes tight, is constant until the label of a vertex changes. A vertex that
// becomes outer offers its edges to all others, a register at a time; a blossom inherits the least offers of its parts.
//
// All numbers are integers: weights are scaled by a power of two so that duals, which stay below n times the greatest weight, fit
// 62 bits. So there is no rounding in the algorithm, ties and signs do not matter, and the matching is optimal for weights
// rounded to that grid: for n <= 64, to 2**-53 of the greatest one or finer.
// Sources: Edmonds (1965); Galil, "Efficient algorithms for finding maximum matching in graphs" (1986); duals kept by time:
// Gabow (1976).
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "parallel.hpp"
#include "simd.hpp"

namespace {

using simd::Long;
constexpr int64_t W = simd::kLanes<int64_t>;
constexpr int64_t kNever = int64_t(1) << 61;
constexpr int64_t kNoEdge = -(int64_t(1) << 59);  // the weight of an edge that is not there
constexpr int kNone = -1;

enum Kind { kAny = 0, kLargest = 1, kPerfect = 2 };
enum Label : int8_t { kInner = -1, kFree = 0, kOuter = 1 };

struct Least {
  int64_t value;
  int at;
};

/// The first place where `a[i] + b[i]` is least.
inline Least least_sum(const int64_t* a, const int64_t* b, int64_t n) {
  Long best = simd::broadcast<Long>(kNever), where{};
  for (int64_t i = 0; i < n; i += W) {
    const Long sum = simd::load<Long>(a + i) + simd::load<Long>(b + i);
    const Long better = sum < best;
    best = better ? sum : best;
    where = better ? simd::broadcast<Long>(i) : where;
  }
  Least out{kNever, kNone};
  for (int lane = 0; lane < W; ++lane) {
    const int at = int(where[lane]) + lane;
    if (best[lane] < out.value || (best[lane] == out.value && best[lane] < kNever && at < out.at)) out = {best[lane], at};
  }
  return out;
}

/// One instance at a time, on a dense matrix of weights.
class Blossom {
 public:
  explicit Blossom(int64_t n) : n_(int(n)), row_(simd::padded<int64_t>(std::max<int64_t>(n, 1))), ids_(2 * int(n) + 1) {
    weight_ = weights_.get(row_ * row_);
    offer_ = numbers_.get(4 * row_);
    from_ = offer_ + row_, free_ = from_ + row_, outer_ = free_ + row_;
    offers_ = rows_.get(2 * int64_t(n_ + 1) * row_);
    dual_.resize(ids_), label_.resize(ids_), parent_.resize(ids_), base_.resize(ids_), pass_.resize(ids_);
    link_.resize(ids_), cycle_.resize(ids_), partner_of_.resize(ids_), joint_.resize(ids_);
    mate_.resize(n_), top_.resize(n_), alive_.resize(n_);
  }

  /// Row i of the weights, symmetric, to be filled in; kNoEdge where there is none, even numbers otherwise.
  int64_t* weights(int64_t i) { return weight_ + i * row_; }
  int64_t row() const { return row_; }

  /// The partner of each vertex, or kNone. False if there is no perfect matching and one is wanted. `used[v]`: v takes part.
  bool solve(Kind kind, const uint8_t* used) {
    kind_ = kind;
    begin(used);
    while (search()) {
    }
    if (kind != kPerfect) return true;
    for (int v = 0; v < n_; ++v)
      if (alive_[v] && mate_[v] == kNone) return false;
    return true;
  }
  int mate(int v) const { return mate_[v]; }

  /// Duals of vertices, NaN for those that take no part, and of up to n / 2 blossoms, with their vertices, in units of weights.
  void duals(double unit, double* vertices, double* blossoms, uint8_t* members) {
    for (int v = 0; v < n_; ++v) vertices[v] = alive_[v] ? unit * double(dual_[v]) : std::nan("");
    std::fill_n(blossoms, n_ / 2, 0.0);
    std::fill_n(members, int64_t(n_ / 2) * n_, uint8_t(0));
    int64_t count = 0;
    for (const int b : tops_) list_blossoms(b, unit, blossoms, members, count);
  }

 private:
  const int n_;
  const int64_t row_;
  const int ids_;  // vertices, then blossoms
  Kind kind_ = kAny;
  simd::Buffer<int64_t> weights_, numbers_, rows_;
  int64_t* weight_;
  int64_t *offer_, *from_;   // of each vertex: the least slack of an edge from an outer vertex, less its own dual; that vertex
  int64_t *free_, *outer_;   // its dual at time 0 if it is free, or if it is outer; kNever otherwise
  int64_t* offers_;          // the same as offer_ and from_ for each outer blossom alone
  std::vector<int64_t> dual_;              // of vertices and blossoms, at time 0
  std::vector<int8_t> label_;              // of tops
  std::vector<int> parent_, base_, pass_;  // blossom around; base vertex; mark of a walk
  std::vector<std::pair<int, int>> link_;  // the edge by which an inner top was reached: (outer vertex, its own vertex)
  std::vector<std::vector<int>> cycle_;    // parts of a blossom from its base on
  std::vector<std::vector<std::pair<int, int>>> joint_;  // joint_[b][i]: the edge from part i to the next
  std::vector<Least> partner_of_;          // of outer tops: when and where an edge to another outer top becomes tight
  std::vector<int> mate_, top_, spare_, tops_;
  std::vector<uint8_t> alive_;
  int64_t time_ = 0;
  Least exhausted_{kNever, kNone};  // when the dual of an outer vertex becomes 0
  int walk_ = 0;

  bool is_vertex(int b) const { return b < n_; }
  int64_t* blossom_offers(int b) { return offers_ + 2 * int64_t(b - n_) * row_; }

  void list_blossoms(int b, double unit, double* blossoms, uint8_t* members, int64_t& count) {
    if (is_vertex(b)) return;
    if (dual_[b] > 0) {
      blossoms[count] = unit * double(dual_[b]);
      each_vertex(b, [&](int v) { members[count * n_ + v] = 1; });
      ++count;
    }
    for (const int part : cycle_[b]) list_blossoms(part, unit, blossoms, members, count);
  }

  template <class F>
  void each_vertex(int b, const F& f) {
    if (is_vertex(b)) return f(b);
    for (const int part : cycle_[b]) each_vertex(part, f);
  }

  // ---------------------------------------------------------------------------------------------------- beginning and end

  /// Duals that leave no slack negative, and the tight edges that can be matched at once.
  void begin(const uint8_t* used) {
    spare_.clear(), tops_.clear();
    for (int b = ids_ - 1; b >= n_; --b) spare_.push_back(b);
    int64_t greatest = 0;
    for (int v = 0; v < n_; ++v) {
      alive_[v] = used[v];
      mate_[v] = kNone, top_[v] = v, parent_[v] = kNone, base_[v] = v, label_[v] = kFree;
      int64_t most = kNoEdge;
      for (int u = 0; u < n_; ++u) most = std::max(most, weights(v)[u]);
      dual_[v] = most == kNoEdge ? 0 : most;
      if (kind_ == kAny) dual_[v] = std::max<int64_t>(dual_[v], 0);
      greatest = std::max(greatest, dual_[v]);
      tops_.push_back(v);
    }
    if (kind_ == kLargest)  // duals of unmatched vertices have to be the least of all, so they start alike
      for (int v = 0; v < n_; ++v) dual_[v] = greatest;
    std::fill(pass_.begin(), pass_.end(), 0);
    walk_ = 0;
    for (int v = 0; v < n_; ++v)
      for (int u = 0; u < n_ && mate_[v] == kNone; ++u)
        if (mate_[u] == kNone && u != v && weights(v)[u] > kNoEdge && dual_[v] + dual_[u] == 2 * weights(v)[u])
          mate_[v] = u, mate_[u] = v;
  }

  /// Grows trees until one matching edge more is found, or an outer vertex has dual 0. False if there is nothing left to do.
  bool search() {
    time_ = 0;
    exhausted_ = {kNever, kNone};
    std::fill_n(offer_, row_, kNever);
    std::fill_n(free_, row_, kNever);
    std::fill_n(outer_, row_, kNever);
    for (int v = 0; v < n_; ++v) free_[v] = dual_[v];
    bool any = false;
    const std::vector<int> tops = tops_;
    for (const int b : tops)
      if (mate_[base_[b]] == kNone && alive_[base_[b]] && !(kind_ == kAny && dual_[base_[b]] == 0)) make_outer(b), any = true;
    if (!any) return false;
    for (;;) {
      const Least reach = least_sum(free_, offer_, row_);
      Least join{kNever, kNone}, open{kNever, kNone};
      for (const int b : tops_) {
        if (label_[b] == kOuter && partner_of_[b].value < join.value) join = {partner_of_[b].value, b};
        if (label_[b] == kInner && !is_vertex(b) && dual_[b] / 2 < open.value) open = {dual_[b] / 2, b};
      }
      const int64_t joined = join.value >= kNever ? kNever : join.value / 2;
      const int64_t first = std::min(std::min(reach.value, joined), std::min(open.value, exhausted_.value));
      if (first >= kNever / 8) return finish(), false;
      time_ = first;
      if (exhausted_.value == first) return release(exhausted_.at), finish(), true;
      if (joined == first) {
        if (meet(join.at)) return finish(), true;
      } else if (reach.value == first) {
        if (grow(int(from_[reach.at]), reach.at)) return finish(), true;
      } else {
        expand(open.at, true);
      }
    }
  }

  /// Duals as they are now; no labels; no blossoms that may be opened.
  void finish() {
    const std::vector<int> tops = tops_;
    for (const int b : tops) settle(b);
    time_ = 0;
    for (const int b : tops) open_empty(b);
  }

  void open_empty(int b) {
    if (is_vertex(b) || dual_[b] != 0) return;
    const std::vector<int> parts = cycle_[b];
    expand(b, false);
    for (const int part : parts) open_empty(part);
  }

  // ---------------------------------------------------------------------------------------------------- labels

  /// Makes a top free: its duals are what they are now.
  void settle(int b) {
    const int64_t moved = label_[b] * time_;
    if (!is_vertex(b)) dual_[b] += 2 * moved;
    each_vertex(b, [&](int v) {
      dual_[v] -= moved;
      free_[v] = dual_[v], outer_[v] = kNever;
    });
    label_[b] = kFree;
  }

  void make_inner(int b, int outer, int own) {
    label_[b] = kInner;
    link_[b] = {outer, own};
    if (!is_vertex(b)) dual_[b] += 2 * time_;
    each_vertex(b, [&](int v) { dual_[v] -= time_, free_[v] = kNever; });
  }

  /// Makes a free top outer, with offers from all its vertices.
  void make_outer(int b) {
    label_[b] = kOuter;
    if (!is_vertex(b)) {
      dual_[b] -= 2 * time_;
      std::fill_n(blossom_offers(b), row_, kNever);
      std::fill_n(blossom_offers(b) + row_, row_, int64_t(0));
    }
    each_vertex(b, [&](int v) {
      begin_outer(v);
      if (!is_vertex(b)) merge_vertex(b, v);
    });
    find_partner(b);
  }

  void begin_outer(int v) {
    dual_[v] += time_;
    free_[v] = kNever, outer_[v] = dual_[v];
    if (kind_ == kAny && dual_[v] < exhausted_.value) exhausted_ = {dual_[v], v};
    offer_all(offer_, from_, v);
  }

  /// best[u] = min(best[u], dual of v - 2 weight(v, u)), and from[u] = v where that is less.
  void offer_all(int64_t* best, int64_t* from, int v) {
    const int64_t* row = weights(v);
    const Long dual = simd::broadcast<Long>(dual_[v]), here = simd::broadcast<Long>(v);
    for (int64_t u = 0; u < row_; u += W) {
      const Long w = simd::load<Long>(row + u), offer = dual - (w + w), old = simd::load<Long>(best + u);
      const Long better = offer < old;
      simd::store(best + u, better ? offer : old);
      simd::store(from + u, better ? here : simd::load<Long>(from + u));
    }
  }

  void merge_vertex(int b, int v) { offer_all(blossom_offers(b), blossom_offers(b) + row_, v); }

  void merge_blossom(int b, int part) {
    int64_t *best = blossom_offers(b), *from = best + row_;
    const int64_t *other = blossom_offers(part), *other_from = other + row_;
    for (int64_t u = 0; u < row_; u += W) {
      const Long offer = simd::load<Long>(other + u), old = simd::load<Long>(best + u), better = offer < old;
      simd::store(best + u, better ? offer : old);
      simd::store(from + u, better ? simd::load<Long>(other_from + u) : simd::load<Long>(from + u));
    }
  }

  /// Finds the first edge from an outer top to other outer ones that becomes tight.
  void find_partner(int b) {
    const int64_t* best;
    if (is_vertex(b)) {
      best = scratch_.get(row_);
      const Long dual = simd::broadcast<Long>(dual_[b]);
      for (int64_t u = 0; u < row_; u += W) {
        const Long w = simd::load<Long>(weights(b) + u);
        simd::store(scratch_.get(row_) + u, dual - (w + w));
      }
    } else {
      best = blossom_offers(b);
    }
    each_vertex(b, [&](int v) { outer_[v] = kNever; });
    partner_of_[b] = least_sum(outer_, best, row_);
    each_vertex(b, [&](int v) { outer_[v] = dual_[v]; });
  }
  simd::Buffer<int64_t> scratch_;

  // ---------------------------------------------------------------------------------------------------- steps

  /// The tight edge from outer u to free v: the tree grows by two tops, or ends at an unmatched one.
  bool grow(int u, int v) {
    const int b = top_[v];
    if (mate_[base_[b]] == kNone) {
      augment(u, v);
      rebase(b, v);
      mate_[v] = u;
      return true;
    }
    make_inner(b, u, v);
    make_outer(top_[mate_[base_[b]]]);
    return false;
  }

  /// The tight edge between two outer tops: a path between two trees, or a new blossom.
  bool meet(int b) {
    const int v = partner_of_[b].at, u = is_vertex(b) ? b : int(blossom_offers(b)[row_ + v]);
    const int ancestor = common_ancestor(b, top_[v]);
    if (ancestor == kNone) {
      augment(u, v);
      augment(v, u);
      return true;
    }
    contract(u, v, ancestor);
    return false;
  }

  /// The outer top above an outer one in its tree.
  int above(int b) const {
    const int m = mate_[base_[b]];
    return m == kNone ? kNone : top_[link_[top_[m]].first];
  }

  int common_ancestor(int a, int b) {
    ++walk_;
    while (a != kNone || b != kNone) {
      if (a != kNone) {
        if (pass_[a] == walk_) return a;
        pass_[a] = walk_;
        a = above(a);
      }
      std::swap(a, b);
    }
    return kNone;
  }

  /// Matches outer u with v, and turns the path from u to the root of its tree.
  void augment(int u, int v) {
    for (;;) {
      const int b = top_[u], old = mate_[base_[b]];
      rebase(b, u);
      mate_[u] = v;
      if (old == kNone) return;
      const int inner = top_[old];
      const auto [outer, own] = link_[inner];
      rebase(inner, own);
      mate_[own] = outer;
      u = outer, v = own;
    }
  }

  /// An outer vertex with dual 0 becomes the unmatched one of its tree.
  void release(int u) {
    const int b = top_[u], old = mate_[base_[b]];
    rebase(b, u);
    mate_[u] = kNone;
    if (old == kNone) return;
    const int inner = top_[old];
    const auto [outer, own] = link_[inner];
    rebase(inner, own);
    mate_[own] = outer;
    augment(outer, own);
  }

  /// Makes v the base of b: within b all others are matched among themselves.
  void rebase(int b, int v) {
    if (is_vertex(b) || base_[b] == v) return;
    int part = v;
    while (parent_[part] != b) part = parent_[part];
    std::vector<int>& cycle = cycle_[b];
    auto& joint = joint_[b];
    const auto k = std::find(cycle.begin(), cycle.end(), part) - cycle.begin();
    std::rotate(cycle.begin(), cycle.begin() + k, cycle.end());
    std::rotate(joint.begin(), joint.begin() + k, joint.end());
    rebase(part, v);
    for (size_t i = 1; i < cycle.size(); i += 2) {
      const auto [p, q] = joint[i];
      if (mate_[p] == q && mate_[q] == p) continue;
      rebase(cycle[i], p);
      rebase(cycle[i + 1], q);
      mate_[p] = q, mate_[q] = p;
    }
    base_[b] = v;
  }

  /// Makes a blossom of the cycle that the edge (u, v) closes below `ancestor`.
  void contract(int u, int v, int ancestor) {
    const int b = spare_.back();
    spare_.pop_back();
    auto& cycle = cycle_[b];
    auto& joint = joint_[b];
    cycle.clear(), joint.clear();
    walk_up(u, ancestor, cycle, joint);
    std::reverse(cycle.begin(), cycle.end());
    std::reverse(joint.begin(), joint.end());
    for (auto& edge : joint) std::swap(edge.first, edge.second);
    joint.push_back({u, v});
    walk_up(v, ancestor, cycle, joint);
    cycle.pop_back();  // the ancestor comes first already
    base_[b] = base_[ancestor], parent_[b] = kNone, label_[b] = kOuter, dual_[b] = -2 * time_;
    std::fill_n(blossom_offers(b), row_, kNever);
    std::fill_n(blossom_offers(b) + row_, row_, int64_t(0));
    for (const int part : cycle) absorb(b, part);
    tops_.erase(std::remove_if(tops_.begin(), tops_.end(), [&](int t) { return parent_[t] != kNone; }), tops_.end());
    tops_.push_back(b);
    find_partner(b);
  }

  /// The tops from that of u up to `ancestor`, and the edges between them.
  void walk_up(int u, int ancestor, std::vector<int>& cycle, std::vector<std::pair<int, int>>& joint) {
    int b = top_[u];
    cycle.push_back(b);
    while (b != ancestor) {
      const int m = mate_[base_[b]], inner = top_[m];
      joint.push_back({base_[b], m});
      cycle.push_back(inner);
      joint.push_back({link_[inner].second, link_[inner].first});
      b = top_[link_[inner].first];
      cycle.push_back(b);
    }
  }

  void absorb(int b, int part) {
    const bool was_outer = label_[part] == kOuter;
    if (!is_vertex(part)) dual_[part] += 2 * label_[part] * time_;
    if (was_outer && !is_vertex(part)) merge_blossom(b, part);
    parent_[part] = b;
    each_vertex(part, [&](int v) {
      top_[v] = b;
      if (!was_outer) {
        dual_[v] += time_;  // as free; `begin_outer` adds what an outer one needs
        begin_outer(v);
      }
      if (!was_outer || is_vertex(part)) merge_vertex(b, v);
    });
  }

  /// Opens a blossom: an inner one, whose parts along the path through it stay in the tree, or one without a label.
  void expand(int b, bool inner) {
    const std::vector<int> cycle = cycle_[b];
    const std::vector<std::pair<int, int>> joint = joint_[b];
    const std::pair<int, int> link = link_[b];
    tops_.erase(std::find(tops_.begin(), tops_.end(), b));
    spare_.push_back(b);
    if (inner) settle(b);
    for (const int part : cycle) {
      parent_[part] = kNone, label_[part] = kFree;
      tops_.push_back(part);
      each_vertex(part, [&](int v) { top_[v] = part; });
    }
    if (!inner) return;
    const int size = int(cycle.size());
    int i = int(std::find(cycle.begin(), cycle.end(), top_[link.second]) - cycle.begin());
    make_inner(cycle[i], link.first, link.second);
    const bool forward = i % 2 == 1;  // towards the base, beginning with a matched edge
    while (i != 0) {
      const int middle = forward ? i + 1 : i - 1, next = forward ? (i + 2) % size : i - 2;
      make_outer(cycle[middle]);
      const auto edge = forward ? joint[middle] : std::pair(joint[next].second, joint[next].first);
      make_inner(cycle[next], edge.first, edge.second);
      i = next;
    }
  }
};

constexpr int kBits = 60;  // of the duals

template <class T>
struct Batch {
  const T* scores;
  const uint8_t* mask;
  const int64_t* edges;  // both ends
  bool own;
  int64_t count, nodes, size;
  Kind kind;
  bool smallest;
  T* solution;
  uint8_t* status;  // 1 where there is no matching, or a weight is NaN or plus infinity
  double *vertices, *blossoms;  // duals (count, nodes) and (count, nodes / 2), or null
  uint8_t* members;             // (count, nodes / 2, nodes)
};

/// Fills in the weights of instance b, solves it, and marks the edges.
template <class T>
void solve_one(const Batch<T>& batch, int64_t b, Blossom& blossom, std::vector<int32_t>& edge_of, std::vector<uint8_t>& used) {
  const int64_t n = batch.nodes;
  const int64_t *tails = batch.edges + (batch.own ? 2 * b * batch.size : 0), *heads = tails + batch.size;
  const T* scores = batch.scores + b * batch.size;
  T* out = batch.solution + b * batch.size;
  std::fill_n(out, batch.size, T(0));
  const double worst = -std::numeric_limits<double>::infinity();
  const auto weight = [&](int64_t e) {
    if ((batch.mask && !batch.mask[b * batch.size + e])) return worst;
    return batch.smallest ? -double(scores[e]) : double(scores[e]);
  };
  double greatest = 0;
  bool valid = true;
  for (int64_t e = 0; e < batch.size; ++e) {
    valid &= weight(e) < -worst;
    if (weight(e) > worst) greatest = std::max(greatest, std::fabs(weight(e)));
  }
  batch.status[b] = !valid;
  if (!valid) return;
  const int room = kBits - 4 - std::ilogb(double(2 * n + 2));
  const int shift = greatest > 0 ? room - std::ilogb(greatest) - 1 : 0;
  for (int64_t i = 0; i < blossom.row(); ++i) std::fill_n(blossom.weights(i), blossom.row(), kNoEdge);
  std::fill(used.begin(), used.end(), uint8_t(!batch.own));
  for (int64_t e = 0; e < batch.size; ++e) {
    if (batch.mask && !batch.mask[b * batch.size + e]) continue;
    const int64_t u = tails[e], v = heads[e];
    used[u] = used[v] = 1;
    if (u == v || !(weight(e) > worst)) continue;
    const int64_t w = 2 * int64_t(std::nearbyint(std::ldexp(weight(e), shift)));
    if (w <= blossom.weights(u)[v]) continue;
    blossom.weights(u)[v] = blossom.weights(v)[u] = w;
    edge_of[u * n + v] = edge_of[v * n + u] = int32_t(e);
  }
  batch.status[b] = !blossom.solve(batch.kind, used.data());
  if (batch.status[b]) return;
  for (int v = 0; v < n; ++v)
    if (blossom.mate(v) > v) out[edge_of[v * n + blossom.mate(v)]] = T(1);
  if (batch.vertices)  // a weight is two integers, and a slack compares duals with twice the weight
    blossom.duals(std::ldexp(1.0, -shift - 2), batch.vertices + b * n, batch.blossoms + b * (n / 2),
                  batch.members + b * (n / 2) * n);
}

/// Returns the number of instances that have a status, or -1 if memory ran out.
template <class T>
int64_t solve_batch(const Batch<T>& batch, int threads) {
  const double cost = 500 + 2.0 * std::pow(double(batch.nodes), 2.5);
  const bool done = parallel::for_parts(batch.count, cost, threads, [&](int64_t begin, int64_t end) {
    Blossom blossom(batch.nodes);
    std::vector<int32_t> edge_of(batch.nodes * batch.nodes);
    std::vector<uint8_t> used(batch.nodes);
    for (int64_t b = begin; b < end; ++b) solve_one(batch, b, blossom, edge_of, used);
  });
  return done ? batch.count - std::count(batch.status, batch.status + batch.count, uint8_t(0)) : -1;
}

}  // namespace

#define SOLVERLAYERS_MATCHING(NAME, T)                                                                                       \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_matching_edges_##NAME(                              \
      const T* scores, const uint8_t* mask, const int64_t* edges, int own, int64_t count, int64_t nodes, int64_t size,       \
      int kind, int smallest, T* solution, uint8_t* status, double* vertices, double* blossoms, uint8_t* members,            \
      int threads) {                                                                                                         \
    return solve_batch(Batch<T>{scores, mask, edges, own != 0, count, nodes, size, Kind(kind), smallest != 0, solution,      \
                                status, vertices, blossoms, members},                                                        \
                       threads);                                                                                             \
  }

SOLVERLAYERS_MATCHING(float32, float)
SOLVERLAYERS_MATCHING(float64, double)
