#include "generate/stop_strings.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"

namespace linnet {
namespace {

struct Outcome {
  std::string text;
  bool found = false;
  bool operator==(const Outcome&) const = default;
};

/// The rule itself: the match that ends first, of those the longest.
Outcome reference(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const auto& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

TEST(StopStrings, CutTheSameTextHoweverItArrives) {
  const std::vector<std::vector<std::string>> tables = {{"aab"},       {"ab", "bb"},  {"abab", "ba"},
                                                        {"b", "abba"}, {"aaaa"},      {"abc"},
                                                        {"b", "ab"},   {"bab", "ab"}, {}};
  for (const auto& stops : tables) {
    for (uint64_t seed = 0; seed < 300; ++seed) {
      std::string text;
      for (uint64_t i = 0; i < 12; ++i) text += static_cast<char>('a' + uniform_integer(seed, 0, i, 2));
      StopStrings filter(stops);
      std::string shown;
      for (size_t at = 0; at < text.size();) {
        const size_t length = 1 + uniform_integer(seed, 1, at, 4);
        shown += filter.push(std::string_view(text).substr(at, length));
        at += length;
      }
      shown += filter.finish();
      EXPECT_EQ((Outcome{shown, filter.found()}), reference(text, stops)) << text << " seed " << seed;
    }
  }
}

TEST(StopStrings, HoldBackOnlyWhatMayBeginOne) {
  StopStrings filter({"\n\nUser:"});
  EXPECT_EQ(filter.push("Hello.\n"), "Hello.");
  EXPECT_EQ(filter.push("\nUs"), "");
  EXPECT_EQ(filter.push("ual"), "\n\nUsual");
  EXPECT_EQ(filter.push("\n\nUser: more"), "");
  EXPECT_TRUE(filter.found());
  EXPECT_EQ(filter.push("after"), "");
  EXPECT_EQ(filter.finish(), "");
}

TEST(StopStrings, RefuseAnEmptyString) { EXPECT_THROW(StopStrings({"a", ""}), Error); }

}  // namespace
}  // namespace linnet
