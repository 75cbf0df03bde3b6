#include "base/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace linnet {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Scatter, GivesANameOneColourInPicturesBesideEachOther) {
  const Scatter both{.title = "both",
                     .series = {{.name = "a", .points = {{1, 1}}}, {.name = "b", .points = {{2, 2}}}},
                     .names = {"a", "b"}};
  const Scatter one{.title = "one", .series = {{.name = "b", .points = {{2, 3}}}}, .names = {"a", "b"}};
  const auto colour_of = [](const std::string& picture) {
    const size_t at = picture.rfind("<circle", picture.find(">b</text>"));
    return picture.substr(picture.find("fill=", at), 14);
  };
  EXPECT_EQ(colour_of(scatter_svg(both)), colour_of(scatter_svg(one)));
  EXPECT_THAT(scatter_svg(one), Not(HasSubstr(">a</text>")));  // nothing of it is there
}

TEST(Scatter, TellsTicksApartHoweverCloseTheyAre) {
  const Scatter close{.series = {{.name = "a", .points = {{0, 1.72801}, {1, 1.72809}}}}};
  const std::string picture = scatter_svg(close);
  EXPECT_THAT(picture, HasSubstr(">1.72802</text>"));
  EXPECT_THAT(picture, Not(HasSubstr(">1.728</text>")));
}

TEST(Scatter, LeavesOutWhatHasNoPlace) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  const Scatter odd{
      .logarithmic = true,
      .series = {{.name = "a<b", .points = {{0, 1}, {-1, 1}, {kNone, 1}, {1, kNone}, {10, 2}}}}};
  const std::string picture = scatter_svg(odd);
  EXPECT_THAT(picture, HasSubstr("a&lt;b"));
  EXPECT_THAT(picture, Not(HasSubstr("nan")));
  EXPECT_THAT(picture, Not(HasSubstr("inf")));
  EXPECT_THAT(scatter_svg({}), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace linnet
