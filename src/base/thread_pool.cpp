#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace linnet {
namespace {

int available_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// About 50 µs: longer than the serial pieces between two regions of a decode step, far shorter than a
// scheduler's time slice, so an idle pool costs nothing that a user would notice.
constexpr int kSpins = 2000;

}  // namespace

struct ThreadPool::Impl {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake, done;
  std::atomic<uint64_t> region{0};  // counts regions; a worker runs each once
  std::atomic<size_t> next{0};
  std::atomic<int> busy{0};
  size_t count = 0;
  const std::function<void(size_t)>* work = nullptr;
  std::atomic<bool> stop{false};
  std::exception_ptr error;

  void drain() {
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      try {
        (*work)(i);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  }

  void worker() {
    uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && region.load(std::memory_order_acquire) == seen && !stop; ++spin)
        relax();
      if (region.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return stop || region.load(std::memory_order_acquire) != seen; });
      }
      if (stop) return;
      seen = region.load(std::memory_order_acquire);
      drain();
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        std::lock_guard lock(mutex);
        done.notify_one();
      }
    }
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  if (threads < 1) threads = available_processors();
  for (int i = 1; i < threads; ++i) impl_->threads.emplace_back([this] { impl_->worker(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stop = true;
  }
  impl_->wake.notify_all();
  for (auto& thread : impl_->threads) thread.join();
}

int ThreadPool::size() const { return static_cast<int>(impl_->threads.size()) + 1; }

void ThreadPool::run_pieces(size_t count, const std::function<void(size_t)>& work) {
  Impl& pool = *impl_;
  if (count == 0) return;
  if (count == 1 || pool.threads.empty()) {
    for (size_t i = 0; i < count; ++i) work(i);
    return;
  }
  {
    // Under the lock, so that a worker about to sleep cannot miss it.
    std::lock_guard lock(pool.mutex);
    pool.work = &work;
    pool.count = count;
    pool.error = nullptr;
    pool.next.store(0, std::memory_order_relaxed);
    pool.busy.store(static_cast<int>(pool.threads.size()), std::memory_order_relaxed);
    pool.region.fetch_add(1, std::memory_order_release);
  }
  pool.wake.notify_all();
  pool.drain();
  for (int spin = 0; spin < kSpins && pool.busy.load(std::memory_order_acquire) != 0; ++spin) relax();
  if (pool.busy.load(std::memory_order_acquire) != 0) {
    std::unique_lock lock(pool.mutex);
    pool.done.wait(lock, [&] { return pool.busy.load(std::memory_order_acquire) == 0; });
  } else {
    // The last worker may still hold the mutex to notify: don't return into a destructor before it lets go.
    std::lock_guard lock(pool.mutex);
  }
  if (pool.error) std::rethrow_exception(pool.error);
}

}  // namespace linnet
