// Spanning arborescences of least or greatest cost: trees of arcs that lead from a root to all nodes.
//
// Edmonds' algorithm as paths that grow backwards (Gabow et al., 1986). From a node outside the tree the path goes on to the tail
// of its cheapest arc, and so on; what a node pays for its arc is taken off all arcs into it, as its dual. A path that meets the
// tree becomes a part of it. One that meets itself has closed a cycle, which is contracted to a node that has all arcs into the
// cycle (`entering_arcs.hpp`). At the end cycles are opened from the last to the first: the arc into a cycle replaces the one of
// the cycle that ends at the same node.
//
// Where the root is free, it pays a price above all others, which is worth paying where no arc leads into a contracted node; so
// for each of those the best node to enter it from outside is kept.
//
// Costs are summed in float64. Sources: Chu, Liu (1965); Edmonds, "Optimum branchings" (1967); Tarjan, "Finding optimum
// branchings" (1977); Gabow, Galil, Spencer, Tarjan (1986), section 4.
#include <algorithm>
#include <vector>

#include "batches.hpp"
#include "entering_arcs.hpp"

namespace arborescence {
namespace {

template <class T, class Arcs>
class Tree {
 public:
  explicit Tree(const Batch<T>& batch) : batch_(batch), arcs_(batch), n_(batch.nodes) {
    for (auto* numbers : {&above_, &keeper_, &around_, &first_, &last_}) numbers->resize(2 * n_);
    state_.resize(2 * n_), dual_.resize(2 * n_), entry_.resize(2 * n_), outside_.resize(2 * n_);
    used_.resize(n_), follower_.resize(n_);
  }

  void solve(int64_t b) {
    begin(b);
    batch_.status[b] = !grow_all();
    T* out = batch_.solution + b * batch_.size;
    std::fill_n(out, batch_.size, T(0));
    if (!batch_.status[b]) {
      open();
      for (int64_t v = 0; v < n_; ++v)
        if (entry_[v].number >= 0) out[entry_[v].number] = T(1);
    }
    if (!batch_.duals) return;
    for (int64_t k = 0; k < 2 * n_; ++k) {
      batch_.duals[b * 2 * n_ + k] = k < next_ ? dual_[k] : 0;
      batch_.parents[b * 2 * n_ + k] = k < next_ ? around_[k] : kNone;
    }
  }

 private:
  enum State : uint8_t { kNew, kOnPath, kInTree };
  struct Outside {
    double cost;   // of entering from a free root
    int64_t head;  // where
  };

  const Batch<T>& batch_;
  Arcs arcs_;
  const int64_t n_;
  int64_t next_ = 0;  // the number of the next contracted node
  bool root_is_free_ = false;
  std::vector<int64_t> above_, keeper_, around_;  // for finding; whose arcs a contracted node has; the one around it
  std::vector<int64_t> first_, last_, follower_;       // the nodes in each contracted node, one after the other
  std::vector<uint8_t> state_, used_;
  std::vector<double> dual_;
  std::vector<Arc> entry_;
  std::vector<Outside> outside_;
  std::vector<int64_t> path_;

  void begin(int64_t b) {
    arcs_.begin(b, used_.data());
    next_ = n_;
    for (int64_t v = 0; v < n_; ++v) {
      above_[v] = keeper_[v] = v, around_[v] = kNone;
      state_[v] = used_[v] ? kNew : kInTree;
      dual_[v] = 0, entry_[v] = Arc{}, outside_[v] = {0, v};
      first_[v] = last_[v] = v, follower_[v] = kNone;
    }
    const int64_t root = batch_.roots[b];
    root_is_free_ = root < 0;
    if (!root_is_free_) state_[root] = kInTree;
  }

  int64_t top(int64_t v) {
    while (above_[v] != v) v = above_[v] = above_[above_[v]];
    return v;
  }

  bool grow_all() {
    for (int64_t v = 0; v < n_; ++v)
      if (state_[top(v)] == kNew && !grow(top(v))) return false;
    return true;
  }

  /// A path that starts at k and ends in the tree. False if there is none.
  bool grow(int64_t k) {
    path_.clear();
    for (;;) {
      if (state_[k] == kNew) path_.push_back(k), state_[k] = kOnPath;
      const Arc arc = arcs_.cheapest(keeper_[k], [&](int64_t v) { return top(v) == k; });
      entry_[k] = arc;
      if (arc.tail == kNone) {
        if (!root_is_free_) return false;
        root_is_free_ = false;
        dual_[k] = outside_[k].cost, entry_[k].head = outside_[k].head;
        break;
      }
      dual_[k] = arc.cost;
      const int64_t before = top(arc.tail);
      if (state_[before] == kInTree) break;
      k = state_[before] == kNew ? before : contract(before);
    }
    for (const int64_t on : path_) state_[on] = kInTree;
    return true;
  }

  /// Makes one node of the end of the path, from `first` on.
  int64_t contract(int64_t first) {
    const int64_t k = next_++;
    above_[k] = k, around_[k] = kNone, state_[k] = kNew, keeper_[k] = keeper_[first];
    outside_[k] = {kInfinity, kNone};
    first_[k] = kNone;
    arcs_.take_off(keeper_[first], dual_[first]);
    for (int64_t part = kNone; part != first;) {
      part = path_.back();
      path_.pop_back();
      if (part != first) {
        arcs_.take_off(keeper_[part], dual_[part]);
        arcs_.merge(keeper_[first], keeper_[part]);
      }
      const double cost = outside_[part].cost - dual_[part];
      if (cost < outside_[k].cost) outside_[k] = {cost, outside_[part].head};
      above_[part] = around_[part] = k;
      if (first_[k] == kNone) last_[k] = last_[part];
      else follower_[last_[part]] = first_[k];
      first_[k] = first_[part];
    }
    arcs_.close(keeper_[k], follower_.data(), first_[k]);
    return k;
  }

  /// Opens all contracted nodes: their arcs replace those of the nodes and smaller cycles that they end at.
  void open() {
    for (int64_t k = next_ - 1; k >= n_; --k) {
      const Arc arc = entry_[k];
      if (state_[k] == kNew) continue;  // its parts have been entered already
      for (int64_t v = arc.head; v != k; v = around_[v]) entry_[v] = arc, state_[v] = kNew;
    }
  }
};

template <class T>
int64_t solve_in_rows(const Batch<T>& batch, int threads) {
  const double n = double(batch.nodes);
  return batches::solve_each<Tree<T, Rows<T>>>(batch, 2.0 * n * n + 100.0 * n + 100, threads);
}

template <class T>
int64_t solve_lists(const Batch<T>& batch, int threads) {
  if (!Heaps<T>::suits(batch)) return solve_in_rows(batch, threads);
  return batches::solve_each<Tree<T, Heaps<T>>>(batch, 60.0 * double(batch.size) + 100.0 * double(batch.nodes) + 100, threads);
}

}  // namespace

#define SOLVERLAYERS_ARBORESCENCE(NAME, T)                                                                                    \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_arborescence_##NAME(                                 \
      const T* costs, const uint8_t* mask, const int64_t* edges, const int64_t* roots, int own, int64_t count, int64_t nodes, \
      int64_t size, int largest, T* solution, uint8_t* status, double* duals, int64_t* parents, int threads) {                \
    return solve_lists(Batch<T>{costs, mask, edges, roots, own != 0, count, nodes, size, largest != 0, solution, status, duals,\
                                parents},                                                                                     \
                       threads);                                                                                              \
  }                                                                                                                           \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_arborescence_dense_##NAME(                           \
      const T* costs, const uint8_t* mask, const int64_t* roots, int64_t count, int64_t nodes, int largest, T* solution,      \
      uint8_t* status, double* duals, int64_t* parents, int threads) {                                                        \
    return solve_in_rows(Batch<T>{costs, mask, nullptr, roots, false, count, nodes, nodes * nodes, largest != 0, solution,    \
                                  status, duals, parents},                                                                    \
                         threads);                                                                                            \
  }

SOLVERLAYERS_ARBORESCENCE(float32, float)
SOLVERLAYERS_ARBORESCENCE(float64, double)

}  // namespace arborescence
