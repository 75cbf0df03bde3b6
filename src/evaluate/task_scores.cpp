#include "evaluate/task_scores.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet {
namespace {

constexpr int64_t kDraws = 1000;  // resamples of one seed

size_t code_points(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) next_code_point(text, at);
  return count;
}

size_t largest(std::span<const double> values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

/// Counts of (right, chosen) among two choices.
using Table = std::array<std::array<int64_t, 2>, 2>;

double f1(const Table& table) {
  const auto right = static_cast<double>(table[1][1]), wrong = static_cast<double>(table[0][1] + table[1][0]);
  return 2 * right + wrong == 0 ? 0 : 2 * right / (2 * right + wrong);
}

double matthews(const Table& table) {
  const auto at = [&](int gold, int chosen) { return static_cast<double>(table[gold][chosen]); };
  const double gold = at(1, 0) + at(1, 1), chosen = at(0, 1) + at(1, 1), all = at(0, 0) + at(0, 1) + gold;
  const double spread = gold * (all - gold) * chosen * (all - chosen);
  return spread == 0 ? 0 : (at(1, 1) * at(0, 0) - at(0, 1) * at(1, 0)) / std::sqrt(spread);
}

double of_table(Metric metric, const Table& table) {
  return metric == Metric::kF1 ? f1(table) : matthews(table);
}

double mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// Of a sample, with Bessel's correction.
double deviation(std::span<const double> values) {
  const double center = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - center) * (value - center);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double bootstrapped(Metric metric, std::span<const TaskAnswer> answers, int64_t resamples, ThreadPool& pool) {
  const int64_t draws = std::min(kDraws, resamples);
  const auto seeds = static_cast<size_t>(resamples / draws);
  std::vector<double> values(seeds * static_cast<size_t>(draws));
  pool.run(seeds, [&](size_t seed) {
    PythonRandom random(static_cast<uint32_t>(seed));
    for (int64_t i = 0; i < draws; ++i) {
      Table table{};
      for (size_t n = 0; n < answers.size(); ++n) {
        const double place = random.uniform() * static_cast<double>(answers.size());
        const TaskAnswer& answer = answers[static_cast<size_t>(place)];
        ++table[answer.gold][answer.chosen];
      }
      values[seed * static_cast<size_t>(draws) + static_cast<size_t>(i)] = of_table(metric, table);
    }
  });
  return deviation(values);
}

}  // namespace

TaskAnswer answer_of(const TaskExample& example, std::span<const Likelihood> choices) {
  std::vector<double> nats, normalized;
  for (size_t i = 0; i < choices.size(); ++i) {
    nats.push_back(choices[i].nats);
    normalized.push_back(choices[i].nats / static_cast<double>(code_points(example.choices[i])));
  }
  return {example.gold, largest(nats), largest(normalized)};
}

std::string answer_in(std::string_view text, const Writing& writing) {
  for (size_t at = 0; (at = text.find(writing.before, at)) != text.npos; ++at) {
    const size_t begin = at + writing.before.size();
    std::string_view line = text.substr(begin, text.find('\n', begin) - begin);
    if (line.empty()) continue;
    line = line.substr(0, last_code_point(line));
    line.remove_prefix(space_prefix(line));
    line.remove_suffix(space_suffix(line));
    return std::string(line);
  }
  return std::string(writing.otherwise);
}

TaskAnswer answer_of(const TaskExample& example, std::string_view text, const Writing& writing) {
  const size_t chosen = answer_in(text, writing) == example.target ? 0 : 1;
  return {0, chosen, chosen};
}

MetricValue value_of(Metric metric, std::span<const TaskAnswer> answers, int64_t bootstrap,
                     ThreadPool& pool) {
  MetricValue result;
  if (metric == Metric::kF1 || metric == Metric::kMatthews) {
    Table table{};
    for (const TaskAnswer& answer : answers) ++table[answer.gold][answer.chosen];
    result.value = of_table(metric, table);
    if (answers.size() > 1 && bootstrap > 1) result.error = bootstrapped(metric, answers, bootstrap, pool);
    return result;
  }
  std::vector<double> right;
  for (const TaskAnswer& answer : answers) {
    const size_t chosen = metric == Metric::kAccuracy ? answer.chosen : answer.chosen_normalized;
    right.push_back(chosen == answer.gold ? 1 : 0);
  }
  result.value = mean(right);
  if (right.size() > 1) result.error = deviation(right) / std::sqrt(static_cast<double>(right.size()));
  return result;
}

MetricValue pooled(std::span<const MetricValue> values, std::span<const int64_t> sizes) {
  double sum = 0, variance = 0, all = 0;
  bool errors = true;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto size = static_cast<double>(sizes[i]);
    sum += values[i].value * size;
    all += size;
    errors = errors && values[i].error.has_value();
    const double error = values[i].error.value_or(0);
    variance += (size - 1) * error * error * size;
  }
  MetricValue result{.value = sum / all};
  if (errors) result.error = std::sqrt(variance / (all - static_cast<double>(values.size())) / all);
  return result;
}

PythonRandom::PythonRandom(uint32_t seed) {
  constexpr uint32_t n = 624;
  state_[0] = 19650218;
  for (uint32_t i = 1; i < n; ++i) state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  uint32_t at = 1;
  const auto move_on = [&] {
    if (++at < n) return;
    state_[0] = state_[n - 1];
    at = 1;
  };
  for (uint32_t k = 0; k < n; ++k) {  // the key is the seed alone
    state_[at] = (state_[at] ^ ((state_[at - 1] ^ (state_[at - 1] >> 30)) * 1664525U)) + seed;
    move_on();
  }
  for (uint32_t k = 1; k < n; ++k) {
    state_[at] = (state_[at] ^ ((state_[at - 1] ^ (state_[at - 1] >> 30)) * 1566083941U)) - at;
    move_on();
  }
  state_[0] = 0x80000000U;
}

uint32_t PythonRandom::bits() {
  if (next_ == 624) {
    for (int i = 0; i < 624; ++i) {
      const uint32_t y = (state_[i] & 0x80000000U) | (state_[(i + 1) % 624] & 0x7fffffffU);
      state_[i] = state_[(i + 397) % 624] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908b0dfU : 0U);
    }
    next_ = 0;
  }
  uint32_t y = state_[next_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680U;
  y ^= (y << 15) & 0xefc60000U;
  return y ^ (y >> 18);
}

double PythonRandom::uniform() {
  const uint32_t high = bits() >> 5, low = bits() >> 6;
  return (high * 67108864.0 + low) * (1.0 / 9007199254740992.0);
}

}  // namespace linnet
