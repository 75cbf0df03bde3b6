// One pool of threads a process. Built for the decode step: regions of tens of microseconds, a few hundred
// of them a token, so workers spin briefly before they sleep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace linnet {

/// Runs `count` independent pieces of work on `threads` threads, the caller among them.
/// Which thread gets which piece never changes a result: pieces write disjoint memory.
class ThreadPool {
 public:
  /// `threads` < 1: one for each processor that this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// What regions took since watch(): for those who measure. A region of one piece runs on the caller alone
  /// and is none.
  struct Watched {
    uint64_t regions = 0;
    double seconds = 0;  // in them
    double waited = 0;   // of those, the caller's for pieces that others had taken
  };
  void watch();
  const Watched& watched() const;

  /// Calls work(0) … work(count − 1), count < 2³², in any order, and returns when all are done: threads that
  /// wake too late to help are not waited for. The first exception that a
  /// piece throws is rethrown here. Not reentrant: a piece must not call run().
  /// Allocates nothing, however much the piece of work captures.
  template <class Work>
  void run(size_t count, Work&& work) {
    run_pieces(count, std::function<void(size_t)>(std::ref(work)));
  }

 private:
  void run_pieces(size_t count, const std::function<void(size_t)>& work);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet
