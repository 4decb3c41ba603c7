// Matchings in general graphs of greatest weight: perfect ones, or any.
//
// All numbers in the algorithm (`blossom.hpp`) are integers: weights are scaled by a power of two so that duals, which stay below
// n times the greatest weight, fit 62 bits. So there is no rounding in it, ties and signs do not matter, and the matching is
// optimal for weights rounded to that grid: for n <= 64, to 2**-53 of the greatest one or finer.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "batches.hpp"
#include "blossom.hpp"

namespace matching {
namespace {

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
  // Others are in no best matching, and would take the precision of these away.
  const auto matters = [&](int64_t e) { return tails[e] != heads[e] && weight(e) > (batch.kind == kAny ? 0 : worst); };
  double greatest = 0;
  bool valid = true;
  for (int64_t e = 0; e < batch.size; ++e) {
    valid &= weight(e) < -worst;
    if (matters(e)) greatest = std::max(greatest, std::fabs(weight(e)));
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
    if (!matters(e)) continue;
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
  return batches::unsolved(batch, done);
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

}  // namespace matching
