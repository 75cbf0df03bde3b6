#include "evaluate/windows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "base/random.h"
#include "evaluate/score.h"
#include "evaluate/words.h"
#include "tests/generate/hash_decoder.h"

namespace linnet {
namespace {

struct Case {
  int64_t tokens, window, stride;
};
const Case kCases[] = {{1, 0, 0},    {1300, 0, 0}, {1300, 700, 600}, {50, 0, 0},  {1, 8, 8},
                       {7, 8, 3},    {8, 8, 8},    {9, 8, 8},        {40, 8, 8},  {41, 8, 0},
                       {41, 8, 1},   {41, 8, 3},   {41, 8, 7},       {41, 1, 1},  {40, 16, 4},
                       {600, 64, 9}, {97, 100, 2}, {100, 99, 1},     {33, 16, 16}};

/// The first input that token t's window reads, straight from the definition: a window's last scored token e
/// makes it read the inputs e − N + 1 … e.
int64_t first_input_of(int64_t t, const Case& c) {
  if (c.window == 0 || t < c.window) return 0;
  const int64_t stride = c.stride == 0 ? c.window : c.stride;
  const int64_t nth = (t - c.window) / stride;  // of the later windows
  const int64_t last = std::min(c.window + (nth + 1) * stride, c.tokens) - 1;
  return last - c.window + 1;
}

std::vector<int32_t> random_inputs(int64_t tokens, int32_t vocabulary, uint64_t seed) {
  std::vector<int32_t> inputs;
  for (int64_t i = 0; i <= tokens; ++i) {
    inputs.push_back(static_cast<int32_t>(
        uniform_integer(seed, 0, static_cast<uint64_t>(i), static_cast<uint64_t>(vocabulary))));
  }
  return inputs;
}

TEST(Windows, ScoreEveryTokenOnceAndReadWhatTheDefinitionSays) {
  for (const Case& c : kCases) {
    int64_t next = 0;
    for (const Window& w : make_windows(c.tokens, c.window, c.stride)) {
      EXPECT_EQ(w.first_scored, next);
      for (int64_t t = w.first_scored; t < w.end; ++t) EXPECT_EQ(w.first_input, first_input_of(t, c));
      EXPECT_TRUE(c.window == 0 || w.end - w.first_input <= c.window);
      next = w.end;
    }
    EXPECT_EQ(next, c.tokens) << c.tokens << " " << c.window << " " << c.stride;
  }
  EXPECT_TRUE(make_windows(0, 8, 8).empty());
}

TEST(Windows, RefuseStridesThatSkipOrStandStill) {
  EXPECT_THROW(make_windows(10, 8, 9), Error);
  EXPECT_THROW(make_windows(10, 8, -1), Error);
  EXPECT_THROW(make_windows(10, -8, 0), Error);
  EXPECT_THROW(make_windows(10, 0, 4), Error);
}

TEST(Scores, AreThoseOfEachTokenComputedAlone) {
  constexpr int64_t kVocabulary = 31;
  ThreadPool pool(2);
  for (const Case& c : kCases) {
    for (const auto& [from, to] :
         {std::pair<int64_t, int64_t>{0, c.tokens}, {3, 20}, {c.tokens - 1, c.tokens}}) {
      if (from >= to || to > c.tokens) continue;
      const auto inputs = random_inputs(c.tokens, kVocabulary, 1);
      HashDecoder decoder(kVocabulary, 1);
      const auto windows = clip_windows(make_windows(c.tokens, c.window, c.stride), from, to);
      const auto scores = score_windows(decoder, kVocabulary, inputs, windows, pool);
      ASSERT_EQ(scores.size(), static_cast<size_t>(to - from));
      for (int64_t t = from; t < to; ++t) {
        std::vector<float> logits(kVocabulary);
        const int64_t first = first_input_of(t, c);
        HashDecoder::logits_after(
            std::span(inputs).subspan(static_cast<size_t>(first), static_cast<size_t>(t - first + 1)),
            logits);
        double sum = 0;
        for (const float x : logits) sum += std::exp(static_cast<double>(x));
        const double expected =
            std::log(sum) - logits[static_cast<size_t>(inputs[static_cast<size_t>(t) + 1])];
        EXPECT_NEAR(scores[static_cast<size_t>(t - from)], expected, 1e-6)
            << "token " << t << " of " << c.tokens << ", window " << c.window << ", stride " << c.stride;
      }
    }
  }
}

TEST(Windows, ThatScoreNothingAreNotComputed) {
  ThreadPool pool(1);
  HashDecoder decoder(5, 1);
  const auto inputs = random_inputs(1000, 5, 2);
  score_windows(decoder, 5, inputs, clip_windows(make_windows(1000, 10, 10), 500, 515), pool);
  EXPECT_EQ(decoder.prefilled(), 15);
}

TEST(Windows, StopWhenProgressSaysSo) {
  ThreadPool pool(1);
  HashDecoder decoder(5, 1);
  const auto inputs = random_inputs(1000, 5, 2);
  int64_t read = 0;
  const auto scores = score_windows(decoder, 5, inputs, make_windows(1000, 10, 10), pool,
                                    [&](int64_t more) { return (read += more) < 50; });
  EXPECT_EQ(read, 50);
  EXPECT_EQ(scores.size(), 50u);
}

TEST(FarPairs, AreThoseOfTheDefinitionReadWordForWord) {
  for (const Case& c : kCases) {
    for (int64_t far : {0, 1, 3, 20}) {
      for (int32_t vocabulary : {2, 4}) {
        const int64_t to = c.tokens - c.tokens / 5;
        const int64_t from = c.tokens / 7;
        if (from >= to) continue;
        const auto inputs = random_inputs(c.tokens, vocabulary, 3);
        const auto pair = [&](int64_t t) {
          return std::pair(inputs[static_cast<size_t>(t)], inputs[static_cast<size_t>(t) + 1]);
        };
        const auto classes = classify_pairs(
            inputs, clip_windows(make_windows(c.tokens, c.window, c.stride), from, to), c.window, far);
        ASSERT_EQ(classes.size(), static_cast<size_t>(to - from));
        for (int64_t t = from; t < to; ++t) {
          const int64_t first = first_input_of(t, c);
          int64_t last = -1;
          for (int64_t s = first; s < t; ++s) {
            if (pair(s) == pair(t)) last = s;
          }
          const PairClass expected = t - first < c.window / 2      ? PairClass::kNotCounted
                                     : last >= 0 && t - last > far ? PairClass::kFar
                                                                   : PairClass::kOther;
          EXPECT_EQ(classes[static_cast<size_t>(t - from)], expected)
              << "token " << t << " of " << c.tokens << ", window " << c.window << ", stride " << c.stride
              << ", far " << far;
        }
      }
    }
  }
}

TEST(Scores, LogLikelihoodsAreExactForExtremeLogits) {
  EXPECT_NEAR(negative_log_likelihood(std::vector<float>{1000, 0, -1000}, 0), 0, 1e-12);
  EXPECT_NEAR(negative_log_likelihood(std::vector<float>{1000, 0, -1000}, 1), 1000, 1e-9);
  EXPECT_NEAR(negative_log_likelihood(std::vector<float>(7, -3.0f), 5), std::log(7.0), 1e-12);
  EXPECT_THROW(negative_log_likelihood(std::vector<float>{NAN, 0}, 1), Error);
  EXPECT_THROW(negative_log_likelihood(std::vector<float>{INFINITY, 0}, 1), Error);
}

TEST(Words, StandBetweenWhiteSpaceOfAnyScript) {
  const std::pair<const char*, int64_t> rows[] = {{"", 0},
                                                  {" ", 0},
                                                  {"a", 1},
                                                  {" a ", 1},
                                                  {"a\tb\nc\r\nd", 4},
                                                  {"a\rb\vc\fd", 4},
                                                  {"a\u00A0b", 2},
                                                  {"\u3000", 0},
                                                  {"\u4F60\u3000\u597D", 2},
                                                  {"don't stop", 2},
                                                  {"a\u200Bb", 1}};
  for (const auto& [text, words] : rows) EXPECT_EQ(count_words(text), words) << text;
  EXPECT_EQ(count_words_beginning("one two three", 0, 4), 1);
  EXPECT_EQ(count_words_beginning("one two three", 1, 5), 1);
  EXPECT_EQ(count_words_beginning("one two three", 4, 9), 2);
  EXPECT_EQ(count_words_beginning("one two three", 5, 8), 0);
}

}  // namespace
}  // namespace linnet
