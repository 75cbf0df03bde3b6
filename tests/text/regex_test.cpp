// Patterns mean what they mean to Oniguruma as Hugging Face's tokenizers 0.23.3 use it: every named set over
// all of Unicode (scripts/golden/make_unicode.py), and how patterns are read, a row each.
#include "text/regex.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "text/code_points.h"
#include "text/corpus.h"
#include "text/unicode_sets.h"
#include "text/utf8.h"

namespace linnet {
namespace {

struct Named {
  std::string name;
  CodePointSet set;
};

/// What the library answered: by name, the runs of code points.
std::vector<Named> reference_sets() {
  std::vector<Named> sets;
  for_each_line(LINNET_TEST_DATA "/tokenizers/onig_classes.txt.xz", [&](std::string_view line, size_t) {
    if (line.starts_with('#')) return true;
    const size_t space = line.rfind(' ');
    std::vector<CodePointRange> ranges;
    const std::string list(line.substr(space + 1));
    for (const char* at = list.c_str(); *at != '\0';) {
      char* end = nullptr;
      const auto first = static_cast<char32_t>(std::strtoul(at, &end, 16));
      const auto last = *end == '-' ? static_cast<char32_t>(std::strtoul(end + 1, &end, 16)) : first;
      ranges.push_back({first, last});
      at = *end == ',' ? end + 1 : end;
    }
    sets.push_back({std::string(line.substr(0, space)), CodePointSet(std::move(ranges))});
    return true;
  });
  return sets;
}

bool surrogate(char32_t c) { return c >= 0xD800 && c <= 0xDFFF; }

/// The two sets without surrogates, which no text holds.
CodePointSet in_texts(const CodePointSet& set) { return set & CodePointSet({{0xD800, 0xDFFF}}).complement(); }

TEST(NamedSet, IsOnigurumasForEveryNameAndCodePoint) {
  const auto sets = reference_sets();
  EXPECT_EQ(sets.size(), 903u);
  for (const Named& row : sets) {
    const auto ours = named_set(row.name);
    ASSERT_TRUE(ours) << row.name;
    EXPECT_EQ(in_texts(*ours), in_texts(row.set)) << row.name;
  }
  EXPECT_FALSE(named_set("klingon"));
}

/// The code points of all of Unicode that `pattern` matches.
CodePointSet matched(const std::string& pattern) {
  static const std::string kAll = [] {
    std::string all;
    for (char32_t c = 0; c <= kLastCodePoint; ++c) {
      if (!surrogate(c)) append_utf8(all, c);
    }
    return all;
  }();
  std::vector<CodePointRange> ranges;
  Regex(pattern, "t").for_each_match(kAll, [&](size_t begin, size_t end) {
    const char32_t first = next_code_point(kAll, begin);
    end = end - 1;
    while ((kAll[end] & 0xC0) == 0x80) --end;
    ranges.push_back({first, next_code_point(kAll, end)});
  });
  return CodePointSet(std::move(ranges));
}

TEST(Regex, MatchesOverAllOfUnicodeWhatOnigurumaDoes) {
  for (const Named& row : reference_sets()) {
    // General categories, escapes and brackets, and some scripts and properties: each is compiled alike.
    const bool short_name = row.name.size() <= 2, spelled = row.name[0] == '[' || row.name[0] == '\\';
    const bool picked = row.name == "han" || row.name == "common" || row.name == "emoji" ||
                        row.name == "latin" || row.name == "alphabetic" || row.name == "innoblock";
    if (!short_name && !spelled && !picked) continue;
    const std::string one = row.name[0] == '['    ? "[" + row.name + "]"
                            : row.name[0] == '\\' ? row.name
                                                  : "\\p{" + row.name + "}";
    EXPECT_EQ(in_texts(matched(one + "+")), in_texts(row.set)) << one;
  }
}

TEST(Regex, NegatedClassesAndIntersectionsHoldEveryOtherCodePoint) {
  const auto set = [](const char* name) { return *named_set(name); };
  const struct {
    const char* pattern;
    CodePointSet set;
  } rows[] = {
      {R"([^\s\p{L}\p{N}]+)", (set("\\s") | set("l") | set("n")).complement()},
      {R"([\p{L}&&[^\p{Lu}]]+)", set("l") & set("lu").complement()},
      {R"([^\p{L}&&[^\p{Lu}]]+)", (set("l") & set("lu").complement()).complement()},
      {R"(\W+)", set("\\w").complement()},
      {R"([[:^punct:]&&\P{Han}]+)", set("[:punct:]").complement() & set("han").complement()},
      {R"(\p{^Han}+)", set("han").complement()},
      {R"((?i)\p{Lu}+)", set("lu")},
  };
  for (const auto& row : rows) EXPECT_EQ(in_texts(matched(row.pattern)), in_texts(row.set)) << row.pattern;
}

/// Those that are not empty.
std::string matches_of(const char* pattern, std::string_view text) {
  std::string all;
  Regex(pattern, "t").for_each_match(text, [&](size_t begin, size_t end) {
    all += all.empty() || begin == end ? "" : "|";
    all += text.substr(begin, end - begin);
  });
  return all;
}

TEST(Regex, IsReadAsOnigurumaReadsIt) {
  const struct {
    const char *pattern, *text, *matches;
  } rows[] = {
      {R"((?i)[\p{Lu}])", "aAbBǅ1", "a|A|b|B|ǅ"},
      {R"((?i)[^\p{Lu}])", "aAbB1", "1"},
      {R"((?i)[[^\p{Lu}]])", "aAb1", "a|A|b|1"},
      {R"((?i)\P{Lu})", "aAbB1", "a|b|1"},
      {R"(a(?i)b|c)", "abaBcaC", "ab|aB|aC"},
      {R"(a{,2})", "aaab", "aa|a"},
      {R"(a{2,3}+)", "aaaaaaa", "aaaaaa"},
      {R"(a{2}{2})", "aaaaa", "aaaa"},
      {R"(a**)", "aab", "aa"},
      {R"([a&&])", "ab", ""},
      {R"([^a&&b])", "abc", "a|b|c"},
      {R"([]a])", "]ab", "]|a"},
      {R"([a-c-e]+)", "abcde-", "abc|e-"},
      {R"([\w-]+)", "a-1 ", "a-1"},
      {R"([\w\-_]+)", "a-1 ", "a-1"},
      {R"([a[bc]]+)", "abcd", "abc"},
      {R"([^a[bc]]+)", "abcd", "d"},
      {R"([[a]-z]+)", "a-z", "a-z"},
      {R"([a-[b]]+)", "a-b", "b"},
      {R"([[:^alpha:]]+)", "fo:[", ":["},
      {R"(\v)", "\v\f", "\v"},
      {R"(\h+)", "xaFg", "aF"},
      {R"(\Qa\E)", "QaE", "QaE"},
      {R"(\pL)", "pL", "pL"},
      {R"(\u0041\x42\x{43}\104)", "ABCD", "ABCD"},
      {R"(\xC3\xA9)", "é", "é"},
      {R"((?m).+)", "a\nb", "a\nb"},
      {R"(\N+)", "a\nb", "a|b"},
      {R"(^a$)", "a\na\n", "a|a"},
      {R"(\ba)", "a ba \u00B2a \u0301a", "a"},
      {R"(a\b)", "a ab a\u00B2 a\u0301", "a"},
      {"(?x)a b # c\n", "ab c", "ab"},
      {R"(a{1|})", "a{1}", "a{1|}"},
      {R"(\p{ GREEK }\p{In_Greek-and_coptic})", "αβ", "αβ"},
      {R"((?<x>a)\k<x>)", "aab", "aa"},
      {R"(|a)", "ab", ""},
      {R"((?>.+?)\p{L}{1,3})", "aa> t  h", "aa| t| h"},
      {R"((?>\w|[^a]+|\n{1,3}).+)", "éth\n \n  ", "éth"},
      {R"((?>.+?|x)\p{L})", "<>\u1AEE▁th", "▁t"},
  };
  for (const auto& row : rows) EXPECT_EQ(matches_of(row.pattern, row.text), row.matches) << row.pattern;
}

TEST(Regex, IgnoresTheCaseOfLettersThatFoldToSeveralAsOnigurumaDoes) {
  const struct {
    const char *pattern, *text, *matches;
  } rows[] = {
      {"(?i)ss", "ss SS ß ẞ sS ſs ſſ", "ss|SS|ß|ẞ|sS|ſs|ſſ"},
      {"(?i)ß", "ss SS ß ẞ ſs", "ss|SS|ß|ẞ|ſs"},
      {"(?i)\\u00dfx?", "ss SSx ßX", "ss|SSx|ßX"},
      {"(?i)s\\x73", "ß", "ß"},
      {"(?ix)s s", "ss ß", "ss|ß"},
      {"(?i)s(?#c)s", "ss ß", "ss|ß"},
      {"(?i)s|s", "ß", ""},
      {"(?i)(?:s)s", "ß ss", "ß|ss"},  // parentheses around characters alone do not part them
      {"(?i)t|(?:s)(?:s)", "ß ss", "ß|ss"},
      {"(?i)(?:(?:s))s", "ß", "ß"},
      {"(?i)(?:s(?:s))", "ß", "ß"},
      {"(?i)(?:s(?:s))s", "sß ßs", "ßs"},  // of several parts, and first
      {"(?i)x(?:s(?:s))s", "xßs xsß", "xßs"},
      {"(?i).(?:f(?:f))i", "aﬃ", "aﬃ"},
      {"(?i)(?:f(?:f))i", "aﬃ", ""},
      {"(?ix)(?: s (?#c) ) s", "ß", "ß"},
      {"(?i)(?:s)s*", "ßs ss", "s|ss"},
      {"(?i)(?:ss)+", "ßssx", "ßss"},
      {"(?i)(?:s|t)s", "ß ss", "ss"},
      {"(?i)(?:s+)s", "ß ss", "ss"},
      {"(?i)(s)s", "ß ss", "ss"},
      {"(?i)(?i:s)s", "ß ss", "ss"},
      {"(?i)i", "İ i I", "i|I"},
      {"(?i)i\u0307", "İ i\u0307 I\u0307", "İ|i\u0307|I\u0307"},
      {"(?i)st", "st ﬅ ﬆ ſt", "st|ﬅ|ﬆ|ſt"},
      {"(?i)ﬅ", "ST ﬅ ﬆ", "ST|ﬅ|ﬆ"},
      {"(?i)[ﬅ]", "ST ﬅ ﬆ", "ST|ﬅ|ﬆ"},
      {"(?i)ffi", "ffi ﬃ ﬀi fﬁ FFI", "ffi|ﬃ|FFI"},  // as long a letter as there is
      {"(?i)fffi", "ﬀﬁ fﬃ fffi", "ﬀﬁ|fffi"},
      {"(?i)ﬀi", "ffi ﬃ ﬀi", "ffi|ﬀi"},
      {"(?i)sss", "sß ßs sss", "ßs|sss"},
      {"(?i)ss*", "ßs ss", "s|ss"},  // what is repeated stands alone
      {"(?i)ass?", "aß ass as", "ass|as"},
      {"(?i)a(?-i)ss", "aß Ass", "Ass"},
      {"(?i)(?<=ss)x", "ßx ssx", "x"},  // to look behind, a length must be known
      {"(?i)(?<=[ß])x", "ßx ssx", "x"},
      {"(?i)(?!ss).", "ßa", "a"},
      {"(?i)[ßa]+", "ass SS ß ẞA", "ass|SS|ß|ẞA"},
      {"(?i)[^ß]+", "aßb ẞ", "a|b "},
      {"(?i)[sß]x", "ssx sx ßx", "ssx|sx|ßx"},
      {"(?i)[a[ß]]", "ss ß a", "ss|ß|a"},
      {"(?i)[\\p{Ll}]+", "ss ß", "ss|ß"},
      {"(?i)ΰ", "ΰ \u03B0 \u1FE3", "ΰ|\u03B0|\u1FE3"},
      {"(?i)\u0264", "\uA7CB \u0264", "\uA7CB|\u0264"},  // newer than Unicode 14
      {"(?i)[^\u0264]", "\uA7CB\u0264a", "a"},
  };
  for (const auto& row : rows) EXPECT_EQ(matches_of(row.pattern, row.text), row.matches) << row.pattern;
}

TEST(Regex, RefusesWhatOnigurumaRefuses) {
  for (const char* pattern :
       {"(?s).",     "[]",       "[z-a]", "[\\d-z]",      "[a-\\d]", "*a",        "a|*",   "(*UTF)a",
        "(a",        "a)",       "[a",    "\\p{Klingon}", "\\p{Han", "[[:foo:]]", "\\u12", "\\xe9",
        "\\x{d800}", "(?P<x>a)", "\\8",   "\\",           "(?",      "[\\",       "(?i"}) {
    EXPECT_THROW(Regex(pattern, "t"), Error) << pattern;
  }
  EXPECT_THROW(Regex(std::string(60'000, '('), "t"), Error);
  EXPECT_THROW(Regex(std::string(60'000, '['), "t"), Error);
  std::string nested = "(?i)";
  for (int i = 0; i < 20'000; ++i) nested += "(?:";
  EXPECT_THROW(Regex(nested + "s" + std::string(20'000, ')'), "t"), Error);
}

}  // namespace
}  // namespace linnet
