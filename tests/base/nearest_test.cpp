#include "base/nearest.h"

#include <gtest/gtest.h>

#include <array>

namespace linnet {
namespace {

constexpr std::array<std::string_view, 3> kNames{"softmax", "grouped", "relu"};

TEST(Nearest, IsTheNameMeantAndNoneOfAllWhereNoneIsNear) {
  EXPECT_EQ(nearest("grouqed", kNames), "grouped");
  EXPECT_EQ(nearest("relu2", kNames), "relu");
  EXPECT_EQ(nearest("hedgehog", kNames), "");
  EXPECT_EQ(nearest("", kNames), "");
  EXPECT_EQ(one_of("sofmax", kNames), "one of softmax, grouped, relu (did you mean softmax?)");
  EXPECT_EQ(one_of("x", kNames), "one of softmax, grouped, relu");
}

TEST(Nearest, CountsNoDashesThatAllOptionsHave) {
  constexpr std::array<std::string_view, 2> kOptions{"--stop", "--threads"};
  EXPECT_EQ(nearest("--json", kOptions), "");
  EXPECT_EQ(nearest("--thread", kOptions), "--threads");
  EXPECT_EQ(nearest("--", kOptions), "");
}

}  // namespace
}  // namespace linnet
