#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

namespace linnet {
namespace {

Tokenizer with_unknown(bool fused) {
  return Tokenizer::from_json(
      fmt::format(R"({{"decoder": {{"type": "ByteFallback"}}, "model": {{"type": "BPE", "unk_token": "<unk>",
                   "fuse_unk": {}, "merges": [],
                   "vocab": {{"<unk>": 0, "a": 1, "b": 2, "<0xc3>": 3, "<0xA9>": 4}}}}}})",
                  fused),
      "bpe");
}

// Also in pieces so long that they are cut where no token can join characters: unknown runs still do.
TEST(Bpe, UnknownCharactersAreOneTokenOnlyWhereTheyFuse) {
  for (size_t length : {2, 500}) {
    for (const char* unknown : {"x", "\u00DF"}) {
      std::string text = "a";
      for (size_t i = 0; i < length; ++i) text += unknown;
      text += 'b';
      EXPECT_EQ(with_unknown(true).encode(text), (std::vector<int32_t>{1, 0, 2})) << length << unknown;
      std::vector<int32_t> each(length + 2, 0);
      each.front() = 1, each.back() = 2;
      EXPECT_EQ(with_unknown(false).encode(text), each) << length << unknown;
    }
  }
}

// Whatever the length: a long piece is cut only where no merge can cross, which bytes do not show.
TEST(Bpe, MergesJoinTheBytesOfACharacterWithItsNeighbours) {
  nlohmann::json model = {{"type", "BPE"}, {"byte_fallback", true}};
  for (int byte = 0; byte < 256; ++byte) model["vocab"][fmt::format("<0x{:02X}>", byte)] = byte;
  model["vocab"].update({{"a", 256}, {"<0xA9>a", 257}, {"a<0xC3>", 258}});
  const struct {
    std::vector<std::string> merge;
    const char* text;
    std::vector<int32_t> ids;
  } rows[] = {
      {{"<0xA9>", "a"}, "\u00E9a", {0xC3, 257}},
      {{"a", "<0xC3>"}, "a\u00E9", {258, 0xA9}},
  };
  for (const auto& row : rows) {
    model["merges"] = nlohmann::json::array({row.merge});
    const Tokenizer tokenizer = Tokenizer::from_json(nlohmann::json{{"model", model}}.dump(), "bpe");
    std::string text;
    std::vector<int32_t> ids;
    for (int i = 0; i < 10; ++i) {
      text += row.text;
      ids.insert(ids.end(), row.ids.begin(), row.ids.end());
      EXPECT_EQ(tokenizer.encode(text), ids) << text;
    }
  }
}

TEST(Bpe, AMergeTakesThePrefixOfItsSecondPart) {
  const auto tokenizer = Tokenizer::from_json(R"({"model": {"type": "BPE", "continuing_subword_prefix": "##",
      "vocab": {"a": 0, "##b": 1, "##c": 2, "##bc": 3, "abc": 4}, "merges": [["##b", "##c"], ["a", "##bc"]]}})",
                                              "bpe");
  EXPECT_EQ(tokenizer.encode("abc"), std::vector<int32_t>{4});
}

TEST(Bpe, ByteTokensAreReadInEitherCase) {
  const int32_t ids[] = {3, 4};
  EXPECT_EQ(with_unknown(true).decode(ids), "\u00E9");
}

}  // namespace
}  // namespace linnet
