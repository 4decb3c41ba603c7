// Spanning trees of least or greatest cost: Kruskal's algorithm for lists of edges, Prim's for matrices.
//
// Both build the one tree that is least in the order (cost, number of the edge), so ties do not tell them apart.
#include "batches.hpp"
#include "kruskal.hpp"
#include "prim.hpp"

namespace spanning_tree {

#define SOLVERLAYERS_SPANNING_TREE(NAME, T)                                                                                   \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_spanning_tree_##NAME(                                \
      const T* costs, const uint8_t* mask, const int64_t* edges, int own, int64_t count, int64_t nodes, int64_t size,         \
      int largest, T* solution, uint8_t* status, int threads) {                                                               \
    const Batch<T> batch{costs, mask, edges, own != 0, count, nodes, size, largest != 0, solution, status};                   \
    return batches::solve_each<Kruskal<T>>(batch, 20.0 * double(size) + 5.0 * double(nodes) + 50, threads);                   \
  }                                                                                                                           \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_spanning_tree_dense_##NAME(                          \
      const T* costs, const uint8_t* mask, int64_t count, int64_t nodes, int largest, T* solution, uint8_t* status,           \
      int threads) {                                                                                                          \
    const Batch<T> batch{costs, mask, nullptr, false, count, nodes, 0, largest != 0, solution, status};                       \
    return batches::solve_each<Prim<T>>(batch, double(nodes * nodes) + 50, threads);                                          \
  }

SOLVERLAYERS_SPANNING_TREE(float32, float)
SOLVERLAYERS_SPANNING_TREE(float64, double)

}  // namespace spanning_tree
