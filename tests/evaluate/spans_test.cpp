#include "evaluate/spans.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/error.h"

namespace linnet {
namespace {

SpanTokens sentinels(int count) {
  SpanTokens tokens;
  for (int i = 0; i < count; ++i) tokens.sentinels.push_back(1000 - i);
  tokens.end = 1;
  return tokens;
}

TEST(Spans, PutBackTogetherAreTheText) {
  for (const int64_t length : {2, 3, 7, 64, 512}) {
    const SpanShape shape(length);
    std::vector<int32_t> text(static_cast<size_t>(length)), source(static_cast<size_t>(shape.source())),
        target(static_cast<size_t>(shape.target()));
    std::iota(text.begin(), text.end(), 2);
    for (uint64_t index = 0; index < 20; ++index) {
      corrupt(text, sentinels(100), 1, index, source, target);
      EXPECT_EQ(source.back(), 1);
      EXPECT_EQ(target.back(), 1);
      std::vector<int32_t> whole;
      size_t at = 0;
      for (size_t i = 0; i + 1 < source.size(); ++i) {
        if (source[i] < 900) {
          whole.push_back(source[i]);
          continue;
        }
        EXPECT_EQ(target[at], source[i]);  // sentinels in the same order
        for (++at; target[at] < 900 && target[at] != 1; ++at) whole.push_back(target[at]);
      }
      EXPECT_EQ(whole, text);
    }
  }
}

TEST(Spans, AreFifteenHundredthsOfATextInThrees) {
  const SpanShape shape(512);
  EXPECT_EQ(shape.noise, 77);
  EXPECT_EQ(shape.spans, 26);
  EXPECT_EQ(shape.source(), 512 - 77 + 26 + 1);
  EXPECT_EQ(shape.target(), 77 + 26 + 1);
}

TEST(Spans, LieElsewhereForEachTextAndSeed) {
  const SpanShape shape(64);
  std::vector<int32_t> text(64, 5), target(static_cast<size_t>(shape.target()));
  std::iota(text.begin(), text.end(), 2);
  std::set<std::vector<int32_t>> seen;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    for (uint64_t index = 0; index < 10; ++index) {
      std::vector<int32_t> source(static_cast<size_t>(shape.source()));
      corrupt(text, sentinels(100), seed, index, source, target);
      seen.insert(source);
    }
  }
  EXPECT_EQ(seen.size(), 30u);
}

TEST(Spans, OfMoreThanThereAreSentinelsAreRefused) {
  EXPECT_NO_THROW(sentinels(26).check(512, "test"));
  EXPECT_THROW(sentinels(25).check(512, "test"), Error);
}

}  // namespace
}  // namespace linnet
