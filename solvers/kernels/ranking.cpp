// Ranks of the rows of a matrix: out[i] = 1 + the number of entries that come before entry i in stable ascending order.
//
// Idea: a rank needs no sorted copy, and hardly a branch that depends on the scores. Deal the entries into evenly spaced buckets,
// half as many as there are entries or more, keeping their order within a bucket. Where the fullest bucket has w + 1 entries, an
// entry is then at most w places away from its sorted place, and its w neighbours on either side say how many:
//
//     rank at place p  =  1 + p + #{d <= w: key[p + d] < key[p]} - #{d <= w: key[p - d] > key[p]},
//
// which is counted for a whole register of places at a time. Equal keys count on neither side, so the order is stable. A bucket
// that is overfull (skewed scores, many ties) is dealt again by the range of its own keys; each time six bits of the keys are
// settled at least, so the time is linear for every input. Few entries are simply compared with all others.
//
// Buckets are even in the scores the first time and even in their keys, integers that sort as the scores do, after that.
// Sources: Knuth, The Art of Computer Programming 3, section 5.2 (comparison counting, distribution counting); the keys of
// floats are Herf's ("Radix Tricks", 2001).
#include <algorithm>
#include <atomic>
#include <limits>

#include "parallel.hpp"
#include "simd.hpp"

namespace {

constexpr int64_t kFew = 48;     // up to here comparing all pairs beats dealing into buckets
constexpr int64_t kWindow = 32;  // a bucket with more entries is overfull
constexpr int kFewestBits = 6;   // of a bucket number
constexpr int kMostBits = 13;    // so that the counters fit the first-level cache

template <class T>
using Key = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
template <class K>
using Unsigned = std::make_unsigned_t<K>;
template <class K>
using Real = std::conditional_t<sizeof(K) == 8, double, float>;

/// The bits of a negative float sort the wrong way round; turning them makes a key of them. Does and undoes it.
template <class K>
inline K turn(K bits) {
  return bits ^ ((bits >> (8 * sizeof(K) - 1)) & std::numeric_limits<K>::max());
}

/// An integer that sorts as `x` does. The two zeros are one value, so they get one key.
template <class T>
inline Key<T> key_of(T x) {
  if constexpr (std::is_floating_point_v<T>) {
    x += T(0);  // -0.0 + 0.0 is 0.0
    Key<T> bits;
    __builtin_memcpy(&bits, &x, sizeof(x));
    return turn(bits);
  } else {
    return x;
  }
}

/// The score whose key this is.
template <class K>
inline Real<K> score_of(K key) {
  const K bits = turn(key);
  Real<K> x;
  __builtin_memcpy(&x, &bits, sizeof(x));
  return x;
}

/// Entries that wait for their rank. There is room for kWindow keys in front of the first and behind the last.
template <class K>
struct Entries {
  K* keys;
  int32_t* index;  // which score an entry is

  Entries from(int64_t start) const { return {keys + start, index + start}; }
};

template <class T>
struct Workspace {
  simd::Buffer<Key<T>> keys, dealt_keys;
  simd::Buffer<int32_t> index, dealt_index, numbers, ends;
};

/// counts[i] = the number of entries before entry i, each compared with all others. Writes up to one vector beyond m.
template <class K>
inline void count_all(const K* keys, int64_t m, K* counts) {
  using V = simd::Vector<K>;
  constexpr int64_t W = simd::kLanes<K>;
  const V lane = simd::iota<V>();
  for (int64_t i = 0; i < m; i += W) {
    const V own = simd::load_unaligned<V>(keys + i);
    V count{};
    for (int64_t j = 0; j < i; ++j) count -= simd::broadcast<V>(keys[j]) <= own;  // a lower index wins a tie
    for (int64_t j = i; j < std::min(m, i + W); ++j) {
      const V other = simd::broadcast<V>(keys[j]);
      count -= (other < own) | ((other == own) & (lane > K(j - i)));
    }
    for (int64_t j = i + W; j < m; ++j) count -= simd::broadcast<V>(keys[j]) < own;
    simd::store_unaligned(counts + i, count);
  }
}

/// Ranks `m <= kFew` entries behind `before` smaller ones.
template <class T, class K>
inline void rank_few(Entries<K> entries, int64_t m, int64_t before, T* out) {
  K counts[kFew + simd::kLanes<K>];
  count_all(entries.keys, m, counts);
  for (int64_t i = 0; i < m; ++i) out[entries.index[i]] = T(counts[i] + before + 1);
}

/// Ranks `m` entries that are in order already.
template <class T, class K>
inline void rank_in_order(Entries<K> entries, int64_t m, int64_t before, T* out) {
  for (int64_t i = 0; i < m; ++i) out[entries.index[i]] = T(before + i + 1);
}

/// Puts keys that never count around `m` keys, and afterwards what was there: entries that are dealt again have neighbours.
template <class K>
class Fence {
 public:
  Fence(K* keys, int64_t m, int64_t width) : left_(keys - width), right_(keys + m), width_(width) {
    std::copy_n(left_, width, saved_);
    std::copy_n(right_, width, saved_ + width);
    std::fill_n(left_, width, std::numeric_limits<K>::min());
    std::fill_n(right_, width, std::numeric_limits<K>::max());
  }
  ~Fence() {
    std::copy_n(saved_, width_, left_);
    std::copy_n(saved_ + width_, width_, right_);
  }

 private:
  K *left_, *right_, saved_[2 * kWindow];
  int64_t width_;
};

/// Ranks `m` entries that are at most `off` places away from being in order.
template <class T, class K>
inline void rank_nearby(Entries<K> entries, int64_t m, int64_t off, int64_t before, T* out) {
  using V = simd::Vector<K>;
  constexpr int64_t W = simd::kLanes<K>;
  const Fence<K> fence(entries.keys, m, off);
  K places[W];
  for (int64_t p = 0; p < m; p += W) {
    const V own = simd::load_unaligned<V>(entries.keys + p);
    V place = simd::iota<V>() + K(before + p + 1);
    for (int64_t d = 1; d <= off; ++d) {
      place -= simd::load_unaligned<V>(entries.keys + p + d) < own;
      place += simd::load_unaligned<V>(entries.keys + p - d) > own;
    }
    simd::store_unaligned(places, place);
    const int64_t lanes = std::min(W, m - p);
    for (int64_t i = 0; i < lanes; ++i) out[entries.index[p + i]] = T(places[i]);
  }
}

/// Writes the bucket number of each key, evenly spaced over the range of the scores; returns the number of buckets, or 0 where
/// that range cannot be divided: it is infinite, or next to nothing.
template <class K>
inline int number_by_score(K least, K most, const K* keys, int64_t m, int bits, int32_t* numbers) {
  const Real<K> low = score_of(least), range = score_of(most) - low, scale = Real<K>((1 << bits) - 1) / range;
  if (!(range < std::numeric_limits<Real<K>>::infinity() && scale < std::numeric_limits<Real<K>>::infinity())) return 0;
  for (int64_t i = 0; i < m; ++i) numbers[i] = int32_t((score_of(keys[i]) - low) * scale);  // each step of this is monotone
  return 1 << bits;
}

/// The same by the leading bits of the range of the keys. `alike` says whether all keys in a bucket are then equal.
template <class K>
inline int number_by_key(K least, K most, const K* keys, int64_t m, int bits, int32_t* numbers, bool& alike) {
  const auto low = Unsigned<K>(least), range = Unsigned<K>(Unsigned<K>(most) - low);
  const int shift = std::max(0, 64 - __builtin_clzll(range) - bits);
  for (int64_t i = 0; i < m; ++i) numbers[i] = int32_t((Unsigned<K>(keys[i]) - low) >> shift);
  alike = shift == 0;
  return int(range >> shift) + 1;
}

struct Fill {
  int32_t fullest, overfull;  // the entries of the fullest bucket with at most kWindow of them, and of the fullest of all
};

/// Copies the entries to `to`, bucket after bucket; ends[b] is then where bucket b ends.
template <class K>
inline Fill deal(Entries<K> entries, const int32_t* numbers, int64_t m, int buckets, Entries<K> to, int32_t* ends) {
  std::fill_n(ends, buckets, 0);
  for (int64_t i = 0; i < m; ++i) ++ends[numbers[i]];
  int32_t start = 0;
  Fill fill{0, 0};
  for (int b = 0; b < buckets; ++b) {
    const int32_t size = ends[b];
    ends[b] = start;
    start += size;
    fill.fullest = std::max(fill.fullest, size > kWindow ? 0 : size);
    fill.overfull = std::max(fill.overfull, size);
  }
  for (int64_t i = 0; i < m; ++i) {
    const int32_t place = ends[numbers[i]]++;
    to.keys[place] = entries.keys[i];
    to.index[place] = entries.index[i];
  }
  return fill;
}

/// Ranks `m` entries behind `before` smaller ones. `spare` has room for as many, `numbers` too; `ends` for all counters.
template <class T, class K>
void rank_many(Entries<K> entries, int64_t m, int64_t before, bool first, Entries<K> spare, int32_t* numbers, int32_t* ends,
               T* out) {
  K least = entries.keys[0], most = entries.keys[0];
  for (int64_t i = 1; i < m; ++i) {
    least = std::min(least, entries.keys[i]);
    most = std::max(most, entries.keys[i]);
  }
  if (least == most) return rank_in_order(entries, m, before, out);
  const int bits = std::clamp(63 - __builtin_clzll(uint64_t(m - 1)), kFewestBits, kMostBits);
  int buckets = 0;
  bool alike = false;
  if (std::is_floating_point_v<T> && first) buckets = number_by_score(least, most, entries.keys, m, bits, numbers);
  if (!buckets) buckets = number_by_key(least, most, entries.keys, m, bits, numbers, alike);
  const Fill fill = deal(entries, numbers, m, buckets, spare, ends);
  if (alike) return rank_in_order(spare, m, before, out);
  rank_nearby(spare, m, std::max(fill.fullest - 1, 0), before, out);
  if (fill.overfull <= kWindow) return;
  for (int b = 0, start = 0; b < buckets; start = ends[b++]) {
    const int64_t size = ends[b] - start;
    if (size > kFew)
      rank_many(spare.from(start), size, before + start, false, entries.from(start), numbers, ends + buckets, out);
    else if (size > kWindow)
      rank_few(spare.from(start), size, before + start, out);
  }
}

/// Whether a row has NaN among the entries that take part.
template <class T>
inline bool has_nan(const T* row, const uint8_t* mask, int64_t n) {
  if constexpr (!std::is_floating_point_v<T>) return false;
  Key<T> found = 0;  // as wide as the scores, so that the loop is made of vectors
  if (!mask) for (int64_t i = 0; i < n; ++i) found |= row[i] != row[i];
  else for (int64_t i = 0; i < n; ++i) found |= row[i] != row[i] && mask[i];
  return found != 0;
}

/// Collects the entries of a row that take part, and returns how many there are. The others get rank 0.
template <class T>
inline int64_t collect(const T* row, const uint8_t* mask, int64_t n, Key<T> flip, Entries<Key<T>> entries, T* out) {
  if (!mask) {
    for (int64_t i = 0; i < n; ++i) entries.keys[i] = key_of(row[i]) ^ flip;
    for (int64_t i = 0; i < n; ++i) entries.index[i] = int32_t(i);
    return n;
  }
  int64_t m = 0;
  for (int64_t i = 0; i < n; ++i) {
    entries.keys[m] = key_of(row[i]) ^ flip;
    entries.index[m] = int32_t(i);
    m += mask[i] != 0;
    out[i] = T(0);
  }
  return m;
}

template <class T>
void rank_row(const T* row, const uint8_t* mask, int64_t n, bool descending, Workspace<T>& space, T* out) {
  using K = Key<T>;
  constexpr int64_t room = 2 * kWindow + simd::kLanes<K>;
  const Entries<K> entries{space.keys.get(n + room) + kWindow, space.index.get(n + 1)};
  const int64_t m = collect(row, mask, n, K(descending ? -1 : 0), entries, out);  // ~key sorts the other way round
  if (m > kFew) {
    const Entries<K> spare{space.dealt_keys.get(n + room) + kWindow, space.dealt_index.get(n)};
    constexpr int levels = 8 * sizeof(K) / kFewestBits + 2;
    const int64_t counters = levels * std::min<int64_t>(2 * n + (1 << kFewestBits), 1 << kMostBits);
    rank_many(entries, m, 0, true, spare, space.numbers.get(n), space.ends.get(counters), out);
  } else if (mask) {
    rank_few(entries, m, 0, out);
  } else {
    K counts[kFew + simd::kLanes<K>];
    count_all(entries.keys, m, counts);
    for (int64_t i = 0; i < n; ++i) out[i] = T(counts[i] + 1);
  }
}

constexpr double kNanoseconds = 5;  // for one entry, about

/// Returns whether there is NaN, or -1 if memory ran out.
template <class T>
int64_t rank_rows(const T* scores, const uint8_t* mask, int64_t rows, int64_t n, bool descending, T* out, int threads) {
  std::atomic<bool> nan{false};
  const bool done = parallel::for_parts(rows, kNanoseconds * double(n + 4), threads, [&](int64_t begin, int64_t end) {
    Workspace<T> space;
    for (int64_t b = begin; b < end; ++b) {
      const uint8_t* own_mask = mask ? mask + b * n : nullptr;
      if (has_nan(scores + b * n, own_mask, n)) nan.store(true, std::memory_order_relaxed);
      else rank_row(scores + b * n, own_mask, n, descending, space, out + b * n);
    }
  });
  return done ? int64_t(nan) : -1;
}

}  // namespace

#define SOLVERLAYERS_RANKING(NAME, T)                                                                                         \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_ranking_##NAME(                                      \
      const T* scores, const uint8_t* mask, int64_t rows, int64_t n, int descending, T* out, int threads) {                   \
    return rank_rows(scores, mask, rows, n, descending != 0, out, threads);                                                   \
  }

SOLVERLAYERS_RANKING(float32, float)
SOLVERLAYERS_RANKING(float64, double)
SOLVERLAYERS_RANKING(int32, int32_t)
SOLVERLAYERS_RANKING(int64, int64_t)
