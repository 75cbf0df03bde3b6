#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace linnet {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_json(text, "file.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Json, RejectsWhatIsNotOneBoundedDocument) {
  const std::pair<std::string, const char*> rows[] = {
      {"", "file.json: empty file"},
      {"\xEF\xBB\xBF{}", "byte-order mark"},
      {"{", "not JSON at byte"},
      {"{} {}", "not JSON at byte"},
      {std::string("{}\0 {}", 6), "not JSON at byte 3: NUL"},
      {"{\"a\": \"\xff\"}", "not JSON at byte"},
      {"{\"a\": 1, \"a\": 2}", "key \"a\" stands twice"},
      {std::string(1000000, '['), "nested too deeply"},
      {"1e400", "1e400, past what a number may be, expected at most 1.8e308"},
  };
  for (const auto& [text, message] : rows) EXPECT_THAT(error_of(text), testing::HasSubstr(message));
}

TEST(Json, HoldsACallersLimits) {
  EXPECT_THROW(parse_json("[1, 2]", "a", {.bytes = 5}), Error);
  EXPECT_EQ(parse_json("[1,2]", "a", {.bytes = 5}).size(), 2u);
  EXPECT_THROW(parse_json("[[[]]]", "a", {.depth = 2}), Error);
  EXPECT_EQ(parse_json("[[]]", "a", {.depth = 2}).size(), 1u);
}

TEST(Json, AllowsAKeyAgainInAnotherObject) {
  EXPECT_EQ(parse_json(R"({"a": {"b": 1}, "c": {"b": 2}})", "file.json")["c"]["b"], 2);
}

}  // namespace
}  // namespace linnet
