// A thread pool whose caller helps.
//
// `parallel_for` cuts work into chunks. The calling thread takes chunks one after the other, and workers that are awake take
// some off it. The caller only ever waits for chunks that a worker has already started, so on a busy machine, where workers are
// slow to wake, a job costs what it costs on one thread. (A barrier, as in OpenMP, waits for every worker.)
//
// Workers sleep on a condition variable. A job is serial when it is started inside another one, or while another thread runs
// one. After fork() the child starts with a new, empty pool. Workers are detached and the pool is never destroyed, so exiting
// never waits for them.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>

namespace parallel {

/// One call of `parallel_for`. It lives on the caller's stack.
struct Job {
  void (*run)(void* body, int64_t chunk);
  void* body;
  int64_t chunks;
  std::atomic<int64_t> next{0};     // the first chunk that nobody has taken
  std::atomic<bool> failed{false};  // whether a chunk threw
  int wanted = 0;                   // workers that may still join; guarded by the pool's mutex
  int joined = 0;                   // workers inside a chunk; guarded by the pool's mutex

  int64_t take() { return next.fetch_add(1, std::memory_order_relaxed); }

  /// Runs `chunk` and then whatever is left.
  void help(int64_t chunk) noexcept {
    for (; chunk < chunks; chunk = take()) {
      try {
        run(body, chunk);
      } catch (...) {
        failed.store(true, std::memory_order_relaxed);
      }
    }
  }
};

inline thread_local bool inside_a_job = false;

class Pool {
 public:
  /// Runs `job` on this thread and at most `helpers` workers; returns false, with nothing done, while another job runs.
  bool run(Job& job, int helpers) noexcept {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    std::unique_lock<std::mutex> lock(mutex_);
    hire(helpers);
    job.wanted = helpers = std::min(helpers, workers_);
    job_ = &job;
    lock.unlock();
    while (helpers-- > 0) wake_.notify_one();
    job.help(job.take());
    lock.lock();
    job_ = nullptr;  // from here on nobody joins
    done_.wait(lock, [&] { return job.joined == 0; });
    return true;
  }

 private:
  std::mutex owner_;  // held while a job runs
  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_, done_;
  Job* job_ = nullptr;
  int workers_ = 0;

  /// Starts threads until there are `count` workers, or fewer where the system gives no more.
  void hire(int count) {
    sigset_t all, before;
    sigfillset(&all);
    if (workers_ < count) pthread_sigmask(SIG_SETMASK, &all, &before);  // signals stay with the host's own threads
    else return;
    try {
      for (; workers_ < count; ++workers_) std::thread([this] { work(); }).detach();
    } catch (...) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  [[noreturn]] void work() {
    inside_a_job = true;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return job_ && job_->wanted > 0; });
      Job& job = *job_;
      --job.wanted;
      const int64_t chunk = job.take();  // taken under the lock: whoever has joined has work in hand
      if (chunk >= job.chunks) continue;
      ++job.joined;
      lock.unlock();
      job.help(chunk);
      lock.lock();
      if (--job.joined == 0) done_.notify_one();
    }
  }
};

alignas(Pool) inline unsigned char storage[sizeof(Pool)];

/// The pool is made when the library is loaded, and again in the child of a fork: the threads it knew are not there, and its
/// mutexes may be held by one of them.
inline Pool* make_pool() {
  pthread_atfork(nullptr, nullptr, [] { new (storage) Pool; });
  return new (storage) Pool;
}

inline Pool* const pool = make_pool();

/// Calls `body(chunk)` once for each chunk in [0, chunks), on at most `threads` threads (this one included), in any order.
///
/// Returns false if a call threw, which means that memory ran out; the other calls were made all the same. Waking a worker
/// costs some microseconds, so a job should be worth 200 of them, and a chunk at least 20.
template <class Body>
bool parallel_for(int64_t chunks, int threads, Body&& body) noexcept {
  using Plain = std::remove_reference_t<Body>;
  Job job{[](void* b, int64_t chunk) { (*static_cast<Plain*>(b))(chunk); }, const_cast<void*>(static_cast<const void*>(&body)),
          chunks};
  const int helpers = int(std::min<int64_t>(threads, chunks)) - 1;
  if (helpers > 0 && !inside_a_job) {
    inside_a_job = true;
    const bool ran = pool->run(job, helpers);
    inside_a_job = false;
    if (ran) return !job.failed;
  }
  job.help(job.take());
  return !job.failed;
}

/// Calls `body(begin, end)` for parts of `count` pieces of work that take `nanoseconds` each, about, on several threads where
/// that pays. Returns false if memory ran out.
template <class Body>
bool for_parts(int64_t count, double nanoseconds, int threads, Body&& body) noexcept {
  if (double(count) * nanoseconds < 200e3) threads = 1;
  const int64_t together = std::max<int64_t>(1, threads > 1 ? int64_t(50e3 / nanoseconds) : count);
  return parallel_for((count + together - 1) / together, threads,
                      [&](int64_t chunk) { body(chunk * together, std::min(count, (chunk + 1) * together)); });
}

}  // namespace parallel
