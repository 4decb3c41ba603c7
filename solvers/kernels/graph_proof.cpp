// Graph matching and quadratic assignment, exactly: branch and bound with dual ascent.
//
// Idea. Let d[i,k][j,l] be the cost of choosing the pairs (i, k) and (j, l) together. What (i, k) costs with all others is at
// least a linear assignment over (j, l); reduce d[i,k] by its duals and move the optimum to the linear cost c[i,k]. An
// assignment with the costs c, reduced likewise, raises the bound. Costs can be moved on without changing any permutation's
// total: from d[j,l][i,k] to d[i,k][j,l], and from c[i,k] evenly to d[i,k], as exactly one pair is chosen in each other row. So
// every round raises the bound, and what is left of c and d is non-negative: the least that each choice adds to the bound.
// Branching chooses a row and tries its columns; a child starts from what is left of its parent's costs.
//
// Sources: P. M. Hahn, T. Grant, "Lower bounds for the quadratic assignment problem based upon a dual formulation", Operations
// Research 46 (1998); P. C. Gilmore, "Optimal and suboptimal algorithms for the quadratic assignment problem", SIAM J. 10 (1962).
#include <memory>
#include <vector>

#include "parallel.hpp"
#include "quadratic_form.hpp"
#include "warm_matching.hpp"

namespace quadratic {
namespace {

constexpr int kLargest = 32;  // rows for which costs of all two pairs are held: N^4 numbers

/// What is left of an instance when some rows are assigned.
struct Node {
  int size = 0, stride = 0;
  double bound = 0;
  std::vector<int> rows, columns;          // which are left, of the whole instance
  simd::Buffer<double> linear_buffer, pair_buffer;
  double *c = nullptr, *d = nullptr;       // (size, stride), (size, size, size, stride); infinite where not possible

  void resize(int n) {
    size = n, stride = std::max((n + kBlock - 1) / kBlock * kBlock, kBlock);
    rows.resize(n), columns.resize(n);
    c = linear_buffer.get(matrix());
    d = pair_buffer.get(matrix() * size * size);
    std::fill(c, c + matrix(), kInfinity);
    std::fill(d, d + matrix() * size * size, kInfinity);
  }

  int64_t matrix() const { return std::max<int64_t>(size, 1) * stride; }
  int64_t at(int i, int k) const { return int64_t(i) * stride + k; }
  double* pairs(int i, int k) { return d + (int64_t(i) * size + k) * matrix(); }
  bool possible(int i, int k) const { return c[at(i, k)] < kInfinity; }

  void forbid(int i, int k) {
    c[at(i, k)] = kInfinity;
    for (int j = 0; j < size; ++j)
      for (int l = 0; l < size; ++l) pairs(j, l)[at(i, k)] = kInfinity;
  }
};

class Prover {
 public:
  /// `partner` holds a good matching and receives the best.
  Status solve(const Batch& batch, int64_t b, int64_t nodes, int64_t* partner, double* bound) {
    *bound = std::nan("");
    if (!form_.read(batch, b)) return kInvalid;
    read_incumbent(batch, partner);
    nodes_ = nodes;
    Status status = kLimit;
    if (form_.size > kLargest) {
      *bound = root_bound();
    } else {
      make_root();
      const bool done = explore(0, bound);
      if (done) *bound = best_;
      if (done && best_ == kInfinity) return kInfeasible;
      if (done || *bound >= best_ - slack_) status = kSolved;
    }
    *bound *= batch.sign;
    for (int i = 0; i < form_.rows; ++i)
      partner[form_.row_name(i)] = best_p_[i] >= 0 && best_p_[i] < form_.columns ? form_.column_name(best_p_[i]) : -1;
    return status;
  }

 private:
  Form form_;
  WarmMatching matching_;
  std::vector<std::unique_ptr<Node>> path_;  // the nodes from the root to the current one
  std::vector<int> p_, best_p_;
  simd::Buffer<double> buffer_;
  double best_ = kInfinity, slack_ = 0;      // the incumbent's cost; what a bound may lack to prune
  int64_t nodes_ = 0;

  // ---- incumbents ----

  /// Takes the caller's matching, unless it leaves out more than it has to.
  void read_incumbent(const Batch& batch, const int64_t* partner) {
    p_.assign(form_.size, -1), best_p_.assign(form_.size, -1);
    best_ = kInfinity, slack_ = 0;
    if (!form_.permutation(partner, batch.m, p_.data())) return;
    offer(p_);
    slack_ = form_.integral ? 1 - 1e-6 : 1e-10 * weight(p_);
  }

  double value(const std::vector<int>& p) const {
    double sum = 0;
    for (int i = 0; i < form_.size; ++i) {
      sum += form_.linear[form_.at(i, p[i])] + form_.barrier[form_.at(i, p[i])];
      for (int j = 0; j < i; ++j) sum += form_.together(i, p[i], j, p[j]);
    }
    return sum;
  }

  double weight(const std::vector<int>& p) const {
    double sum = 0;
    for (int i = 0; i < form_.size; ++i) {
      sum += std::fabs(form_.linear[form_.at(i, p[i])]);
      for (int j = 0; j < i; ++j) sum += std::fabs(form_.together(i, p[i], j, p[j]));
    }
    return sum;
  }

  void offer(const std::vector<int>& p) {
    const double now = value(p);
    if (now < best_ - (form_.integral ? 0.5 : slack_)) best_ = now, best_p_ = p;
  }

  bool pruned(double bound) const { return bound >= best_ - slack_; }

  // ---- bounds ----

  void make_root() {
    if (path_.empty()) path_.push_back(std::make_unique<Node>());
    Node& node = *path_[0];
    const int size = form_.size;
    node.resize(size);
    node.bound = 0;
    for (int i = 0; i < size; ++i) node.rows[i] = node.columns[i] = i;
    for (int i = 0; i < size; ++i)
      for (int k = 0; k < size; ++k) {
        node.c[node.at(i, k)] = form_.linear[form_.at(i, k)] + form_.barrier[form_.at(i, k)];
        fill_pairs(i, k, node.pairs(i, k), node.stride);
      }
  }

  /// Half the cost of (i, k) with every other pair, the other half being theirs; (i, k) itself is chosen at no cost.
  void fill_pairs(int i, int k, double* d, int stride) const {
    const int size = form_.size;
    for (int j = 0; j < size; ++j)
      for (int l = 0; l < size; ++l) {
        const bool apart = j != i && l != k && form_.barrier[form_.at(j, l)] == 0;
        d[int64_t(j) * stride + l] = apart ? 0.5 * form_.together(i, k, j, l) : kInfinity;
      }
    d[int64_t(i) * stride + k] = 0;
  }

  /// The bound of Gilmore and Lawler, with one matrix of pairs at a time.
  double root_bound() {
    const int size = form_.size, stride = form_.stride;
    double* c = buffer_.get(2 * form_.matrix());
    double* d = c + form_.matrix();
    std::fill(c, c + 2 * form_.matrix(), kInfinity);
    for (int i = 0; i < size; ++i)
      for (int k = 0; k < size; ++k) {
        if (form_.barrier[form_.at(i, k)] > 0) continue;
        fill_pairs(i, k, d, stride);
        matching_.prepare(size, stride);
        if (matching_.solve(d)) c[form_.at(i, k)] = form_.linear[form_.at(i, k)] + matching_.value();
      }
    matching_.prepare(size, stride);
    return matching_.solve(c) ? matching_.value() : kInfinity;
  }

  /// The assignment of least cost, with the costs reduced by its duals; infinite if there is none.
  double reduce(double* cost, int size, int stride) {
    matching_.prepare(size, stride);
    if (!matching_.solve(cost)) return kInfinity;
    for (int i = 0; i < size; ++i) row_dual_[i] = matching_.row_dual(i);  // before their costs change
    const double value = matching_.value();
    for (int i = 0; i < size; ++i) {
      double* row = cost + int64_t(i) * stride;
      for (int k = 0; k < stride; ++k) row[k] = std::max(row[k] - row_dual_[i] - matching_.price[k], 0.0);
    }
    return value;
  }

  /// One round of dual ascent; `fresh` says that it is the first for this instance. False if nothing is possible.
  bool ascend(Node& node, bool fresh) {
    const int size = node.size;
    for (int i = 0; i < size; ++i)
      for (int k = 0; k < size; ++k) {
        if (!node.possible(i, k)) continue;
        double* own = node.pairs(i, k);
        const double share = size > 1 ? node.c[node.at(i, k)] / (size - 1) : 0;
        for (int j = 0; j < size; ++j) {
          if (j == i) continue;
          for (int l = 0; l < size; ++l) {
            double& here = own[node.at(j, l)];
            if (here == kInfinity) continue;
            here += share;
            if (fresh && (j > i || (j == i && l > k))) continue;  // not yet reduced: it may be negative, and has its own turn
            double& there = node.pairs(j, l)[node.at(i, k)];
            here += there;
            there = 0;
          }
        }
        const double least = reduce(own, size, node.stride);
        if (least == kInfinity) node.forbid(i, k);
        else node.c[node.at(i, k)] = size > 1 ? least : node.c[node.at(i, k)];
      }
    const double least = reduce(node.c, size, node.stride);
    if (least == kInfinity) return false;
    node.bound += least;
    return true;
  }

  // ---- branching ----

  /// Explores the node at `depth`, whose rows before it are assigned in p_. False if it was left unfinished, with `bound`.
  bool explore(int depth, double* bound) {
    Node& node = *path_[depth];
    if (node.size == 0) {
      offer(p_);
      return true;
    }
    constexpr int kRounds = 200;
    // Rounds go on while they close this share of the gap to the incumbent; with less, branching is faster.
    const double progress = nodes_ > 0 ? 0.2 : 0.002;
    for (int round = 0; round < kRounds; ++round) {
      const double before = node.bound;
      if (!ascend(node, depth == 0 && round == 0)) return true;
      for (int i = 0; i < node.size; ++i) p_[node.rows[i]] = node.columns[matching_.column_of[i]];
      offer(p_);
      if (pruned(node.bound)) return true;
      if (round > 0 && node.bound - before < progress * (best_ - node.bound)) break;
    }
    if (node.size == 1 && node.bound < kInfinity) return true;  // offered above
    if (bound) *bound = node.bound;
    if (nodes_ <= 0) return false;
    --nodes_;
    return branch(depth);
  }

  bool branch(int depth) {
    Node& node = *path_[depth];
    const int i = widest_row(node);
    std::vector<std::pair<double, int>> children;
    for (int k = 0; k < node.size; ++k)
      if (node.possible(i, k)) children.push_back({node.c[node.at(i, k)], k});
    std::sort(children.begin(), children.end());
    bool done = true;
    for (const auto& [more, k] : children) {
      if (pruned(node.bound + more)) break;
      make_child(depth, i, k);
      p_[node.rows[i]] = node.columns[k];
      done &= explore(depth + 1, nullptr);
    }
    return done;
  }

  /// The row whose choices raise the bound most.
  int widest_row(const Node& node) const {
    int widest = 0;
    double most = -1;
    for (int i = 0; i < node.size; ++i) {
      double sum = 0;
      for (int k = 0; k < node.size; ++k) sum += std::min(node.c[node.at(i, k)], best_ - node.bound);
      if (sum > most) most = sum, widest = i;
    }
    return widest;
  }

  void make_child(int depth, int i, int k) {
    if (int(path_.size()) < depth + 2) path_.push_back(std::make_unique<Node>());
    Node &node = *path_[depth], &child = *path_[depth + 1];
    child.resize(node.size - 1);
    child.bound = node.bound + node.c[node.at(i, k)];
    for (int j = 0; j < child.size; ++j) child.rows[j] = node.rows[j + (j >= i)], child.columns[j] = node.columns[j + (j >= k)];
    for (int j = 0; j < child.size; ++j)
      for (int l = 0; l < child.size; ++l) {
        const int old_j = j + (j >= i), old_l = l + (l >= k);
        const double *from = node.pairs(old_j, old_l), with = node.pairs(i, k)[node.at(old_j, old_l)];
        const double own = node.c[node.at(old_j, old_l)];
        if (own == kInfinity || with == kInfinity || from[node.at(i, k)] == kInfinity) continue;
        child.c[child.at(j, l)] = own + with + from[node.at(i, k)];
        double* to = child.pairs(j, l);
        for (int x = 0; x < child.size; ++x)
          for (int y = 0; y < child.size; ++y) to[child.at(x, y)] = from[node.at(x + (x >= i), y + (y >= k))];
      }
  }

  double row_dual_[kLargest];
};

}  // namespace
}  // namespace quadratic

/// Improves `partners` and writes the best proved bounds and the status of each instance, kLimit where branches are left after
/// `nodes` nodes; returns how many are not solved, -1 without memory.
extern "C" __attribute__((visibility("default"))) int64_t solverlayers_graph_matching_prove(
    const quadratic::Batch* batch, int64_t nodes, int64_t* partners, double* bounds, uint8_t* status, double nanoseconds,
    int threads) {
  const bool done = parallel::for_parts(batch->count, nanoseconds, threads, [&](int64_t begin, int64_t end) {
    quadratic::Prover prover;
    for (int64_t b = begin; b < end; ++b) status[b] = prover.solve(*batch, b, nodes, partners + b * batch->n, bounds + b);
  });
  if (!done) return -1;
  return batch->count - std::count(status, status + batch->count, uint8_t(quadratic::kSolved));
}
