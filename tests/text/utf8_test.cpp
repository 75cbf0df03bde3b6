#include "text/utf8.h"

#include <gtest/gtest.h>

namespace linnet {
namespace {

struct Case {
  const char* name;
  std::string text, valid;
};

// The examples of Unicode 14, section 3.9, tables 3-8 to 3-11, and the ends of each range.
const Case kInvalid[] = {
    {"a lone byte that follows",
     "\x80"
     "a",
     "\uFFFD"
     "a"},
    {"an overlong slash", "\xC0\xAF", "\uFFFD\uFFFD"},
    {"overlong of three", "\xE0\x80\xBF", "\uFFFD\uFFFD\uFFFD"},
    {"overlong of four", "\xF0\x81\x82\x41", "\uFFFD\uFFFD\uFFFD\x41"},
    {"a surrogate", "\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
    {"past U+10FFFF", "\xF4\x91\x92\x93", "\uFFFD\uFFFD\uFFFD\uFFFD"},
    {"no lead byte", "\xFF\x41", "\uFFFD\x41"},
    {"cut short of four", "\xF1\x80\x80\x41", "\uFFFD\x41"},
    {"cut short at the end", "a\xE2\x82", "a\uFFFD"},
    {"two cut short", "\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "\uFFFD\uFFFD\uFFFD\uFFFD\x41"},
    {"replacement characters stay", "\uFFFD\xEF\xBF", "\uFFFD\uFFFD"},
};

TEST(Utf8, EachMaximalInvalidPartBecomesOneReplacementCharacter) {
  for (const Case& c : kInvalid) {
    EXPECT_EQ(valid_utf8(c.text), c.valid) << c.name;
    EXPECT_FALSE(is_valid_utf8(c.text)) << c.name;
  }
}

TEST(Utf8, WhatNothingCanCompleteIsNotUnfinished) {
  for (const std::string text : {"\xC1", "\xE0\x80", "\xED\xA0", "\xF0\x8F", "\xF4\x90", "\xE1\x80\xC0"}) {
    EXPECT_EQ(unfinished_bytes(text), 0u) << testing::PrintToString(text);
  }
}

TEST(Utf8, EveryCodePointSurvivesARoundTrip) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    size_t at = 0;
    ASSERT_EQ(next_code_point(text, at), c);
    ASSERT_EQ(at, text.size());
    ASSERT_TRUE(is_valid_utf8(text)) << uint32_t{c};
    for (size_t cut = 1; cut < text.size(); ++cut) ASSERT_EQ(unfinished_bytes(text.substr(0, cut)), cut);
    ASSERT_EQ(unfinished_bytes(text), 0u);
  }
}

}  // namespace
}  // namespace linnet
