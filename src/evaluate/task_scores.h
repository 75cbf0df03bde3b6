// Metrics of tasks with their standard errors, as the common harness computes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/likelihood.h"
#include "evaluate/task_records.h"

namespace linnet {

/// What the choices' log-likelihoods make of one example.
struct TaskAnswer {
  size_t gold = 0;
  size_t chosen = 0;             // the likeliest choice
  size_t chosen_normalized = 0;  // the same, each divided by the choice's length in code points
};
TaskAnswer answer_of(const TaskExample& example, std::span<const Likelihood> choices);

/// The answer that a written text gives: the first that `writing.before` leads
/// to in a line, stripped.
std::string answer_in(std::string_view text, const Writing& writing);
/// Right, or the wrong one of two.
TaskAnswer answer_of(const TaskExample& example, std::string_view text, const Writing& writing);

struct MetricValue {
  double value = 0;
  std::optional<double> error;  // one standard error; nothing of a single example
};

/// Means have the sample's standard error; F1 and Matthews' correlation that of `bootstrap` resamples (a
/// multiple of 1000, or fewer), drawn as the harness draws them: Python's generator, seeds 0, 1, … for 1000
/// each.
MetricValue value_of(Metric metric, std::span<const TaskAnswer> answers, int64_t bootstrap, ThreadPool& pool);

/// The mean of several sets' means weighted by their sizes, and its pooled error.
MetricValue pooled(std::span<const MetricValue> values, std::span<const int64_t> sizes);

/// Python's random.Random(seed), seed ≥ 0: the generator of MT19937 (Matsumoto and Nishimura 1998) with 53
/// bits a number.
class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);
  double uniform();  // [0, 1)

 private:
  uint32_t bits();
  uint32_t state_[624];
  int next_ = 624;
};

}  // namespace linnet
