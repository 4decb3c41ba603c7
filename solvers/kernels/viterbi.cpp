// Best state sequences of linear chains, one instance after the other.
//
// Idea: for each step and state, the value of the best sequence that ends there, with the states of the next step side by side in
// a vector: its rows of transitions are read as they lie in memory, four vectors at a time. The best sequence is read backwards;
// of equally good states the lowest is taken. Nothing but the values is kept: reading back looks at one step's states only.
// Source: A. J. Viterbi, "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm" (1967).
#include <algorithm>
#include <limits>

#include "batches.hpp"
#include "simd.hpp"

namespace {

enum Status : uint8_t { kSolved = 0, kInfeasible = 1, kInvalid = 2 };

template <class T>
struct Batch {
  const T* unary;           // (count, steps, states)
  const T* transition;      // (count, states, states), or (count, steps - 1, states, states), from row to column
  const uint8_t* mask;      // as unary, or null
  const int64_t* length;    // (count): steps in use, at least 1
  int64_t count, steps, states;
  bool own_transitions;     // whether each step has its own
  T* taken;                 // as unary: 1 for the state that each step has
  T* made;                  // as transition: how often each is made
  uint8_t* status;          // (count)

  int64_t transitions() const { return (own_transitions ? steps - 1 : 1) * states * states; }
};

template <class T>
class Chain {
 public:
  explicit Chain(const Batch<T>& batch) : batch_(batch), states_(batch.states), pitch_(simd::padded<T>(batch.states)) {
    value_ = value_memory_.get(batch.steps * pitch_);
    row_ = row_memory_.get(states_ * pitch_);
    std::fill_n(row_, states_ * pitch_, T(0));
  }

  void solve(int64_t instance) {
    unary_ = batch_.unary + instance * batch_.steps * states_;
    mask_ = batch_.mask ? batch_.mask + instance * batch_.steps * states_ : nullptr;
    transition_ = batch_.transition + instance * batch_.transitions();
    const int64_t length = batch_.length[instance];
    bool valid = load_values(0);
    if (length > 1 && !batch_.own_transitions) valid &= load_transitions(0);
    for (int64_t step = 1; step < length && valid; ++step) {
      if (batch_.own_transitions) valid &= load_transitions(step - 1);
      valid &= load_values(step);
      advance(step);
    }
    T *taken = batch_.taken + instance * batch_.steps * states_, *made = batch_.made + instance * batch_.transitions();
    std::fill_n(taken, batch_.steps * states_, T(0));
    std::fill_n(made, batch_.transitions(), T(0));
    batch_.status[instance] = !valid ? kInvalid : trace(taken, made, length);
  }

 private:
  using V = simd::Vector<T>;
  static constexpr int kSize = simd::kLanes<T>;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  const Batch<T>& batch_;
  const int64_t states_, pitch_;
  const T *unary_ = nullptr, *transition_ = nullptr;
  const uint8_t* mask_ = nullptr;
  T *value_, *row_;  // (steps, pitch): at first the scores of the states; (states, pitch)
  simd::Buffer<T> value_memory_, row_memory_;

  /// The scores of a step, minus infinity where there is no state; returns whether none is plus infinity.
  bool load_values(int64_t step) {
    const T* from = unary_ + step * states_;
    T* to = value_ + step * pitch_;
    bool valid = true;
    for (int64_t k = 0; k < states_; ++k) {
      to[k] = mask_ && !mask_[step * states_ + k] ? -kInfinity : from[k];
      valid &= to[k] < kInfinity;
    }
    std::fill(to + states_, to + pitch_, -kInfinity);
    return valid;
  }

  /// Returns whether no transition is plus infinity.
  bool load_transitions(int64_t step) {
    const T* from = transition_ + step * states_ * states_;
    bool valid = true;
    for (int64_t i = 0; i < states_; ++i) {
      for (int64_t k = 0; k < states_; ++k) {
        row_[i * pitch_ + k] = from[i * states_ + k];
        valid &= from[i * states_ + k] < kInfinity;
      }
    }
    return valid;
  }

  void advance(int64_t step) {
    int64_t k = 0;
    for (; k + 4 * kSize <= pitch_; k += 4 * kSize) advance<4>(step, k);
    for (; k < pitch_; k += kSize) advance<1>(step, k);
  }

  /// The values of kCount vectors of states, from the k-th on.
  template <int kCount>
  void advance(int64_t step, int64_t k) {
    const T* before = value_ + (step - 1) * pitch_;
    V best[kCount];
    for (V& b : best) b = simd::broadcast<V>(-kInfinity);
    for (int64_t i = 0; i < states_; ++i) {
      const V value = simd::broadcast<V>(before[i]);
#pragma GCC unroll 4
      for (int c = 0; c < kCount; ++c) best[c] = simd::max(best[c], value + simd::load<V>(row_ + i * pitch_ + k + c * kSize));
    }
    T* own = value_ + step * pitch_ + k;
    for (int c = 0; c < kCount; ++c) simd::store(own + c * kSize, best[c] + simd::load<V>(own + c * kSize));
  }

  Status trace(T* taken, T* made, int64_t length) const {
    const T* value = value_ + (length - 1) * pitch_;
    int64_t best = std::max_element(value, value + states_) - value;  // the first of equal ones
    if (!(value[best] > -kInfinity)) return kInfeasible;
    for (int64_t step = length - 1; step > 0; --step) {
      taken[step * states_ + best] = 1;
      value -= pitch_;
      const int64_t into = (batch_.own_transitions ? (step - 1) * states_ * states_ : 0) + best;
      const T* column = transition_ + into;
      T most = -kInfinity;
      for (int64_t i = 0; i < states_; ++i) {
        const T total = value[i] + column[i * states_];
        if (total > most) {
          most = total;
          best = i;
        }
      }
      made[into + best * states_] += 1;
    }
    taken[best] = 1;
    return kSolved;
  }
};

constexpr double kNanoseconds = 0.1;  // for one transition in one step of one instance, about

/// Returns the number of instances that were not solved, or -1 if memory ran out.
template <class T>
int64_t solve(const Batch<T>& batch, int threads) {
  const double states = double(batch.states), work = double(batch.steps) * states * (states + 50);
  return batches::solve_each<Chain<T>>(batch, 100 + work * kNanoseconds, threads);
}

}  // namespace

#define SOLVERLAYERS_VITERBI(NAME, T)                                                                                          \
  extern "C" __attribute__((visibility("default"))) int64_t solverlayers_viterbi_##NAME(                                       \
      const T* unary, const T* transition, const uint8_t* mask, const int64_t* length, int64_t count, int64_t steps,           \
      int64_t states, int own_transitions, T* taken, T* made, uint8_t* status, int threads) {                                  \
    return solve(                                                                                                              \
        Batch<T>{unary, transition, mask, length, count, steps, states, own_transitions != 0, taken, made, status}, threads);  \
  }

SOLVERLAYERS_VITERBI(float32, float)
SOLVERLAYERS_VITERBI(float64, double)
