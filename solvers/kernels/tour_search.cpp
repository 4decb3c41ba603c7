// Short tours through all cities by local search, one instance after the other.
//
// Idea: a tour that always goes on to the nearest city that is left, from several first cities, is improved by the best of all
// moves until none is left, and the shortest one wins. A move turns a part of the tour round (2-opt), or puts one, two or three
// cities in a row elsewhere, as they are or turned round (Or-opt). Costs need not be symmetric: what turning a part round adds is
// a difference of prefix sums. Costs between the cities at places i and k of the tour are written in the order of the tour, so
// that all moves with the same i are scanned with whole vectors.
//
// All is in float64, and a move has to gain more than rounding could pretend, so the search ends. Of equal moves the first is
// taken: the answers do not depend on the width of vectors. A forbidden step costs more than any tour without one.
// Sources: G. A. Croes, "A method for solving traveling-salesman problems", Operations Research 6 (1958); I. Or, thesis,
// Northwestern University (1976).
#include <algorithm>
#include <cmath>
#include <limits>

#include "batches.hpp"
#include "simd.hpp"

namespace {

using simd::Double;
using simd::Long;

enum Status : uint8_t { kSolved = 0, kInvalid = 2, kNothingFound = 4 };

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kGain = 1e-12;  // a move gains at least this times the number of cities and the largest cost
constexpr int kLongest = 3;      // the most cities that are moved
constexpr int kSize = simd::kLanes<double>;

struct Batch {
  const double* cost;  // (count, cities, cities), from row to column; infinite where forbidden; the diagonal does not matter
  int64_t count, cities, starts;
  int64_t* tour;    // (count, cities)
  uint8_t* status;  // (count)
};

class Search {
 public:
  explicit Search(const Batch& batch) : batch_(batch), n_(batch.cities), pitch_(n_ + 1 + kSize) {
    forth_ = forth_memory_.get(n_ * n_);
    back_ = back_memory_.get(n_ * n_);
    ahead_ = ahead_memory_.get((n_ + 1) * pitch_);
    behind_ = behind_memory_.get((n_ + 1) * pitch_);
    std::fill_n(ahead_, (n_ + 1) * pitch_, kInfinity);
    std::fill_n(behind_, (n_ + 1) * pitch_, kInfinity);
    edge_ = edge_memory_.get(pitch_);
    turned_ = turned_memory_.get(pitch_);
    slope_ = slope_memory_.get(pitch_);
    minus_edge_ = minus_edge_memory_.get(pitch_);
    for (double* row : {edge_, turned_, slope_, minus_edge_}) std::fill_n(row, pitch_, 0.0);
    tour_ = tour_memory_.get(n_);
    other_ = other_memory_.get(n_);
    left_ = left_memory_.get(n_);
  }

  void solve(int64_t instance) {
    uint8_t& status = batch_.status[instance];
    int64_t* best = batch_.tour + instance * n_;
    if (!load(batch_.cost + instance * n_ * n_)) {
      status = kInvalid;
      return;
    }
    double least = kInfinity;
    for (int64_t start = 0; start < batch_.starts; ++start) {
      go_to_the_nearest(start * n_ / batch_.starts);
      lay_out();
      while (improve()) lay_out();
      double length = 0;
      for (int64_t k = 0; k < n_; ++k) length += edge_[k];
      if (length < least) {
        least = length;
        std::copy_n(tour_, n_, best);
      }
    }
    status = kSolved;
    for (int64_t k = 0; k < n_; ++k)
      if (batch_.cost[(instance * n_ + best[k]) * n_ + best[(k + 1) % n_]] == kInfinity) status = kNothingFound;
  }

 private:
  struct Move {
    double delta;
    int64_t code;  // ((kind n) + i) n + k; kind 0 turns round places i + 1 ... k, kinds 1, 2, 3, ... move cities
  };

  const Batch& batch_;
  const int64_t n_, pitch_;
  double threshold_ = 0;
  double *forth_, *back_;          // (n, n) costs from row to column and from column to row, by city
  double *ahead_, *behind_;        // the same by place in the tour, with place n for place 0; (n + 1, pitch)
  double *edge_, *turned_;         // of each place: the cost to the next, and of turning round all places up to it
  double *slope_, *minus_edge_;    // turned_ - edge_, and -edge_
  int64_t *tour_, *other_, *left_;
  simd::Buffer<double> forth_memory_, back_memory_, ahead_memory_, behind_memory_, edge_memory_, turned_memory_, slope_memory_,
      minus_edge_memory_;
  simd::Buffer<int64_t> tour_memory_, other_memory_, left_memory_;
  Double least_;
  Long where_;

  /// Copies the costs with a large number for infinity; returns whether none is minus infinity (or NaN).
  bool load(const double* cost) {
    double largest = 0;
    bool forbidden = false;
    for (int64_t i = 0; i < n_; ++i) {
      for (int64_t j = 0; j < n_; ++j) {
        const double c = cost[i * n_ + j];
        if (i == j) continue;
        if (!(c > -kInfinity)) return false;
        if (c == kInfinity) forbidden = true;
        else largest = std::max(largest, std::fabs(c));
      }
    }
    const double never = 2 * double(n_) * largest + 1;
    for (int64_t i = 0; i < n_; ++i) {
      for (int64_t j = 0; j < n_; ++j) {
        const double c = i == j ? 0 : cost[i * n_ + j] == kInfinity ? never : cost[i * n_ + j];
        forth_[i * n_ + j] = back_[j * n_ + i] = c;
      }
    }
    threshold_ = kGain * double(n_) * (forbidden ? never : largest);
    return true;
  }

  void go_to_the_nearest(int64_t first) {
    int64_t count = 0;
    for (int64_t city = 0; city < n_; ++city)
      if (city != first) left_[count++] = city;
    tour_[0] = first;
    for (int64_t k = 1; k < n_; ++k) {
      const double* row = forth_ + tour_[k - 1] * n_;
      int64_t best = 0;
      for (int64_t i = 1; i < count; ++i)
        if (row[left_[i]] < row[left_[best]]) best = i;
      tour_[k] = left_[best];
      std::copy(left_ + best + 1, left_ + count, left_ + best);  // keeps the order, in which the first of equals counts
      --count;
    }
  }

  /// Writes the costs in the order of the tour.
  void lay_out() {
    for (int64_t i = 0; i <= n_; ++i) {
      const double *forth = forth_ + tour_[i % n_] * n_, *back = back_ + tour_[i % n_] * n_;
      double *ahead = ahead_ + i * pitch_, *behind = behind_ + i * pitch_;
      for (int64_t k = 0; k < n_; ++k) {
        ahead[k] = forth[tour_[k]];
        behind[k] = back[tour_[k]];
      }
      ahead[n_] = ahead[0];
      behind[n_] = behind[0];
    }
    turned_[0] = 0;
    for (int64_t k = 0; k < n_; ++k) {
      edge_[k] = ahead_[k * pitch_ + k + 1];
      turned_[k + 1] = turned_[k] + (behind_[k * pitch_ + k + 1] - edge_[k]);
      slope_[k] = turned_[k] - edge_[k];
      minus_edge_[k] = -edge_[k];
    }
  }

  /// Makes the best move; returns whether there was one.
  bool improve() {
    least_ = simd::broadcast<Double>(-threshold_);
    where_ = simd::broadcast<Long>(-1);
    scan_turns();
    for (int64_t length = 1; length <= std::min<int64_t>(kLongest, n_ - 3); ++length) scan_shifts(length);
    Move best{0, -1};
    for (int lane = 0; lane < kSize; ++lane) {
      if (where_[lane] < 0) continue;
      if (best.code < 0 || least_[lane] < best.delta || (least_[lane] == best.delta && where_[lane] < best.code))
        best = Move{least_[lane], where_[lane]};
    }
    if (best.code < 0) return false;
    make(best.code);
    return true;
  }

  /// Looks at the moves with k in [from, to), which change the length by first[k] + second[k] + third[k] - saved.
  void scan(const double* first, const double* second, const double* third, double saved, int64_t from, int64_t to, int64_t code) {
    const Long lane = simd::iota<Long>();
    for (int64_t k = from; k < to; k += kSize) {
      const Double delta = ((simd::load_unaligned<Double>(first + k) + simd::load_unaligned<Double>(second + k)) +
                            simd::load_unaligned<Double>(third + k)) - saved;
      const Long better = (delta < least_) & (lane + k < to);
      least_ = simd::select(better, delta, least_);
      where_ = better ? lane + (code + k) : where_;
    }
  }

  void scan_turns() {
    for (int64_t i = 0; i + 1 < n_; ++i) {
      scan(ahead_ + i * pitch_, ahead_ + (i + 1) * pitch_ + 1, slope_, edge_[i] + turned_[i + 1], i + 1, n_, i * n_);
    }
  }

  /// Moves of `length` cities, those after place i, to between places k and k + 1, as they are and turned round.
  void scan_shifts(int64_t length) {
    const int64_t kind = 2 * length - 1;
    for (int64_t turn = 0; turn < 2; ++turn) {
      for (int64_t i = 0; i < n_; ++i) {
        const int64_t head = (i + 1) % n_, tail = (i + length) % n_, next = (i + length + 1) % n_;
        double saved = (edge_[i] + edge_[tail]) - ahead_[i * pitch_ + next];
        if (turn) {
          double change = 0;
          for (int64_t k = 1; k < length; ++k) {
            const int64_t place = (i + k) % n_;
            change += behind_[place * pitch_ + place + 1] - edge_[place];
          }
          saved -= change;
        }
        const double* to = behind_ + (turn ? tail : head) * pitch_;
        const double* from = ahead_ + (turn ? head : tail) * pitch_ + 1;
        const int64_t code = ((kind + turn) * n_ + i) * n_;
        const bool whole = i + length < n_;  // places i ... i + length are no place to go; they may go beyond the end
        if (whole) scan(to, from, minus_edge_, saved, i + length + 1, n_, code);
        scan(to, from, minus_edge_, saved, whole ? 0 : tail + 1, i, code);
      }
    }
  }

  void make(int64_t code) {
    const int64_t kind = code / (n_ * n_), i = code / n_ % n_, k = code % n_;
    if (kind == 0) {
      std::reverse(tour_ + i + 1, tour_ + k + 1);
      return;
    }
    const int64_t length = (kind + 1) / 2, target = (k - i + n_) % n_;
    std::rotate_copy(tour_, tour_ + i, tour_ + n_, other_);  // the cities to move are now at places 1 ... length
    if (kind % 2 == 0) std::reverse(other_ + 1, other_ + length + 1);
    std::rotate(other_ + 1, other_ + length + 1, other_ + target + 1);
    std::swap(tour_, other_);
  }
};

constexpr double kNanoseconds = 4;  // for one city with another in one move of one search, about

/// Returns the number of instances that were not solved, or -1 if memory ran out.
int64_t solve(const Batch& batch, int threads) {
  const double cities = double(batch.cities), work = double(batch.starts) * cities * cities * cities;
  return batches::solve_each<Search>(batch, 100 + work * kNanoseconds, threads);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int64_t solverlayers_tour_search_float64(
    const double* cost, int64_t count, int64_t cities, int64_t starts, int64_t* tour, uint8_t* status, int threads) {
  return solve(Batch{cost, count, cities, starts, tour, status}, threads);
}
