// Graph matching and quadratic assignment by search: Frank-Wolfe on the relaxation, then exchanges of two rows' columns.
//
// Idea. Relax permutations to doubly stochastic matrices. The gradient at a matrix is itself the cost of a linear assignment;
// its solution is the vertex to walk towards, as far as the quadratic along the line says. The vertex nearest to where that
// ends is improved by the best exchange of two columns until there is none, and then by a tabu search. All that starts several
// times: from the centre, and half way to pseudo-random matchings that depend on `seed` and positions alone.
//
// The gradient is linear, so that of the next matrix is a mix of those of the last and of the vertex: one product of matrices a
// step, with nothing but additions of rows for sparse graphs. At a permutation the same gradient gives the cost of every
// exchange in constant time.
//
// Sources: J. T. Vogelstein et al., "Fast approximate quadratic programming for graph matching", PLOS ONE 10 (2015);
// M. Leordeanu, M. Hebert, R. Sukthankar, "An integer projected fixed point method for graph matching", NIPS 2009;
// E. Taillard, "Robust taboo search for the quadratic assignment problem", Parallel Computing 17 (1991).
#include "parallel.hpp"
#include "quadratic_form.hpp"
#include "warm_matching.hpp"

namespace quadratic {
namespace {

struct Settings {
  int64_t restarts, iterations, exchanges;  // exchanges: steps of tabu search from each local optimum
  int64_t seed;
  int64_t warm;  // whether the caller gave matchings, the first start, in place of the last one
};

/// A number in [0, 1) that depends on the arguments alone (splitmix64).
double noise(int64_t seed, int64_t a, int64_t b, int64_t c) {
  uint64_t z = uint64_t(seed) * 0x9e3779b97f4a7c15 + uint64_t(a + 1) * 0xbf58476d1ce4e5b9 + uint64_t(b + 1) * 0x94d049bb133111eb +
               uint64_t(c + 1) * 0xd6e8feb86659fd93;
  for (int round = 0; round < 2; ++round) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
  }
  return double(z >> 11) * 0x1p-53;
}

class Search {
 public:
  Status solve(const Batch& batch, int64_t b, const Settings& settings, int64_t* partner) {
    const bool valid = form_.read(batch, b);
    allocate();
    const bool warm = valid && settings.warm && form_.permutation(partner, batch.m, p_);
    std::fill(partner, partner + batch.n, -1);
    if (!valid) return kInvalid;
    matching_.prepare(form_.size, form_.stride);
    double best = kInfinity;
    const int64_t others = settings.restarts - warm;
    if (warm) improve(settings, others, best);
    for (int64_t start = 0; start < others; ++start) {
      if (!begin(settings.seed, start)) return kInfeasible;
      if (!walk(settings.iterations)) return kInfeasible;
      improve(settings, start, best);
    }
    for (int i = 0; i < form_.rows; ++i)
      if (best_[i] < form_.columns) partner[form_.row_name(i)] = form_.column_name(best_[i]);
    return kSolved;
  }

 private:
  Form form_;
  WarmMatching matching_;
  double *x_, *gradient_, *corner_, *cost_;  // the matrix, its gradient, that of the vertex, costs of an assignment
  int64_t* until_;                           // (N, N) until which step a row may not go back to a column
  int *p_, *best_;
  simd::Buffer<double> matrices_;
  simd::Buffer<int64_t> times_;
  simd::Buffer<int> permutations_;

  void allocate() {
    const int64_t area = form_.matrix();
    x_ = matrices_.get(4 * area);
    gradient_ = x_ + area, corner_ = gradient_ + area, cost_ = corner_ + area;
    p_ = permutations_.get(2 * form_.stride);
    best_ = p_ + form_.stride;
    until_ = times_.get(area);
  }

  bool assign(const double* cost, double sign) {
    for (int64_t k = 0; k < form_.matrix(); ++k) cost_[k] = sign * cost[k] + form_.barrier[k];
    return matching_.solve(cost_);
  }

  // ---- Frank-Wolfe ----

  /// Start 0 is the centre, the others are half way from it to a pseudo-random matching.
  bool begin(int64_t seed, int64_t start) {
    const int size = form_.size;
    for (int i = 0; i < size; ++i) {
      double* row = x_ + form_.at(i, 0);
      const double* barrier = form_.barrier + form_.at(i, 0);
      const int open = int(std::count(barrier, barrier + size, 0.0));
      if (open == 0) return false;
      for (int k = 0; k < form_.stride; ++k) row[k] = barrier[k] == 0 ? 1.0 / open : 0;
    }
    if (start == 0) return true;
    for (int i = 0; i < size; ++i)
      for (int k = 0; k < size; ++k) corner_[form_.at(i, k)] = noise(seed, start, i, k);
    if (!assign(corner_, 1)) return false;
    for (int64_t k = 0; k < form_.matrix(); ++k) x_[k] *= 0.5;
    for (int i = 0; i < size; ++i) x_[form_.at(i, matching_.column_of[i])] += 0.5;
    return true;
  }

  /// From x_ to a permutation p_.
  bool walk(int64_t iterations) {
    constexpr double kClose = 0.03;  // root mean square of a row's change
    form_.gradient(x_, gradient_);
    const int64_t area = form_.matrix();
    for (int64_t iteration = 0; iteration < iterations; ++iteration) {
      if (!assign(gradient_, 1)) return false;
      const int* q = matching_.column_of;
      form_.gradient(q, corner_);
      const double here = dot(gradient_, x_, area);
      double slope = -here, bend = here - dot(corner_, x_, area);
      for (int i = 0; i < form_.size; ++i) {
        slope += gradient_[form_.at(i, q[i])];
        bend += corner_[form_.at(i, q[i])] - gradient_[form_.at(i, q[i])];
      }
      // along the line the cost is cost + t * slope + t^2 * bend / 2
      const double t = bend > 0 ? std::min(1.0, std::max(0.0, -slope / bend)) : 1.0;
      const double moved = t * t * (dot(x_, x_, area) - 2 * along(q) + form_.size);
      for (int64_t k = 0; k < area; ++k) {
        gradient_[k] += t * (corner_[k] - gradient_[k]);
        x_[k] *= 1 - t;
      }
      for (int i = 0; i < form_.size; ++i) x_[form_.at(i, q[i])] += t;
      if (moved < kClose * kClose * form_.size) break;
    }
    if (!assign(x_, -1)) return false;
    std::copy(matching_.column_of, matching_.column_of + form_.size, p_);
    return true;
  }

  double along(const int* q) const {
    double sum = 0;
    for (int i = 0; i < form_.size; ++i) sum += x_[form_.at(i, q[i])];
    return sum;
  }

  // ---- exchanges ----

  /// From p_ on; the best is kept.
  void improve(const Settings& settings, int64_t start, double& best) {
    descend();
    keep(best);
    if (settings.exchanges > 0) wander(settings, start, best);
  }

  /// What it costs when i and j exchange their columns; gradient_ is that of p_.
  double change(int i, int j) const {
    const int k = p_[i], l = p_[j];
    const double barrier = form_.barrier[form_.at(i, l)] + form_.barrier[form_.at(j, k)];
    return gradient_[form_.at(i, l)] - gradient_[form_.at(i, k)] + (gradient_[form_.at(j, k)] - gradient_[form_.at(j, l)]) +
           form_.interaction(i, k, j, l) + barrier;
  }

  void exchange(int i, int j) {
    form_.exchange(i, p_[i], j, p_[j], gradient_);
    std::swap(p_[i], p_[j]);
  }

  /// The cost of p_, from its gradient.
  double value() const {
    double sum = 0;
    for (int i = 0; i < form_.size; ++i) sum += gradient_[form_.at(i, p_[i])] + form_.linear[form_.at(i, p_[i])];
    return sum / 2;
  }

  /// Below which a change is rounding; of the size of the instance, as the cost of p_ itself may be zero.
  double rounding() const {
    double sum = 0;
    for (int i = 0; i < form_.size; ++i) {
      double largest = 0;
      for (int k = 0; k < form_.size; ++k) largest = std::max(largest, std::fabs(gradient_[form_.at(i, k)]));
      sum += largest;
    }
    return 1e-12 * sum;
  }

  /// Makes the best exchange while it pays.
  void descend() {
    form_.gradient(p_, gradient_);
    const double least = -rounding();
    for (int64_t step = 0; step < 10 * form_.matrix(); ++step) {  // rounding could go in circles
      double best = least;
      int first = -1, second = -1;
      for (int i = 0; i < std::max(form_.rows, 1); ++i)
        for (int j = i + 1; j < form_.size; ++j) {
          const double d = change(i, j);
          if (d < best) best = d, first = i, second = j;
        }
      if (first < 0) return;
      exchange(first, second);
    }
  }

  void keep(double& best) {
    form_.gradient(p_, gradient_);  // without the rounding of all exchanges
    const double now = value();
    if (now < best - rounding()) {
      best = now;
      std::copy(p_, p_ + form_.size, best_);
    }
  }

  /// Tabu search: the best exchange even if it costs, but not back to columns just left, unless that is the best ever.
  void wander(const Settings& settings, int64_t start, double& best) {
    const int size = form_.size;
    std::fill(until_, until_ + form_.matrix(), int64_t(-1));
    rounding_ = rounding();
    double now = value(), bound = best;
    for (int64_t step = 0; step < settings.exchanges; ++step) {
      double least = kInfinity;
      int first = -1, second = -1;
      for (int i = 0; i < form_.rows; ++i)
        for (int j = i + 1; j < size; ++j) {
          const double d = change(i, j);
          if (!(d < least)) continue;
          const bool tabu = until_[form_.at(i, p_[j])] > step && until_[form_.at(j, p_[i])] > step;
          if (tabu && !(now + d < bound - rounding_)) continue;
          least = d, first = i, second = j;
        }
      if (first < 0) continue;
      const double draw = noise(settings.seed, start, step, -1);
      until_[form_.at(first, p_[first])] = until_[form_.at(second, p_[second])] = step + int64_t(size * (0.5 + 1.5 * draw)) + 1;
      exchange(first, second);
      now += least;
      if (now < bound - rounding_) {
        bound = now;
        keep(best);
      }
    }
  }

  double rounding_ = 0;
};

}  // namespace
}  // namespace quadratic

/// Writes the column of each row (-1: none) and the status of each instance; returns how many are not solved, -1 without memory.
/// With `settings[4]`, `partners` are matchings to start from.
extern "C" __attribute__((visibility("default"))) int64_t solverlayers_graph_matching_search(
    const quadratic::Batch* batch, const int64_t* settings, int64_t* partners, uint8_t* status, double nanoseconds, int threads) {
  const quadratic::Settings chosen{settings[0], settings[1], settings[2], settings[3], settings[4]};
  const bool done = parallel::for_parts(batch->count, nanoseconds, threads, [&](int64_t begin, int64_t end) {
    quadratic::Search search;
    for (int64_t b = begin; b < end; ++b) status[b] = search.solve(*batch, b, chosen, partners + b * batch->n);
  });
  if (!done) return -1;
  return batch->count - std::count(status, status + batch->count, uint8_t(quadratic::kSolved));
}
