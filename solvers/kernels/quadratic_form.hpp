// A quadratic assignment problem, read from a batch and made square.
//
// The cost of a permutation p of N rows is sum_i linear[i][p(i)] plus a cost for every two pairs (i, p(i)), (j, p(j)). The
// latter come as two matrices (Koopmans and Beckmann: flow times distance) or as costs of pairs of edges (Lawler, sparse).
// Padding is left out, and rows and columns that stand for nobody are added until every row has a column: they cost nothing.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "simd.hpp"

namespace quadratic {

using simd::Double;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kBlock = 8;  // rows are padded to this many numbers for every instruction set, so that sums come out the same

enum Status : uint8_t { kSolved = 0, kInfeasible = 1, kInvalid = 2, kLimit = 3 };

/// What the caller passes; pointers that may be null are marked (?). The layout is repeated in graph_matching.py.
struct Batch {
  const double* scores;             // (count, n, m)
  const uint8_t* mask;              // (count, n, m) (?) 0 where a pair may not be made
  const double *flows, *distances;  // (count, n, n), (count, m, m) (?)
  const int64_t *edges1, *edges2;   // (count, 2, e1), (count, 2, e2) (?) ends of edges; negative: padding
  const double* pairs;              // (count, e1, e2) (?) scores of pairs of edges
  int64_t count, n, m, e1, e2;
  double sign;                      // of scores and pairs: 1 costs, -1 gains
  int64_t partial;                  // whether rows and columns may stay alone, at no cost
};

/// The sum of all products, formed in the same order for every instruction set.
inline double dot(const double* x, const double* y, int64_t size) {
  double sums[kBlock] = {};
  for (int64_t k = 0; k < size; k += kBlock)
    for (int t = 0; t < kBlock; ++t) sums[t] += x[k + t] * y[k + t];
  double sum = 0;
  for (double s : sums) sum += s;
  return sum;
}

/// out[a][c] += sum_i x[i][a] y[i][c] for matrices of `size` rows, `stride` apart.
inline void add_product(const double* x, const double* y, double* out, int size, int stride) {
  for (int c = 0; c < stride; c += simd::kLanes<double>)
    for (int a = 0; a < stride; a += kBlock) {
      Double sums[kBlock] = {};
      for (int i = 0; i < size; ++i) {
        const Double right = simd::load<Double>(y + int64_t(i) * stride + c);
        const double* left = x + int64_t(i) * stride + a;
        for (int t = 0; t < kBlock; ++t) sums[t] += right * left[t];
      }
      for (int t = 0; t < kBlock && a + t < size; ++t) {
        double* row = out + int64_t(a + t) * stride + c;
        simd::store(row, simd::load<Double>(row) + sums[t]);
      }
    }
}

class Form {
 public:
  int size = 0, stride = 0;    // N, and the distance of rows
  int rows = 0, columns = 0;   // real ones: those before `rows` and `columns`
  double* linear = nullptr;    // (size, stride); 0 where forbidden and in the padding
  double* barrier = nullptr;   // (size, stride) 0, or infinity where forbidden and in the padding
  bool integral = false;       // whether all costs are whole numbers

  /// False if a number is NaN or infinite in the wrong direction.
  bool read(const Batch& batch, int64_t b) {
    const int n = int(batch.n), m = int(batch.m);
    const uint8_t* mask = batch.mask ? batch.mask + b * n * m : nullptr;
    find_real(mask, n, m);
    size = batch.partial ? rows + columns : std::max(rows, columns);
    stride = std::max((size + kBlock - 1) / kBlock * kBlock, kBlock);
    linear = linear_.get(matrix());
    barrier = barrier_.get(matrix());
    std::memset(linear, 0, sizeof(double) * matrix());
    for (int i = 0; i < size; ++i)
      for (int k = 0; k < stride; ++k) barrier[at(i, k)] = k < size ? 0 : kInfinity;
    bool valid = read_linear(batch.scores + b * n * m, mask, m, batch.sign);
    dense_ = batch.flows != nullptr;
    valid &= dense_ ? read_dense(batch.flows + b * n * n, batch.distances + b * m * m, n, m) : read_edges(batch, b);
    integral = valid && whole(linear) && whole_quadratic();
    return valid;
  }

  int64_t at(int i, int k) const { return int64_t(i) * stride + k; }
  int64_t matrix() const { return int64_t(size) * stride; }
  int row_name(int i) const { return row_name_[i]; }
  int column_name(int k) const { return column_name_[k]; }

  /// The caller's matching of `m` columns as a permutation of the square; rows and columns without a partner get those that
  /// stand for nobody. False if that is not possible: it leaves out more than it has to.
  bool permutation(const int64_t* partner, int64_t m, int* p) const {
    std::vector<int> position(m, -1);
    std::vector<char> taken(size, 0);
    for (int k = 0; k < columns; ++k) position[column_name_[k]] = k;
    std::fill(p, p + size, -1);
    for (int i = 0; i < rows; ++i) {
      const int64_t name = partner[row_name_[i]];
      if (name >= 0 && position[name] >= 0) taken[p[i] = position[name]] = 1;
    }
    int real = 0, spare = columns;
    for (int i = 0; i < size; ++i) {
      if (p[i] >= 0) continue;
      while (real < columns && taken[real]) ++real;
      if (i >= rows && real < columns) p[i] = real++;
      else if (spare < size) p[i] = spare++;
      else return false;
    }
    return true;
  }

  /// What (i, k) and (j, l) cost together, i != j and k != l.
  double together(int i, int k, int j, int l) const {
    if (dense_) {
      double sum = 0;
      for (int f = 0; f < factors_; ++f) sum += left_[f][at(i, j)] * right_[f][at(k, l)];
      return sum;
    }
    return i < rows && j < rows && linked_[int64_t(i) * rows + j] && k < columns && l < columns
               ? edge_pairs(i, j, k, l) + edge_pairs(j, i, l, k)
               : 0;
  }

  /// What exchanging the columns k of i and l of j costs beyond the gradient.
  double interaction(int i, int k, int j, int l) const { return together(i, k, j, l) + together(i, l, j, k); }

  /// The gradient of the cost at the permutation p.
  void gradient(const int* p, double* g) {
    std::memcpy(g, linear, sizeof(double) * matrix());
    if (!dense_) {
      for (int i = 0; i < rows; ++i) place(i, p[i], 1, g);
      return;
    }
    for (int f = 0; f < factors_; ++f) {
      for (int i = 0; i < size; ++i) std::memcpy(product_ + at(i, 0), right_[f] + at(p[i], 0), sizeof(double) * stride);
      add_product(left_[f], product_, g, size, stride);
    }
  }

  /// The gradient at any matrix x.
  void gradient(const double* x, double* g) {
    std::memcpy(g, linear, sizeof(double) * matrix());
    if (!dense_) {
      for (int i = 0; i < rows; ++i)
        for (int k = 0; k < columns; ++k)
          if (x[at(i, k)] != 0) place(i, k, x[at(i, k)], g);
      return;
    }
    for (int f = 0; f < factors_; ++f) {
      for (int i = 0; i < size; ++i) {
        double* row = product_ + at(i, 0);
        std::memset(row, 0, sizeof(double) * stride);
        for (int k = 0; k < size; ++k) add_row(x[at(i, k)], right_[f] + at(k, 0), row);
      }
      add_product(left_[f], product_, g, size, stride);
    }
  }

  /// Brings the gradient up to date when i moves from column k to l, and j from l to k.
  void exchange(int i, int k, int j, int l, double* g) {
    if (!dense_) {
      place(i, k, -1, g), place(i, l, 1, g), place(j, l, -1, g), place(j, k, 1, g);
      return;
    }
    for (int f = 0; f < factors_; ++f) {
      const double *x = left_[f] + at(i, 0), *y = left_[f] + at(j, 0);
      for (int c = 0; c < stride; ++c) product_[c] = right_[f][at(l, c)] - right_[f][at(k, c)];
      for (int a = 0; a < size; ++a) add_row(x[a] - y[a], product_, g + at(a, 0));
    }
  }

 private:
  bool dense_ = false;
  int factors_ = 0;
  double *left_[2], *right_[2], *product_;      // cost of (i, k), (j, l) together: sum_f left[f][i][j] right[f][k][l]
  int *row_name_, *column_name_;
  const double* pairs_ = nullptr;
  int64_t e2_ = 0;
  double sign_ = 1;
  struct Arc { int other, edge; };
  Arc *arcs1_, *arcs2_;                          // of each vertex: those that leave it (side 0), then those that reach it (1)
  int *first1_, *first2_;                        // where the arcs of side s of vertex v begin, at 2 v + s
  uint8_t* linked_;                              // (rows, rows) whether an edge joins them, either way
  simd::Buffer<double> linear_, barrier_, factor_buffer_;
  simd::Buffer<int> names_, firsts_;
  simd::Buffer<Arc> arcs_;
  simd::Buffer<uint8_t> links_;

  void find_real(const uint8_t* mask, int n, int m) {
    row_name_ = names_.get(n + m);
    column_name_ = row_name_ + n;
    rows = columns = 0;
    for (int i = 0; i < n; ++i)
      if (!mask || std::any_of(mask + int64_t(i) * m, mask + int64_t(i + 1) * m, [](uint8_t x) { return x; })) row_name_[rows++] = i;
    for (int k = 0; k < m; ++k) {
      bool any = !mask;
      for (int i = 0; i < n && !any; ++i) any = mask[int64_t(i) * m + k];
      if (any) column_name_[columns++] = k;
    }
  }

  bool read_linear(const double* scores, const uint8_t* mask, int m, double sign) {
    bool valid = true;
    for (int i = 0; i < rows; ++i)
      for (int k = 0; k < columns; ++k) {
        const int64_t from = int64_t(row_name_[i]) * m + column_name_[k];
        const double cost = sign * scores[from];
        if ((mask && !mask[from]) || cost == kInfinity) {
          barrier[at(i, k)] = kInfinity;
          continue;
        }
        valid &= cost > -kInfinity;
        linear[at(i, k)] = cost;
      }
    return valid;
  }

  // ---- flows and distances ----

  bool read_dense(const double* flows, const double* distances, int n, int m) {
    const int64_t area = matrix();
    double* next = factor_buffer_.get(area * 5);
    double *a = next, *b = next + area, *at_ = next + 2 * area, *bt = next + 3 * area;
    product_ = next + 4 * area;
    std::memset(next, 0, sizeof(double) * area * 5);
    bool valid = true, a_symmetric = true, b_symmetric = true;
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < rows; ++j) a[at(i, j)] = flows[int64_t(row_name_[i]) * n + row_name_[j]];
    for (int k = 0; k < columns; ++k)
      for (int l = 0; l < columns; ++l) b[at(k, l)] = distances[int64_t(column_name_[k]) * m + column_name_[l]];
    for (int i = 0; i < rows; ++i)  // what a pair costs with itself is linear
      for (int k = 0; k < columns; ++k) linear[at(i, k)] += a[at(i, i)] * b[at(k, k)];
    for (int i = 0; i < size; ++i) a[at(i, i)] = b[at(i, i)] = 0;
    for (int i = 0; i < size; ++i)
      for (int j = 0; j < size; ++j) {
        at_[at(i, j)] = a[at(j, i)], bt[at(i, j)] = b[at(j, i)];
        a_symmetric &= a[at(i, j)] == a[at(j, i)];
        b_symmetric &= b[at(i, j)] == b[at(j, i)];
        valid &= std::isfinite(a[at(i, j)]) && std::isfinite(b[at(i, j)]);
      }
    if (a_symmetric || b_symmetric) {  // then one product gives the cost of two pairs, and the other matrix may be symmetric, too
      double *sum = a_symmetric ? b : a, *other = a_symmetric ? bt : at_;
      for (int64_t k = 0; k < area; ++k) sum[k] += other[k];
    }
    factors_ = a_symmetric || b_symmetric ? 1 : 2;
    left_[0] = a, right_[0] = b, left_[1] = at_, right_[1] = bt;
    return valid;
  }

  void add_row(double factor, const double* from, double* to) const {
    for (int c = 0; c < stride; c += simd::kLanes<double>)
      simd::store(to + c, simd::load<Double>(to + c) + simd::load<Double>(from + c) * factor);
  }

  // ---- edges ----

  bool read_edges(const Batch& batch, int64_t b) {
    const int n = int(batch.n), m = int(batch.m), e1 = int(batch.e1), e2 = int(batch.e2);
    const int64_t *ends1 = batch.edges1 + b * 2 * e1, *ends2 = batch.edges2 + b * 2 * e2;
    pairs_ = batch.pairs + b * batch.e1 * batch.e2, e2_ = batch.e2, sign_ = batch.sign;
    int* position1 = firsts_.get(n + m + 2 * (rows + columns + 1));
    int* position2 = position1 + n;
    first1_ = position2 + m, first2_ = first1_ + 2 * rows + 1;
    std::fill(position1, position1 + n + m, -1);
    for (int i = 0; i < rows; ++i) position1[row_name_[i]] = i;
    for (int k = 0; k < columns; ++k) position2[column_name_[k]] = k;
    arcs1_ = arcs_.get(2 * (e1 + e2));
    arcs2_ = arcs1_ + 2 * e1;
    list_arcs(ends1, e1, position1, rows, first1_, arcs1_);
    list_arcs(ends2, e2, position2, columns, first2_, arcs2_);
    linked_ = links_.get(int64_t(rows) * rows);
    std::memset(linked_, 0, int64_t(rows) * rows);
    bool valid = true;
    for (int i = 0; i < rows; ++i)
      for (int x = first1_[2 * i]; x < first1_[2 * i + 1]; ++x) {
        const Arc& arc = arcs1_[x];
        linked_[int64_t(i) * rows + arc.other] = linked_[int64_t(arc.other) * rows + i] = 1;
        const double* pair = pairs_ + arc.edge * e2_;
        for (int k = 0; k < columns; ++k)
          for (int y = first2_[2 * k]; y < first2_[2 * k + 1]; ++y) valid &= std::isfinite(pair[arcs2_[y].edge]);
      }
    return add_loops(ends1, e1, position1, ends2, e2, position2) && valid;
  }

  /// The edges at each vertex; loops are not among them.
  static void list_arcs(const int64_t* ends, int count, const int* position, int vertices, int* first, Arc* arcs) {
    const int lists = 2 * vertices;
    std::fill(first, first + lists + 1, 0);
    const auto end = [&](int e, int side) { return ends[side * count + e] < 0 ? -1 : position[ends[side * count + e]]; };
    const auto proper = [&](int e) { return end(e, 0) >= 0 && end(e, 1) >= 0 && end(e, 0) != end(e, 1); };
    for (int e = 0; e < count; ++e)
      if (proper(e))
        for (int side : {0, 1}) ++first[2 * end(e, side) + side];
    for (int list = 0, sum = 0; list <= lists; ++list) std::swap(sum, first[list]), sum += first[list];
    for (int e = 0; e < count; ++e)
      if (proper(e))
        for (int side : {0, 1}) arcs[first[2 * end(e, side) + side]++] = {end(e, 1 - side), e};
    for (int list = lists; list > 0; --list) first[list] = first[list - 1];
    first[0] = 0;
  }

  /// A loop matched with a loop is a cost of the pair of their vertices.
  bool add_loops(const int64_t* ends1, int e1, const int* position1, const int64_t* ends2, int e2, const int* position2) {
    bool valid = true;
    for (int x = 0; x < e1; ++x) {
      if (ends1[x] < 0 || ends1[x] != ends1[e1 + x] || position1[ends1[x]] < 0) continue;
      for (int y = 0; y < e2; ++y) {
        if (ends2[y] < 0 || ends2[y] != ends2[e2 + y] || position2[ends2[y]] < 0) continue;
        const int64_t to = at(position1[ends1[x]], position2[ends2[y]]);
        if (barrier[to] == 0) linear[to] += sign_ * pairs_[x * e2_ + y], valid &= std::isfinite(linear[to]);
      }
    }
    return valid;
  }

  /// Adds `weight` times the gradient of the quadratic cost at the pair (i, k).
  void place(int i, int k, double weight, double* g) const {
    if (i >= rows || k >= columns) return;
    const double factor = weight * sign_;
    for (int side : {0, 1})
      for (int x = first1_[2 * i + side]; x < first1_[2 * i + side + 1]; ++x) {
        double* row = g + at(arcs1_[x].other, 0);
        const double* pair = pairs_ + arcs1_[x].edge * e2_;
        for (int y = first2_[2 * k + side]; y < first2_[2 * k + side + 1]; ++y)
          row[arcs2_[y].other] += factor * pair[arcs2_[y].edge];
      }
  }

  /// The costs of all edges i -> j matched with edges k -> l.
  double edge_pairs(int i, int j, int k, int l) const {
    double sum = 0;
    for (int x = first1_[2 * i]; x < first1_[2 * i + 1]; ++x) {
      if (arcs1_[x].other != j) continue;
      for (int y = first2_[2 * k]; y < first2_[2 * k + 1]; ++y)
        if (arcs2_[y].other == l) sum += pairs_[arcs1_[x].edge * e2_ + arcs2_[y].edge];
    }
    return sign_ * sum;
  }

  // ---- whole numbers ----

  bool whole(const double* x) const {
    return std::all_of(x, x + matrix(), [](double v) { return v == std::nearbyint(v) && std::fabs(v) < 9007199254740992.0; });
  }

  bool whole_quadratic() const {
    if (dense_) {
      bool all = true;
      for (int f = 0; f < factors_; ++f) all &= whole(left_[f]) && whole(right_[f]);
      return all;
    }
    for (int x = 0; x < first1_[2 * rows]; ++x)
      for (int64_t y = 0; y < e2_; ++y) {
        const double v = pairs_[arcs1_[x].edge * e2_ + y];
        if (std::isfinite(v) && v != std::nearbyint(v)) return false;
      }
    return true;
  }
};

}  // namespace quadratic
