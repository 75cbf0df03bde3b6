#include "generate/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/random.h"

namespace linnet {
namespace {

constexpr int64_t kVocabulary = 97;

std::vector<float> random_logits(uint64_t seed) {
  std::vector<float> logits(kVocabulary);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = std::round(static_cast<float>(4 * normal(seed, 1, i)));  // rounded, so that there are ties
  }
  return logits;
}

/// Hugging Face's processors, one after the other, written down as plainly as they are: probabilities
/// [vocabulary], 0 where a token is out.
std::vector<double> reference(std::vector<float> logits, const Sampling& s, const std::set<int32_t>& seen) {
  const auto penalty = static_cast<float>(s.repetition_penalty);
  for (int32_t token : seen) {
    logits[token] = logits[token] < 0 ? logits[token] * penalty : logits[token] / penalty;
  }
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const float kth = s.top_k > 0 && s.top_k < kVocabulary ? logits[order[s.top_k - 1]] : -INFINITY;
  std::vector<double> p(logits.size(), 0.0);
  const auto normalize = [&] {
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
  };
  for (size_t i = 0; i < p.size(); ++i) {
    if (logits[i] >= kth)
      p[i] = std::exp((static_cast<double>(logits[i]) - logits[order[0]]) / s.temperature);
  }
  normalize();
  double before = 0;
  for (int32_t token : order) {
    const double own = p[token];
    if (token != order[0] && before >= s.top_p) p[token] = 0;
    before += own;
  }
  normalize();
  for (double& x : p) {
    if (x < s.min_p * p[order[0]]) x = 0;
  }
  normalize();
  return p;
}

TEST(Sampler, DrawsFromHuggingFacesDistributionInItsOrder) {
  const Sampling rows[] = {
      {.temperature = 1.0},
      {.temperature = 0.3},
      {.temperature = 2.0, .top_k = 5},
      {.temperature = 1.0, .top_k = 1},
      {.temperature = 1.0, .top_k = 1000},
      {.temperature = 1.5, .top_p = 0.7},
      {.temperature = 1.5, .top_p = 0.0},
      {.temperature = 3.0, .min_p = 0.2},
      {.temperature = 1.0, .min_p = 1.0},
      {.temperature = 1.0, .repetition_penalty = 1.7},
      {.temperature = 1.3, .top_k = 20, .top_p = 0.9, .min_p = 0.02, .repetition_penalty = 0.8},
  };
  for (const Sampling& sampling : rows) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const auto logits = random_logits(seed);
      const std::set<int32_t> seen = {3, 40, static_cast<int32_t>(seed)};
      Sampler sampler(sampling, seed, 7, kVocabulary);
      for (int32_t token : seen) {
        sampler.observe(token);
        sampler.observe(token);  // counts once
      }
      const auto p = reference(logits, sampling, seen);
      for (uint64_t position = 0; position < 50; ++position) {
        const double drawn = uniform(seed, 7, position);
        double sum = 0;
        int32_t expected = 0;
        for (size_t i = 0; i < p.size() && sum <= drawn; ++i) {
          sum += p[i];
          if (p[i] > 0) expected = static_cast<int32_t>(i);
        }
        ASSERT_EQ(sampler.choose(logits, position), expected)
            << "temperature " << sampling.temperature << " top-k " << sampling.top_k << " top-p "
            << sampling.top_p << " seed " << seed << " position " << position;
      }
    }
  }
}

TEST(Sampler, GreedyTakesTheLowestOfEqualsAndMindsThePenalty) {
  const std::vector<float> logits = {1, 4, 4, -2, 3.9f};
  EXPECT_EQ(argmax(logits), 1);
  Sampler plain({}, 0, 0, 5);
  plain.observe(1);
  EXPECT_EQ(plain.choose(logits, 0), 1);
  Sampler penalized({.repetition_penalty = 2}, 0, 0, 5);
  penalized.observe(1);
  EXPECT_EQ(penalized.choose(logits, 0), 2);
  penalized.observe(2);
  EXPECT_EQ(penalized.choose(logits, 0), 4);
}

TEST(Sampler, TopPIsReachedByAMassThatEqualsIt) {
  Sampler half({.temperature = 1, .top_p = 0.5}, 0, 0, 2);
  for (uint64_t position = 0; position < 20; ++position) {
    EXPECT_EQ(half.choose(std::vector<float>{3, 3}, position), 0);
  }
}

TEST(Sampler, GivesTheSameTokenForSeedSequenceAndPositionWhateverCameBefore) {
  const auto logits = random_logits(5);
  Sampler once({.temperature = 1}, 11, 2, kVocabulary), other({.temperature = 1}, 11, 3, kVocabulary);
  const int32_t expected = once.choose(logits, 1000);
  for (uint64_t i = 0; i < 100; ++i) once.choose(random_logits(i), i);
  EXPECT_EQ(once.choose(logits, 1000), expected);
  int differ = 0;
  for (uint64_t i = 0; i < 100; ++i) differ += once.choose(logits, i) != other.choose(logits, i);
  EXPECT_GT(differ, 10);
}

TEST(Sampler, RefusesLogitsThatAreNotNumbers) {
  EXPECT_THROW(argmax(std::vector<float>{NAN, NAN}), Error);
  EXPECT_THROW(argmax(std::vector<float>{1, INFINITY}), Error);
  EXPECT_EQ(argmax(std::vector<float>{-INFINITY, -3}), 1);
}

TEST(Sampling, RefusesImpossibleValuesByTheirOption) {
  const std::pair<Sampling, const char*> rows[] = {
      {{.temperature = -1}, "--temperature: -1"},
      {{.temperature = NAN}, "--temperature: nan"},
      {{.top_k = -1}, "--top-k: -1"},
      {{.top_p = 1.1}, "--top-p: 1.1"},
      {{.top_p = -0.1}, "--top-p: -0.1"},
      {{.min_p = 2}, "--min-p: 2"},
      {{.repetition_penalty = 0}, "--repetition-penalty: 0"},
      {{.repetition_penalty = 1e-38}, "--repetition-penalty: 1e-38"},
  };
  for (const auto& [sampling, message] : rows) {
    try {
      sampling.check();
      ADD_FAILURE() << message;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(message));
    }
  }
}

TEST(Typical, TakesTheLikeliestGuessThatIsLikelyEnoughForTheEntropy) {
  const auto of = [](std::vector<double> p, double temperature, std::vector<int32_t> guesses) {
    std::vector<float> logits;
    for (const double x : p) logits.push_back(static_cast<float>(temperature * std::log(x)));
    return typical_of(logits, temperature, guesses);
  };
  for (const double temperature : {0.5, 1.0}) {
    EXPECT_EQ(of({0.25, 0.25, 0.25, 0.25}, temperature, {2}), 2) << "0.3 of a quarter is less";
    EXPECT_EQ(of({0.9, 0.08, 0.02}, temperature, {1, 2}), -1) << "0.09 at most";
    EXPECT_EQ(of({0.87, 0.1, 0.03}, temperature, {2, 1}), 1);
    EXPECT_EQ(of({0.6, 0.3, 0.1}, temperature, {2, 1}), 1) << "the likeliest of several";
    EXPECT_EQ(of({0.6, 0.3, 0.1}, temperature, {}), -1);
  }
}

}  // namespace
}  // namespace linnet
