// Which tokens a head keeps, and what it holds of them.
#include "attention/kept_tokens.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace linnet {
namespace {

const AttentionShape kShape{1, 1, 2, 3};

/// The kept tokens of a head, each with its position in every number of its key and value.
class Kept {
 public:
  explicit Kept(int64_t most)
      : layout_(most, kShape),
        numbers_(static_cast<size_t>(layout_.size)),
        tokens_(static_cast<size_t>(layout_.token_size)) {}

  /// Offers tokens from `position` on, one for each surprise; how many of the old ones stay.
  int64_t offer(int64_t position, const std::vector<float>& surprises) {
    const auto count = static_cast<int64_t>(surprises.size());
    std::vector<float> keys(kShape.head_size * 16), values(count * layout_.value_row);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t x = 0; x < kShape.head_size; ++x) keys[x * 16 + i] = static_cast<float>(position + i);
      for (int64_t x = 0; x < kShape.value_size; ++x)
        values[i * layout_.value_row + x] = static_cast<float>(position + i);
    }
    const int64_t stay = keep_most_surprising<float, float>(
        layout_, kShape.head_size, {numbers_.data(), tokens_.data()}, held_,
        {keys.data(), 16, values.data(), layout_.value_row, count, position, 1}, surprises.data());
    held_ = std::min(held_ + count, layout_.tokens);
    return stay;
  }

  std::vector<int64_t> positions() const {
    std::vector<int64_t> positions;
    for (int64_t i = 0; i < held_; ++i) {
      positions.push_back(layout_.position(numbers_.data(), i));
      const auto number = static_cast<float>(positions.back());
      for (int64_t x = 0; x < kShape.head_size; ++x) EXPECT_EQ(tokens_[x * layout_.key_row + i], number);
      for (int64_t x = 0; x < kShape.value_size; ++x)
        EXPECT_EQ(tokens_[layout_.values + i * layout_.value_row + x], number);
    }
    return positions;
  }

 private:
  KeptLayout layout_;
  std::vector<float> numbers_, tokens_;
  int64_t held_ = 0;
};

using Positions = std::vector<int64_t>;

TEST(KeptTokens, AreThoseOfLargestSurpriseInPositionOrder) {
  Kept kept(3);
  EXPECT_EQ(kept.offer(8, {1, 5}), 0);
  EXPECT_EQ(kept.positions(), (Positions{8, 9}));
  EXPECT_EQ(kept.offer(16, {2, 0.5f, 9}), 1);
  EXPECT_EQ(kept.positions(), (Positions{9, 16, 18}));
  EXPECT_EQ(kept.offer(24, {1, 1, 1}), 3);
  EXPECT_EQ(kept.positions(), (Positions{9, 16, 18}));
  EXPECT_EQ(kept.offer(32, {10, 11, 12, 13}), 0);
  EXPECT_EQ(kept.positions(), (Positions{33, 34, 35}));
}

TEST(KeptTokens, AreTheOlderOnesOfEqualSurprise) {
  Kept kept(3);
  kept.offer(0, {2, 1, 2, 2, 2});
  EXPECT_EQ(kept.positions(), (Positions{0, 2, 3}));
  EXPECT_EQ(kept.offer(8, {2, 2}), 3);
  EXPECT_EQ(kept.positions(), (Positions{0, 2, 3}));
}

TEST(KeptTokens, ASurpriseThatIsNoNumberIsNone) {
  Kept kept(2);
  kept.offer(0, {NAN, 1, NAN, INFINITY, -1});
  EXPECT_EQ(kept.positions(), (Positions{1, 3}));
}

TEST(KeptTokens, PositionsAreExactInAFloatAndAForeignNumberIsNone) {
  const KeptLayout layout(2, kShape);
  std::vector<float> numbers(static_cast<size_t>(layout.size));
  for (const int64_t position :
       {int64_t{0}, int64_t{16777215}, int64_t{16777217}, int64_t{123456789013}, (int64_t{1} << 48) - 1}) {
    layout.set_position(numbers.data(), 1, position);
    EXPECT_EQ(layout.position(numbers.data(), 1), position);
  }
  for (const float foreign : {NAN, INFINITY, -1.0f, 1e30f}) {
    numbers[static_cast<size_t>(layout.upper)] = foreign;
    EXPECT_EQ(layout.position(numbers.data(), 0), 0);
  }
}

}  // namespace
}  // namespace linnet
