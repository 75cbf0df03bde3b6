// How fast this machine reads memory: the ruler that a decode step, which reads all weights, is held against.
// No one way to read is the fastest everywhere, so several are tried and the best counts: what a program
// reached by any of them is no more than that.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"

namespace linnet::kernels {

struct ReadRate {
  std::string_view pattern;  // "one stream", "four streams", …
  bool prefetched = false;   // software asks for what comes next
  int threads = 0;
  size_t bytes = 0;             // read over and over: below the caches' size it is they that are measured
  double bytes_per_second = 0;  // the best of several passes
};

/// Reads a buffer of `bytes` (at least a page) by each pattern, on all of the pool's threads, on half of them
/// and on one. Takes some tenths of a second.
std::vector<ReadRate> read_rates(ThreadPool& pool, size_t bytes);

/// The fastest of them; `rates` is not empty.
const ReadRate& best(const std::vector<ReadRate>& rates);

}  // namespace linnet::kernels
