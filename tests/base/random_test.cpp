#include "base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace linnet {
namespace {

// Known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10).
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x299f31d0a4093822ull, 0x0370734413198a2eull, 0x85a308d3243f6a88ull),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Every initial weight and every draw follows from these: Box and Muller's cosine, Lemire's product.
TEST(Philox, NormalAndIntegerAreTheirDefinitions) {
  EXPECT_NEAR(normal(1, 2, 3), -0.5249057783837429, 1e-14);
  EXPECT_NEAR(normal(7, 0, 5), 1.155300907061564, 1e-14);
  EXPECT_EQ(uniform_integer(9, 8, 7, 1000), 40u);
}

// Philox is a bijection: at this counter all four numbers are 0, and u is the smallest that there is.
TEST(Philox, TheLargestNormalIsFinite) {
  constexpr uint64_t kStream = 0xd45467c7ca90ff34, kPosition = 0x1fbd5b10fd264ead;
  EXPECT_EQ(philox(1, kStream, kPosition), (std::array<uint32_t, 4>{}));
  EXPECT_NEAR(normal(1, kStream, kPosition), std::sqrt(2 * 54 * std::numbers::ln2), 1e-14);
}

TEST(Philox, UniformStaysBelowOne) {
  for (uint64_t i = 0; i < 1000; ++i) {
    const double x = uniform(7, 3, i);
    EXPECT_GE(x, 0.0);
    EXPECT_LT(x, 1.0);
    EXPECT_LT(uniform_integer(7, 3, i, 10), 10u);
  }
}

}  // namespace
}  // namespace linnet
