#include <fmt/format.h>
#include <gtest/gtest.h>

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

TEST(Bpe, ByteTokensAreReadInEitherCase) {
  const int32_t ids[] = {3, 4};
  EXPECT_EQ(with_unknown(true).decode(ids), "\u00E9");
}

}  // namespace
}  // namespace linnet
