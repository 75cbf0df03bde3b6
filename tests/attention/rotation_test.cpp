#include "attention/rotation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "attention/attention.h"
#include "base/random.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/rotary.h"

namespace linnet {
namespace {

using kernels::padded;

constexpr int64_t kGroup = 20, kSize = 12;

/// Keys before rotary at consecutive positions, and rotated as a model rotates them, as columns [d, row].
template <class T>
struct Keys {
  int64_t count, row;
  std::vector<T> before, rotated;

  Keys(const Rotation& rotation, int64_t position, int64_t n)
      : count(n), row(padded(n) + kernels::kPad), before(kSize * row), rotated(kSize * row) {
    const auto half = std::ssize(rotation.inverse_frequencies);
    std::vector<T> cosines(half), sines(half), key(kSize), turned(kSize);
    for (int64_t s = 0; s < n; ++s) {
      for (int64_t i = 0; i < kSize; ++i) key[i] = T(normal(1, 2, s * kSize + i));
      kernels::rotary_angles<T>(rotation.inverse_frequencies, rotation.factor, position + s, cosines.data(),
                                sines.data());
      kernels::rotate(key.data(), int64_t{1}, kSize, half, cosines.data(), sines.data(), turned.data());
      for (int64_t i = 0; i < kSize; ++i) before[i * row + s] = key[i], rotated[i * row + s] = turned[i];
    }
  }
};

template <class T>
class KeyRotations : public testing::Test {
 protected:
  static constexpr double kNear = sizeof(T) == 8 ? 1e-10 : 2e-6;  // angles of 10⁵ turns
  /// Plain, of half of a head, and with the factor of a scaling.
  const std::vector<Rotation> rotations_{{{1, 0.3, 0.09, 0.027, 0.008, 0.002}, 9, 1},
                                         {{1, 0.2, 0.01}, 9, 1},
                                         {{1, 0.3, 0.09, 0.027, 0.008, 0.002}, 9, 1.37}};
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(KeyRotations, Types);

TYPED_TEST(KeyRotations, TurnABlocksKeysBackToThoseBeforeRotary) {
  using T = TypeParam;
  for (const Rotation& rotation : this->rotations_) {
    const KeyRotation<T> keys(rotation, kSize, kGroup);
    for (const int64_t position : {int64_t{0}, int64_t{3}, 7 * kGroup, 5000 * kGroup + 11}) {
      const Keys<T> x(rotation, position, kGroup - position % kGroup);
      Scratch& scratch = Scratch::of_thread();
      const Scratch::Scope scope(scratch);
      const auto block =
          keys.before_rotary({x.rotated.data(), x.row, nullptr, 0, x.count, position, T(1)}, scratch);
      EXPECT_EQ(block.count, x.count);
      for (int64_t i = 0; i < kSize; ++i) {
        for (int64_t s = 0; s < x.count; ++s)
          ASSERT_NEAR(block.keys[i * block.key_row + s], x.before[i * x.row + s], this->kNear) << position;
      }
    }
  }
}

TYPED_TEST(KeyRotations, GiveANodeTheBitsThatItHasInABlock) {
  using T = TypeParam;
  for (const Rotation& rotation : this->rotations_) {
    const KeyRotation<T> keys(rotation, kSize, kGroup);
    const int64_t position = 9 * kGroup;
    const Keys<T> x(rotation, position, kGroup);
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const auto block =
        keys.before_rotary({x.rotated.data(), x.row, nullptr, 0, x.count, position, T(1)}, scratch);
    const int64_t places[] = {13, 2, 19, 0, 2}, row = padded(std::ssize(places));
    std::vector<int64_t> positions;
    std::vector<T> nodes(kSize * row);
    for (int64_t s = 0; s < std::ssize(places); ++s) {
      positions.push_back(s == 1 ? -1 : position + places[s]);  // one that nothing sees
      for (int64_t i = 0; i < kSize; ++i) nodes[i * row + s] = x.rotated[i * x.row + places[s]];
    }
    const T* back = keys.before_rotary(std::ssize(places), positions.data(), nodes.data(), row, scratch);
    for (int64_t s = 0; s < std::ssize(places); ++s) {
      for (int64_t i = 0; s != 1 && i < kSize; ++i)
        ASSERT_EQ(back[i * row + s], block.keys[i * block.key_row + places[s]]) << s;
    }
  }
}

TEST(StateLayouts, HoldAKeyOnceWhereItsRotationIsKnownAndTwiceWhereItIsNot) {
  const AttentionShape shape{2, 2, 12, 6};
  const auto numbers = [&](const char* config, const Rotation* rotation) {
    const AttentionConfig parsed = parse_layer_attention(nlohmann::json::parse(config), "test");
    return make_attention<float>(parsed, shape, {}, rotation, "test")->layout().numbers;
  };
  const Rotation turns{{1, 0.3, 0.09}, 9}, stands;
  const char* config = R"({"method": "relu", "group": 8, "local": "softmax", "alpha": 0.5, "local_groups": 3,
                           "feature_position": "none"})";
  const int64_t waiting = 2 * 3 * 8 * 12;  // numbers of the keys that wait
  EXPECT_EQ(numbers(config, nullptr), numbers(config, &turns) + waiting);
  EXPECT_EQ(numbers(config, &stands), numbers(config, &turns)) << "learned positions: keys are one anyway";
  EXPECT_EQ(state_layout(parse_layer_attention(nlohmann::json::parse(config), "test"), shape).numbers,
            numbers(config, &turns))
      << "what inspect says is what a model allocates";
}

}  // namespace
}  // namespace linnet
