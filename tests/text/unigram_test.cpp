#include <gtest/gtest.h>

#include "text/tokenizer.h"

namespace linnet {
namespace {

// What is expected is what Hugging Face's tokenizers 0.22.2 give.
TEST(Unigram, TakesTheBestPathAndItsUnknownCharactersTogether) {
  const char* bytes = R"([["<unk>", 0], ["<0xC3>", -9], ["<0xA9>", -9], ["a", -1]], "byte_fallback": true)";
  const struct {
    const char *vocabulary, *text;
    std::vector<int32_t> ids;
  } rows[] = {
      // An unknown character costs 10 more than the worst token, which another path would be worth.
      {R"([["<unk>", 0], ["ab", -5], ["c", -5], ["bc", -1]])", "abc", {1, 2}},
      // A longer token that begins with it does not make a character known.
      {R"([["<unk>", 0], ["ab", -2], ["bc", -1]])", "abc", {0, 2}},
      // Unknown characters that together are a token are that token, even where the path took none.
      {R"([["<unk>", 100], ["xy", 100]])", "xy", {1}},
      {R"([["<unk>", 100], ["xy", 100]])", "axy", {0}},
      // Bytes stand in for what is unknown if all of them are tokens and it is no token itself.
      {bytes, "aéa", {3, 1, 2, 3}},
      {bytes, "aß", {3, 0}},
      {bytes, "<unk>", {0}},
  };
  for (const auto& row : rows) {
    const std::string json =
        std::string(R"({"model": {"type": "Unigram", "unk_id": 0, "vocab": )") + row.vocabulary + "}}";
    EXPECT_EQ(Tokenizer::from_json(json, "t").encode(row.text), row.ids) << row.vocabulary << row.text;
  }
}

TEST(Unigram, GivesTheIdsOfTheReferenceWhereScoresAreEqualButForRounding) {
  // The reference's reader of JSON does not round every score to the nearest double.
  const auto tokenizer = Tokenizer::load(LINNET_TEST_DATA "/tokenizers/hf/unigram_t5.json");
  EXPECT_EQ(tokenizer.encode("\uFB62222"), (std::vector<int32_t>{3, 2, 80, 533}));
}

TEST(Unigram, NormalizesByGraphemesOfTheReferencesUnicode) {
  // A mark of Unicode 17 makes a grapheme of six bytes, which is taken character by character.
  const auto tokenizer = Tokenizer::load(LINNET_TEST_DATA "/tokenizers/hf/unigram_t5.json");
  EXPECT_EQ(tokenizer.encode("e\u0301\u1AD8"), (std::vector<int32_t>{3, 5, 2}));
  // What joins the character after it there alone, and here alone.
  EXPECT_EQ(tokenizer.encode("\U000113D1e\u0301"), (std::vector<int32_t>{3, 2, 5, 2}));
  EXPECT_EQ(tokenizer.encode("\U00011A3Ae\u0301"), (std::vector<int32_t>{3, 2, 112}));
}

}  // namespace
}  // namespace linnet
