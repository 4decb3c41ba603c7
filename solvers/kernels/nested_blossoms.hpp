// Blossoms: odd sets of vertices, one inside the other, and the matching within them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace matching {

constexpr int kNone = -1;
using Edge = std::pair<int, int>;

/// Numbers up to n are vertices, from there on blossoms. A blossom is a cycle of an odd number of parts, which are matched within
/// it but for its base, so that any one of its vertices may be matched outside.
class Nest {
 protected:
  explicit Nest(int n) : n_(n), parent_(2 * n + 1), base_(2 * n + 1), cycle_(2 * n + 1), joint_(2 * n + 1), mate_(n), top_(n) {}

  const int n_;
  std::vector<int> parent_, base_;        // blossom around, or kNone; base vertex
  std::vector<std::vector<int>> cycle_;   // parts of a blossom from its base on
  std::vector<std::vector<Edge>> joint_;  // joint_[b][i]: the edge from part i to the next
  std::vector<int> mate_, top_, tops_;    // the partner of each vertex; the outermost set around it; all of these
  std::vector<int> spare_;                // numbers of blossoms that are not in use

  bool is_vertex(int b) const { return b < n_; }

  /// No blossoms, and nothing matched.
  void clear() {
    spare_.clear(), tops_.clear();
    for (int b = 2 * n_; b >= n_; --b) spare_.push_back(b);
    for (int v = 0; v < n_; ++v) {
      mate_[v] = kNone, top_[v] = v, parent_[v] = kNone, base_[v] = v;
      tops_.push_back(v);
    }
  }

  template <class F>
  void each_vertex(int b, const F& f) {
    if (is_vertex(b)) return f(b);
    for (const int part : cycle_[b]) each_vertex(part, f);
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
};

}  // namespace matching
