// For what measures time: a stopwatch, and the median, which a slow spell of a shared machine does not move.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

namespace linnet {

/// Seconds since an unknown moment, by a clock that is never set.
inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Runs from its making, or its last restart, on.
class Stopwatch {
 public:
  double seconds() const { return steady_seconds() - start_; }

  /// Starts anew; returns the seconds until now.
  double restart() {
    const double now = steady_seconds();
    return now - std::exchange(start_, now);
  }

 private:
  double start_ = steady_seconds();
};

/// Of at least one number; of an even count the upper of the two in the middle.
inline double median(std::vector<double> numbers) {
  const auto middle = numbers.begin() + static_cast<int64_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

/// Seconds of each of `passes` ≥ 1 runs of work, after one that does not count.
template <class Work>
std::vector<double> seconds_of_runs(int passes, const Work& work) {
  std::vector<double> seconds;
  for (int pass = -1; pass < passes; ++pass) {
    const Stopwatch watch;
    work();
    if (pass >= 0) seconds.push_back(watch.seconds());
  }
  return seconds;
}

/// Their median: what work takes.
template <class Work>
double median_seconds(int passes, const Work& work) {
  return median(seconds_of_runs(passes, work));
}

/// The least of them: what the machine can do.
template <class Work>
double least_seconds(int passes, const Work& work) {
  const auto seconds = seconds_of_runs(passes, work);
  return *std::min_element(seconds.begin(), seconds.end());
}

}  // namespace linnet
