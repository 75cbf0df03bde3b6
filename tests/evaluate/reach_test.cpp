#include "evaluate/reach.h"

#include <gtest/gtest.h>

namespace linnet {
namespace {

/// A reach whose layers lose `losses` nats of 100 tokens.
Reach reach_of(const std::vector<double>& losses) {
  Reach reach;
  reach.whole.nats = 350;
  reach.whole.tokens = 100;
  for (double loss : losses) {
    reach.layers.push_back(reach.whole);
    reach.layers.back().nats += loss;
  }
  return reach;
}

TEST(FarLayers, AreTheFewestThatHoldTheShareOfTheLoss) {
  const Reach reach = reach_of({1, 0, -2, 0, 3, 0, 6});  // a gain is noise, and counts as none
  EXPECT_EQ(far_layers(reach, 0.6), std::vector<int>({6}));
  EXPECT_EQ(far_layers(reach, 0.75), std::vector<int>({4, 6}));
  EXPECT_EQ(far_layers(reach, 1.0), std::vector<int>({0, 4, 6}));
}

TEST(FarLayers, AreNoneWhereNothingIsLost) { EXPECT_TRUE(far_layers(reach_of({0, -1}), 0.75).empty()); }

}  // namespace
}  // namespace linnet
