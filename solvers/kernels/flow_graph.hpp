// Instances of maximum flow, and their arcs.
//
// Source and target themselves are no part of the graph: what can come from the source to a node is its excess, what can go to the
// target is subtracted, and flow over both at once is settled at the start. In images, where all pixels have such arcs, that is
// half of the work. Two edges with opposite directions share their arcs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace flow {

struct Batch {
  const int64_t* capacity;
  const int64_t* edges;  // tails, then heads
  bool own;              // each instance has edges of its own
  bool directed;
  int64_t count, nodes, size;
  const int64_t *source, *target;
  int64_t* flow;
  uint8_t* side;

  const int64_t* tails(int64_t b) const { return edges + (own ? 2 * b * size : 0); }
};

struct Arc {
  int64_t room;
  int32_t head, back;  // where it leads, and which arc leads back
};

/// An edge between the source or the target and a node; `sign` is -1 for one that leads against the flow.
struct Link {
  int32_t edge, node, sign;
};

constexpr int32_t kNone = -1;

/// The arcs of each node side by side, forward and backward, without those of source and target, and where those of an edge are.
class Graph {
 public:
  Graph(const Batch& batch, int64_t b) : source(int32_t(batch.source[b])), target(int32_t(batch.target[b])) {
    const int64_t *tails = batch.tails(b), *heads = tails + batch.size;
    place.assign(batch.size, kNone);
    std::vector<int32_t> inner;
    for (int32_t e = 0; e < batch.size; ++e)
      if (!link(e, int32_t(tails[e]), int32_t(heads[e]), batch.directed)) inner.push_back(e);
    const auto least = [&](int32_t e) { return std::min(tails[e], heads[e]); };
    const auto most = [&](int32_t e) { return std::max(tails[e], heads[e]); };
    std::vector<bool> shared(inner.size());
    if (batch.directed) {  // edges between the same nodes side by side: one that leads back along the one before shares its arcs
      inner = sorted(sorted(inner, batch.nodes, most), batch.nodes, least);
      for (size_t i = 1; i < inner.size(); ++i)
        shared[i] = !shared[i - 1] && tails[inner[i]] == heads[inner[i - 1]] && heads[inner[i]] == tails[inner[i - 1]];
    }
    first.assign(batch.nodes + 1, 0);
    for (size_t i = 0; i < inner.size(); ++i)
      if (!shared[i]) ++first[tails[inner[i]] + 1], ++first[heads[inner[i]] + 1];
    std::partial_sum(first.begin(), first.end(), first.begin());
    arcs.resize(first.back());
    std::vector<int32_t> next(first.begin(), first.end() - 1);
    for (size_t i = 0; i < inner.size(); ++i) {
      const int32_t e = inner[i];
      if (shared[i]) {
        place[e] = arcs[place[inner[i - 1]]].back;
        continue;
      }
      const int32_t ahead = next[tails[e]]++, back = next[heads[e]]++;
      arcs[ahead] = {0, int32_t(heads[e]), back};
      arcs[back] = {0, int32_t(tails[e]), ahead};
      place[e] = ahead;
    }
  }

  int32_t source, target;
  std::vector<int32_t> first;
  std::vector<Arc> arcs;
  std::vector<int32_t> place;                       // of each edge its arc, kNone if it has none
  std::vector<Link> from_source, to_target, across;  // `across` leads from the source to the target

 private:
  /// Whether an edge is a loop or one of source and target; those that may carry flow are noted.
  bool link(int32_t e, int32_t tail, int32_t head, bool directed) {
    if (tail == head) return true;
    const bool against = head == source || tail == target;
    if (!against && tail != source && head != target) return false;
    if (against && directed) return true;
    const Link one{e, tail == source || tail == target ? head : tail, against ? -1 : 1};
    if (one.node == source || one.node == target) across.push_back(one);
    else (tail == source || head == source ? from_source : to_target).push_back(one);
    return true;
  }

  template <class Key>
  static std::vector<int32_t> sorted(const std::vector<int32_t>& items, int64_t keys, const Key& key) {
    std::vector<int32_t> start(keys + 1), out(items.size());
    for (const int32_t item : items) ++start[key(item) + 1];
    std::partial_sum(start.begin(), start.end(), start.begin());
    for (const int32_t item : items) out[start[key(item)]++] = item;
    return out;
  }
};

}  // namespace flow
