// For what measures speed: the median, which a slow spell of a shared machine does not move.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

namespace linnet {

/// Of at least one number; of an even count the upper of the two in the middle.
inline double median(std::vector<double> numbers) {
  const auto middle = numbers.begin() + static_cast<int64_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

/// Median seconds of `passes` ≥ 1 runs of work, after one that does not count.
template <class Work>
double median_seconds(int passes, const Work& work) {
  std::vector<double> seconds;
  for (int pass = -1; pass < passes; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    if (pass >= 0) seconds.push_back(passed.count());
  }
  return median(std::move(seconds));
}

}  // namespace linnet
