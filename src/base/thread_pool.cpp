#include "base/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/processors.h"
#include "base/timing.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace linnet {
namespace {

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

/// Of a ticket: the pieces that nobody has taken yet. Above them the region's number.
constexpr uint64_t kPieces = 0xFFFFFFFF;

}  // namespace

struct ThreadPool::Impl {
  std::vector<std::thread> threads;
  // Region and pieces in one word: whoever takes a piece knows whose it is, and a worker that wakes late
  // finds none left. So a region ends when its pieces are done, never waiting for a worker that took none.
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<uint32_t> unfinished{0};
  const std::function<void(size_t)>* work = nullptr;  // stands while pieces are unfinished
  std::mutex mutex;                                   // of `error`, and of falling asleep
  std::condition_variable wake;
  std::atomic<int> sleeping{0};
  std::atomic<bool> stop{false};
  std::exception_ptr error;
  bool watching = false;  // this and `watched` are the caller's alone
  Watched watched;

  bool has_pieces() const { return (ticket.load() & kPieces) != 0; }

  bool take(size_t& piece) {
    uint64_t seen = ticket.load();
    while ((seen & kPieces) != 0) {
      if (ticket.compare_exchange_weak(seen, seen - 1)) {
        piece = static_cast<size_t>(seen & kPieces) - 1;
        return true;
      }
    }
    return false;
  }

  void drain() {
    for (size_t piece; take(piece);) {
      try {
        (*work)(piece);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
      if (unfinished.fetch_sub(1) == 1) unfinished.notify_one();
    }
  }

  void worker() {
    while (!stop) {
      drain();
      for (int spin = 0; spin < kSpins && !has_pieces() && !stop; ++spin) relax();
      if (has_pieces() || stop) continue;
      std::unique_lock lock(mutex);
      ++sleeping;  // before it looks once more: who makes pieces looks here after
      wake.wait(lock, [&] { return stop || has_pieces(); });
      --sleeping;
    }
  }

  void wake_for(uint32_t count) {
    const int asleep = sleeping.load();
    if (asleep == 0) return;
    { std::lock_guard lock(mutex); }  // one that is about to sleep has looked, or waits by now
    if (static_cast<int64_t>(count) - 1 >= asleep) return wake.notify_all();
    for (uint32_t i = 1; i < count; ++i) wake.notify_one();
  }

  void run_region(uint32_t count, const std::function<void(size_t)>& pieces) {
    const double begin = watching ? steady_seconds() : 0;
    work = &pieces;
    error = nullptr;
    unfinished.store(count);
    ticket.store(((ticket.load() | kPieces) + 1) | count);
    wake_for(count);
    drain();
    const double drained = watching ? steady_seconds() : 0;
    for (int spin = 0; spin < kSpins && unfinished.load() != 0; ++spin) relax();
    for (uint32_t left; (left = unfinished.load()) != 0;) unfinished.wait(left);
    if (watching) {
      const double end = steady_seconds();
      ++watched.regions, watched.seconds += end - begin, watched.waited += end - drained;
    }
    if (error) std::rethrow_exception(error);
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

void ThreadPool::watch() {
  impl_->watching = true;
  impl_->watched = {};
}

const ThreadPool::Watched& ThreadPool::watched() const { return impl_->watched; }

int ThreadPool::size() const { return static_cast<int>(impl_->threads.size()) + 1; }

void ThreadPool::run_pieces(size_t count, const std::function<void(size_t)>& work) {
  if (count <= 1 || impl_->threads.empty()) {
    for (size_t i = 0; i < count; ++i) work(i);
    return;
  }
  impl_->run_region(static_cast<uint32_t>(count), work);
}

}  // namespace linnet
