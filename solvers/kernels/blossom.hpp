// Matchings in general graphs of greatest weight, on a dense matrix of whole numbers.
//
// Edmonds' blossom algorithm in O(n^3): vertices and blossoms (odd sets that are contracted) have dual values, and alternating
// trees grow from all unmatched vertices at once along tight edges. Between two steps all duals in the trees change at the same
// speed, so each vertex keeps its dual at time 0 of the search and the direction in which it moves; then everything that is
// compared, such as the time at which an edge becomes tight, is constant until the label of a vertex changes. A vertex that
// becomes outer offers its edges to all others, a register at a time; a blossom inherits the least offers of its parts.
//
// Sources: Edmonds (1965); Galil, "Efficient algorithms for finding maximum matching in graphs" (1986); duals kept by time:
// Gabow (1976).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "edge_offers.hpp"
#include "nested_blossoms.hpp"
#include "simd.hpp"

namespace matching {

constexpr int64_t kNoEdge = -(int64_t(1) << 59);  // the weight of an edge that is not there

enum Kind { kAny = 0, kLargest = 1, kPerfect = 2 };
enum Label : int8_t { kInner = -1, kFree = 0, kOuter = 1 };

/// One instance at a time, on a dense matrix of weights.
class Blossom : Nest {
 public:
  explicit Blossom(int64_t n)
      : Nest(int(n)), row_(simd::padded<int64_t>(std::max<int64_t>(n, 1))), dual_(2 * n + 1), label_(2 * n + 1),
        pass_(2 * n + 1), link_(2 * n + 1), partner_of_(2 * n + 1), alive_(n) {
    weight_ = weights_.get(row_ * row_);
    free_ = numbers_.get(2 * row_), outer_ = free_ + row_;
    offers_ = rows_.get(2 * (n + 2) * row_);
    scratch_ = scratch_memory_.get(row_);
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
  const int64_t row_;
  Kind kind_ = kAny;
  simd::Buffer<int64_t> weights_, numbers_, rows_, scratch_memory_;
  int64_t* weight_;
  int64_t *free_, *outer_;       // dual of each vertex at time 0 if it is free, or if it is outer; kNever otherwise
  int64_t* offers_;              // from all outer vertices, then from each outer blossom alone
  int64_t* scratch_;
  std::vector<int64_t> dual_;    // of vertices and blossoms, at time 0
  std::vector<int8_t> label_;    // of tops
  std::vector<int> pass_;        // mark of a walk
  std::vector<Edge> link_;       // the edge by which an inner top was reached: (outer vertex, its own vertex)
  std::vector<Least> partner_of_;  // of outer tops: when and where an edge to another outer top becomes tight
  std::vector<uint8_t> alive_;
  int64_t time_ = 0;
  Least exhausted_{kNever, kNone};  // when the dual of an outer vertex becomes 0
  int walk_ = 0;

  Offers offers(int64_t place) const { return {offers_ + 2 * place * row_, offers_ + (2 * place + 1) * row_, row_}; }
  Offers all_offers() const { return offers(0); }
  Offers offers_of(int blossom) const { return offers(blossom - n_ + 1); }

  void list_blossoms(int b, double unit, double* blossoms, uint8_t* members, int64_t& count) {
    if (is_vertex(b)) return;
    if (dual_[b] > 0) {
      blossoms[count] = unit * double(dual_[b]);
      each_vertex(b, [&](int v) { members[count * n_ + v] = 1; });
      ++count;
    }
    for (const int part : cycle_[b]) list_blossoms(part, unit, blossoms, members, count);
  }

  // ---------------------------------------------------------------------------------------------------- beginning and end

  /// Duals that leave no slack negative, and the tight edges that can be matched at once.
  void begin(const uint8_t* used) {
    clear();
    int64_t greatest = 0;
    for (int v = 0; v < n_; ++v) {
      alive_[v] = used[v], label_[v] = kFree;
      int64_t most = kNoEdge;
      for (int u = 0; u < n_; ++u) most = std::max(most, weights(v)[u]);
      dual_[v] = most == kNoEdge ? 0 : most;
      if (kind_ == kAny) dual_[v] = std::max<int64_t>(dual_[v], 0);
      greatest = std::max(greatest, dual_[v]);
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
    all_offers().clear();
    std::fill_n(free_, row_, kNever);
    std::fill_n(outer_, row_, kNever);
    for (int v = 0; v < n_; ++v) free_[v] = dual_[v];
    bool any = false;
    const std::vector<int> tops = tops_;
    for (const int b : tops)
      if (mate_[base_[b]] == kNone && alive_[base_[b]] && !(kind_ == kAny && dual_[base_[b]] == 0)) make_outer(b), any = true;
    if (!any) return false;
    for (;;) {
      const Least reach = least_sum(free_, all_offers().best, row_);
      Least join{kNever, kNone}, open{kNever, kNone};
      for (const int b : tops_) {
        if (label_[b] == kOuter && partner_of_[b].value < join.value) join = {partner_of_[b].value, b};
        if (label_[b] == kInner && !is_vertex(b) && dual_[b] / 2 < open.value) open = {dual_[b] / 2, b};
      }
      const int64_t joined = join.value >= kNever ? kNever : join.value / 2;
      const int64_t first = std::min(std::min(reach.value, joined), std::min(open.value, exhausted_.value));
      if (first >= kNever / 8) return finish(), false;
      time_ = first;
      if (exhausted_.value == first) return augment(exhausted_.at, kNone), finish(), true;
      if (joined == first) {
        if (meet(join.at)) return finish(), true;
      } else if (reach.value == first) {
        if (grow(int(all_offers().from[reach.at]), reach.at)) return finish(), true;
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
      offers_of(b).clear();
    }
    each_vertex(b, [&](int v) {
      begin_outer(v);
      if (!is_vertex(b)) offers_of(b).add(v, dual_[v], weights(v));
    });
    find_partner(b);
  }

  void begin_outer(int v) {
    dual_[v] += time_;
    free_[v] = kNever, outer_[v] = dual_[v];
    if (kind_ == kAny && dual_[v] < exhausted_.value) exhausted_ = {dual_[v], v};
    all_offers().add(v, dual_[v], weights(v));
  }

  /// Finds the first edge from an outer top to other outer ones that becomes tight.
  void find_partner(int b) {
    const int64_t* best;
    if (is_vertex(b)) {
      best = scratch_;
      const Long dual = simd::broadcast<Long>(dual_[b]);
      for (int64_t u = 0; u < row_; u += W) {
        const Long w = simd::load<Long>(weights(b) + u);
        simd::store(scratch_ + u, dual - (w + w));
      }
    } else {
      best = offers_of(b).best;
    }
    each_vertex(b, [&](int v) { outer_[v] = kNever; });
    partner_of_[b] = least_sum(outer_, best, row_);
    each_vertex(b, [&](int v) { outer_[v] = dual_[v]; });
  }

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
    const int v = partner_of_[b].at, u = is_vertex(b) ? b : int(offers_of(b).from[v]);
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

  /// Matches outer u with v, and turns the path from u to the root of its tree; with v none, u takes the place of the root.
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
    offers_of(b).clear();
    for (const int part : cycle) absorb(b, part);
    tops_.erase(std::remove_if(tops_.begin(), tops_.end(), [&](int t) { return parent_[t] != kNone; }), tops_.end());
    tops_.push_back(b);
    find_partner(b);
  }

  /// The tops from that of u up to `ancestor`, and the edges between them.
  void walk_up(int u, int ancestor, std::vector<int>& cycle, std::vector<Edge>& joint) {
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
    if (was_outer && !is_vertex(part)) offers_of(b).merge(offers_of(part));
    parent_[part] = b;
    each_vertex(part, [&](int v) {
      top_[v] = b;
      if (!was_outer) {
        dual_[v] += time_;  // as free; `begin_outer` adds what an outer one needs
        begin_outer(v);
      }
      if (!was_outer || is_vertex(part)) offers_of(b).add(v, dual_[v], weights(v));
    });
  }

  /// Opens a blossom: an inner one, whose parts along the path through it stay in the tree, or one without a label.
  void expand(int b, bool inner) {
    const std::vector<int> cycle = cycle_[b];
    const std::vector<Edge> joint = joint_[b];
    const Edge link = link_[b];
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

}  // namespace matching
