// Cheapest paths in a batch of graphs with costs on the edges.
//
// Graphs that share their edges are solved with one instance in each SIMD lane (`path_lanes.hpp`). If that takes too many steps,
// or where there are few instances, or each has its own edges, each is solved alone (`dijkstra.hpp`). Rounding is monotone, so
// both have the same distances, bit for bit, whatever the order; and paths are read off distances (`path_tracer.hpp`).
#include <algorithm>

#include "batches.hpp"
#include "path_lanes.hpp"

namespace graph_path {
namespace {

constexpr int kFew = 2;  // up to here solving each alone is faster

template <class T>
struct Workspace {
  Lanes<T> lanes;
  Dijkstra<T> dijkstra;

  Workspace(const Batch<T>& batch, const Graph& graph) : lanes(batch, graph) {}
};

/// Solves a batch of instances with the same edges. Returns false if memory ran out.
template <class T>
bool solve_shared(const Batch<T>& batch, const Graph& graph, const int32_t* known, int32_t* made, int threads) {
  constexpr int size = simd::kLanes<T>;
  if (2.0 * double(batch.count) * double(batch.nodes + batch.edges) < 200e3) threads = 1;  // two nanoseconds for each, about
  if (batch.count <= kFew) {
    return parallel::parallel_for(batch.count, threads, [&](int64_t b) { Dijkstra<T>().solve(batch, b, graph); });
  }
  simd::Buffer<int32_t> memory;
  Workspace<T> first_workspace(batch, graph);  // makes the line, and then serves the first chunk
  Line line;
  const auto prepare = [&](int64_t) {
    line = first_workspace.lanes.make_line(known, made, first_workspace.dijkstra, memory);
  };
  if (!parallel::parallel_for(1, 1, prepare)) return false;
  const int64_t groups = (batch.count + size - 1) / size;
  const int64_t together = threads > 1 ? (groups + 4 * threads - 1) / (4 * threads) : groups;
  return parallel::parallel_for((groups + together - 1) / together, threads, [&](int64_t chunk) {
    Workspace<T> own(batch, graph);
    Workspace<T>& workspace = chunk == 0 ? first_workspace : own;
    for (int64_t group = chunk * together; group < std::min(groups, (chunk + 1) * together); ++group) {
      const int64_t first = group * size, last = std::min(batch.count, first + size);
      if (last - first > kFew && workspace.lanes.solve(first, int(last - first), line)) continue;
      for (int64_t b = first; b < last; ++b) workspace.dijkstra.solve(batch, b, graph);
    }
  });
}

/// Solves a batch of instances with their own edges (count, 2, edges). Returns false if memory ran out.
template <class T>
bool solve_own(const Batch<T>& batch, const int64_t* edge_index, bool directed, int threads) {
  const double nanoseconds = 20.0 * double(batch.nodes + batch.edges);
  return parallel::for_parts(batch.count, nanoseconds, threads, [&](int64_t begin, int64_t end) {
    Dijkstra<T> dijkstra;
    OwnArcs out, in;
    for (int64_t b = begin; b < end; ++b) {
      const int64_t *tail = edge_index + 2 * b * batch.edges, *head = tail + batch.edges;
      const uint8_t* mask = batch.mask ? batch.mask + b * batch.edges : nullptr;
      out.make(tail, head, mask, batch.nodes, batch.edges, directed);
      if (directed) in.make(head, tail, mask, batch.nodes, batch.edges, true);
      dijkstra.solve(batch, b, Graph{batch.nodes, batch.edges, out.arcs(), directed ? in.arcs() : out.arcs()});
    }
  });
}

}  // namespace

#define SOLVERLAYERS_GRAPH_PATH(NAME, T)                                                                                      \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_graph_path_##NAME(                                   \
      const T* cost, const uint8_t* mask, const int32_t* out_start, const int32_t* out_node, const int32_t* out_edge,         \
      const int32_t* in_start, const int32_t* in_node, const int32_t* in_edge, const int64_t* source, const int64_t* target,  \
      const int32_t* known, int32_t* made, int64_t count, int64_t nodes, int64_t edges, int reading, T* solution,             \
      T* distance, uint8_t* status, int threads) {                                                                            \
    const Batch<T> batch{cost, mask, source, target, count, nodes, edges, Reading(reading), solution, distance, status};      \
    const Graph graph{nodes, edges, {out_start, out_node, out_edge}, {in_start, in_node, in_edge}};                           \
    return batches::unsolved(batch, solve_shared(batch, graph, known, made, threads));                                        \
  }                                                                                                                           \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_graph_path_own_##NAME(                               \
      const T* cost, const uint8_t* mask, const int64_t* edge_index, int directed, const int64_t* source,                     \
      const int64_t* target, int64_t count, int64_t nodes, int64_t edges, int reading, T* solution, T* distance,              \
      uint8_t* status, int threads) {                                                                                         \
    const Batch<T> batch{cost, mask, source, target, count, nodes, edges, Reading(reading), solution, distance, status};      \
    return batches::unsolved(batch, solve_own(batch, edge_index, directed != 0, threads));                                    \
  }

SOLVERLAYERS_GRAPH_PATH(float32, float)
SOLVERLAYERS_GRAPH_PATH(float64, double)

}  // namespace graph_path
