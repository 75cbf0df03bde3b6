#include "generate/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/random.h"

namespace linnet {

void Sampling::check() const {
  struct Row {
    const char* option;
    double value;
    bool good;
    const char* expected;
  };
  const Row rows[] = {
      {"--temperature", temperature, temperature >= 0 && std::isfinite(temperature), "a number from 0 on"},
      {"--top-k", static_cast<double>(top_k), top_k >= 0, "0 (all) or a number of tokens"},
      {"--top-p", top_p, top_p >= 0 && top_p <= 1, "a number from 0 to 1"},
      {"--min-p", min_p, min_p >= 0 && min_p <= 1, "a number from 0 to 1"},
      {"--repetition-penalty", repetition_penalty,
       repetition_penalty >= kLeastPenalty && repetition_penalty <= kMostPenalty,
       "a number from 0.01 to 100 (1 changes nothing)"},
  };
  for (const Row& row : rows) {
    if (!row.good) throw Error(row.option, fmt::format("{} makes no sense", row.value), row.expected);
  }
}

Sampler::Sampler(const Sampling& sampling, uint64_t seed, uint64_t sequence, int64_t vocabulary)
    : sampling_(sampling), seed_(seed), sequence_(sequence) {
  const auto size = static_cast<size_t>(vocabulary);
  if (sampling_.repetition_penalty != 1.0) {
    is_seen_.resize(size);
    penalized_.resize(size);
  }
  if (sampling_.temperature > 0) candidates_.reserve(size);
  if (sampling_.top_k > 0) scratch_.resize(size);
}

void Sampler::observe(int32_t token) {
  if (is_seen_.empty() || is_seen_[static_cast<size_t>(token)]) return;
  is_seen_[static_cast<size_t>(token)] = true;
  seen_.push_back(token);
}

std::span<const float> Sampler::penalized(std::span<const float> logits) {
  if (is_seen_.empty()) return logits;
  std::copy(logits.begin(), logits.end(), penalized_.begin());
  const auto penalty = static_cast<float>(sampling_.repetition_penalty);
  for (const int32_t token : seen_) {
    float& x = penalized_[static_cast<size_t>(token)];
    x = x < 0 ? x * penalty : x / penalty;
  }
  return penalized_;
}

double Sampler::total_weight() const {
  double total = 0;
  for (const Candidate& c : candidates_) total += c.weight;
  return total;
}

void Sampler::keep_top_k(std::span<const float> logits, float largest) {
  float least = -std::numeric_limits<float>::infinity();
  const auto k = static_cast<size_t>(sampling_.top_k);
  if (k > 0 && k < logits.size()) {
    std::copy(logits.begin(), logits.end(), scratch_.begin());
    std::nth_element(scratch_.begin(), scratch_.begin() + static_cast<ptrdiff_t>(k - 1), scratch_.end(),
                     std::greater<>());
    least = scratch_[k - 1];
  }
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] >= least)) continue;
    const double scaled = (static_cast<double>(logits[i]) - largest) / sampling_.temperature;
    candidates_.push_back({logits[i], static_cast<int32_t>(i), std::exp(scaled)});
  }
}

// A heap, not a sort: of a large vocabulary only the likeliest few hundred are ever taken out.
void Sampler::keep_top_p() {
  if (sampling_.top_p >= 1) return;
  const double enough = sampling_.top_p * total_weight();
  const auto less_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit < b.logit || (a.logit == b.logit && a.id > b.id);
  };
  std::make_heap(candidates_.begin(), candidates_.end(), less_likely);
  auto end = candidates_.end();
  double mass = 0;
  do {
    std::pop_heap(candidates_.begin(), end, less_likely);
    --end;
    mass += end->weight;
  } while (end != candidates_.begin() && mass < enough);
  candidates_.erase(candidates_.begin(), end);
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

int32_t Sampler::choose(std::span<const float> original, uint64_t position) {
  const std::span<const float> logits = penalized(original);
  const int32_t best = argmax(logits);
  if (sampling_.temperature == 0) return best;
  keep_top_k(logits, logits[static_cast<size_t>(best)]);
  keep_top_p();
  std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < sampling_.min_p; });
  const double drawn = uniform(seed_, sequence_, position) * total_weight();
  double sum = 0;
  for (const Candidate& c : candidates_) {
    sum += c.weight;
    if (drawn < sum) return c.id;
  }
  return best;  // rounding alone leads here
}

int32_t typical_of(std::span<const float> logits, double temperature, std::span<const int32_t> guesses) {
  constexpr double kMost = 0.09, kShare = 0.3;
  const double largest = logits[static_cast<size_t>(argmax(logits))];
  const auto scaled = [&](float x) { return (x - largest) / temperature; };
  double sum = 0, weighted = 0;  // of exp(x), of x exp(x)
  for (const float x : logits) {
    const double weight = std::exp(scaled(x));
    if (!(weight > 0)) continue;
    sum += weight;
    weighted += weight * scaled(x);
  }
  const double entropy = std::log(sum) - weighted / sum;
  double best = std::min(kMost, kShare * std::exp(-entropy));
  int32_t token = -1;
  for (const int32_t guess : guesses) {
    const double probability = std::exp(scaled(logits[static_cast<size_t>(guess)])) / sum;
    if (probability > best) best = probability, token = guess;
  }
  return token;
}

}  // namespace linnet
