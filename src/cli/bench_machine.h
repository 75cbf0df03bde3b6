// What the machine can do, as `linnet bench` holds a model's numbers against it.
#pragma once

#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/read_rate.h"

namespace linnet::cli {

/// The best rates of reading seen so far, by the bytes that are read over and over: what fits into a cache is
/// held against the cache's rate.
class Ruler {
 public:
  explicit Ruler(ThreadPool& pool) : pool_(pool) {}

  /// Measures reading of `bytes` once more, and of more than any cache holds. The better of all times counts:
  /// a ruler that a slow spell shortened would flatter.
  void measure(size_t bytes);
  /// The best of what measure() saw for as many bytes.
  const kernels::ReadRate& of(size_t bytes) const;
  const kernels::ReadRate& of_memory() const;
  /// Every pattern, number of threads and size, with its rate.
  nlohmann::ordered_json to_json() const;

 private:
  void measure_size(size_t size);

  ThreadPool& pool_;
  std::map<size_t, std::vector<kernels::ReadRate>> rates_;  // by size
};

}  // namespace linnet::cli
