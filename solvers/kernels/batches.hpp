// A batch whose instances are solved one after the other, each by one thread. A batch has its `count` and, of each instance, a
// `status` that is 0 where it was solved.
#pragma once

#include <algorithm>
#include <vector>

#include "parallel.hpp"

namespace batches {

/// Gives a batch whose caller asks for no status one for as long as what is returned lives.
template <class Batch>
std::vector<uint8_t> with_status(Batch& batch) {
  std::vector<uint8_t> own(batch.status ? 0 : batch.count);
  if (!batch.status) batch.status = own.data();
  return own;
}

/// How many instances were not solved, or -1 if memory ran out, so that not all are `done`.
template <class Batch>
int64_t unsolved(const Batch& batch, bool done) {
  return done ? batch.count - std::count(batch.status, batch.status + batch.count, uint8_t(0)) : -1;
}

/// Calls `solve(b)` of a worker, made from the batch once for each part, for all instances, which take `nanoseconds` each,
/// about. Returns what `unsolved` does.
template <class Worker, class Batch>
int64_t solve_each(const Batch& batch, double nanoseconds, int threads) {
  const bool done = parallel::for_parts(batch.count, nanoseconds, threads, [&](int64_t begin, int64_t end) {
    Worker worker(batch);
    for (int64_t b = begin; b < end; ++b) worker.solve(b);
  });
  return unsolved(batch, done);
}

}  // namespace batches
