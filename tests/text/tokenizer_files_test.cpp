// A tokenizer.model heeds the files beside it. The ids and texts are those of transformers 5.24's
// SentencePieceBackend with the same files, but for spaces that end a text, which it takes away.
#include "text/tokenizer_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "tests/format/files.h"
#include "text/tokenizer.h"

namespace linnet {
namespace {

using Ids = std::vector<int32_t>;
using Json = nlohmann::json;
using testing::HasSubstr;

const std::filesystem::path kModel = LINNET_TEST_DATA "/tokenizers/hf/sentencepiece_bpe.model";  // 700 pieces
const std::filesystem::path kUnigram = LINNET_TEST_DATA "/tokenizers/hf/sentencepiece_unigram.model";

Json named() { return {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}}; }

Json flags(const char* content, bool special, bool lstrip = false, bool rstrip = false) {
  return {{"content", content}, {"special", special}, {"lstrip", lstrip}, {"rstrip", rstrip}};
}

struct Beside {
  Json config, special, added;  // null: no such file
};

/// The model in a folder of its own with these files.
Tokenizer load(const Beside& files) {
  const TemporaryFolder folder;
  folder.write("tokenizer.model", MappedFile(kModel).text());
  if (!files.config.is_null()) folder.write("tokenizer_config.json", files.config.dump());
  if (!files.special.is_null()) folder.write("special_tokens_map.json", files.special.dump());
  if (!files.added.is_null()) folder.write("added_tokens.json", files.added.dump());
  return Tokenizer::load(folder.path);
}

TEST(TokenizerFiles, WithoutThemASentencepieceModelFindsNoSpecialTokensInTexts) {
  const Ids ids = load({}).encode("the </s>");
  EXPECT_EQ(std::ranges::count(ids, 2), 0);
}

// What transformers 5.24's T5Tokenizer makes of a folder with this spiece.model (500 pieces).
TEST(TokenizerFiles, OfT5HaveSentinelsBehindTheirPiecesAndSetAnEndToken) {
  const TemporaryFolder folder;
  folder.write("spiece.model", MappedFile(kUnigram).text());
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "T5Tokenizer", "extra_ids": 100})");
  const Tokenizer tokenizer = Tokenizer::load(folder.path);
  EXPECT_EQ(tokenizer.vocabulary(), 600);
  EXPECT_EQ(tokenizer.eos(), 2);
  const struct {
    const char* text;
    Ids ids;
  } rows[] = {{"The river", {9, 34, 2}},
              {"The river turns <extra_id_0> past the mill", {9, 34, 48, 599, 166, 4, 41, 2}},
              {"<extra_id_0>", {599, 2}},
              {"<extra_id_99><extra_id_1>", {500, 598, 2}}};
  for (const auto& row : rows) EXPECT_EQ(tokenizer.encode(row.text, /*special=*/true), row.ids) << row.text;
  EXPECT_EQ(tokenizer.framed(Ids{9, 34}, Ids{48}).tokens, (Ids{9, 34, 2, 48, 2}));
  EXPECT_EQ(tokenizer.decode(rows[1].ids), "The river turns past the mill");
  // Another class has none, and another number others.
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "T5Tokenizer", "extra_ids": 2})");
  EXPECT_EQ(Tokenizer::load(folder.path).id_of("<extra_id_0>"), 501);
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  EXPECT_EQ(Tokenizer::load(folder.path).id_of("<extra_id_0>"), std::nullopt);
}

TEST(TokenizerFiles, NameTheTokensOfASentencepieceModel) {
  Json decoder = named();
  decoder["pad_token"] = "<|end|>";
  decoder["additional_special_tokens"] = {"<new>"};  // 703 names so far: ids count names, not holes
  decoder["added_tokens_decoder"] = {{"1", flags("<s>", true)},
                                     {"700", flags("<|end|>", true, false, true)},
                                     {"705", flags("<|x|>", false, true)},
                                     {"5", flags("<|q|>", false)}};
  const struct {
    const char* what;
    Beside files;
    const char* text;
    Ids ids;
    const char *decoded, *all;
    int32_t vocabulary, eos;
  } rows[] = {
      {"names in the vocabulary",
       {named(), {}, {}},
       "the river </s> a",
       {261, 338, 644, 2, 644, 290},
       "the river   a",
       "the river </s>  a",
       700,
       2},
      {"ids in added_tokens.json",
       {named(), {}, {{"<|end|>", 700}, {"<|x|>", 702}}},
       "the <|end|> a <|x|>",
       {261, 644, 700, 644, 290, 644, 702},
       "the <|end|>  a <|x|>",
       "the <|end|>  a <|x|>",
       703,
       2},
      {"special tokens without ids",
       {named(), {{"additional_special_tokens", {"<|end|>"}}, {"pad_token", "<pad>"}}, {}},
       "the <|end|><pad> a",
       {261, 644, 701, 700, 644, 290},
       "the   a",
       "the <|end|><pad>  a",
       702,
       2},
      {"the map before the configuration",
       {named(),
        {{"additional_special_tokens", {"<|x|>"}}, {"eos_token", "<|end|>"}},
        {{"<|end|>", 701}, {"<|x|>", 700}}},
       "a <|x|> b <|end|>",
       {290, 644, 700, 644, 270, 644, 701},
       "a   b ",
       "a <|x|>  b <|end|>",
       702,
       701},
      {"added_tokens_decoder before the others",
       {decoder, {{"additional_special_tokens", {"<never>"}}}, {{"never", 900}}},
       "the river <|end|> a  <|x|>  b <|q|> </s> <new>",
       {261, 338, 644, 700, 290, 705, 421, 270, 644, 5, 421, 2, 421, 702},
       "the river  a<|x|>   b <|q|>    ",
       "the river <|end|> a<|x|>   b <|q|>  </s>  <new>",
       706,
       2},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.what);
    const Tokenizer tokenizer = load(row.files);
    const Ids ids = tokenizer.encode(row.text);
    EXPECT_EQ(ids, row.ids);
    EXPECT_EQ(tokenizer.decode(ids), row.decoded);
    EXPECT_EQ(tokenizer.decode(ids, false), row.all);
    EXPECT_EQ(tokenizer.vocabulary(), row.vocabulary);
    EXPECT_EQ(tokenizer.eos(), row.eos);
  }
}

TEST(TokenizerFiles, LegacyFalsePutsOneSpaceBeforeATextAndNoneBehindItsTokens) {
  // The ids of transformers 5.24's LlamaTokenizer.
  const struct {
    const char* text;
    Ids ids;
  } rows[] = {{"the river", {261, 338}},
              {"<s>the", {1, 646, 259}},
              {" the", {261}},
              {"  the", {644, 261}},
              {"▁the", {261}},
              {"<s> the", {1, 261}},
              {"a<s>the<s> b", {290, 1, 646, 259, 1, 270}},
              {"the <s>the", {261, 644, 1, 646, 259}}};
  Json config = {{"legacy", false}, {"added_tokens_decoder", {{"1", flags("<s>", true)}}}};
  const Tokenizer tokenizer = load({config, {}, {}});
  for (const auto& row : rows) EXPECT_EQ(tokenizer.encode(row.text), row.ids) << row.text;
  config["add_prefix_space"] = false;
  EXPECT_EQ(load({config, {}, {}}).encode("the"), (Ids{646, 259}));
}

TEST(TokenizerFiles, AnotherNamedBosBeginsTheTextsOfASentencepieceModel) {
  // Not the reference's, which adds no BOS by itself: LLaMA's rule.
  const Tokenizer tokenizer = load({{{"bos_token", "<|go|>"}}, {}, {{"<|go|>", 700}}});
  EXPECT_EQ(tokenizer.bos(), 700);
  EXPECT_EQ(tokenizer.encode("the", true), (Ids{700, 261}));
}

TEST(TokenizerFiles, ThatAreWrongAreErrorsThatNameThePlace) {
  const auto decoder = [](Json entries) -> Beside {
    return {{{"added_tokens_decoder", std::move(entries)}}, {}, {}};
  };
  const struct {
    Beside files;
    const char* expected;
  } rows[] = {
      {{Json::array(), {}, {}}, "tokenizer_config.json: not an object, expected an object"},
      {{{}, "x", {}}, "special_tokens_map.json: not an object"},
      {{{}, {}, Json::array({"x"})}, "added_tokens.json: not an object"},
      {{{}, {}, {{"<x>", "700"}}}, "added_tokens.json: token \"<x>\" without an integer id"},
      {{{}, {}, {{"<x>", -1}}}, "token \"<x>\" has id -1"},
      {{{}, {}, {{"<x>", 1'000'000'000}}}, "token \"<x>\" has id 1000000000"},
      {{{}, {}, {{"<x>", 700}, {"<y>", 700}}}, "added token \"<y>\" (id 700) against \"<x>\""},
      {{{}, {}, {{std::string(100'000, 'x'), 700}}}, "a token of 100000 bytes"},
      {{{{"pad_token", "<p>"}}, {}, {{"<a>", 701}}}, "added token \"<p>\" (id 701) against \"<a>\""},
      {decoder(Json::array()), "added_tokens_decoder: not an object"},
      {decoder({{"seven", flags("<x>", true)}}), "added_tokens_decoder: id \"seven\", expected 0 to"},
      {decoder({{"7x", flags("<x>", true)}}), "id \"7x\""},
      {decoder({{"-7", flags("<x>", true)}}), "id \"-7\""},
      {decoder({{"99999999999", flags("<x>", true)}}), "id \"99999999999\""},
      {decoder({{"700", "<x>"}}), "added_tokens_decoder.700: \"<x>\", expected an object"},
      {decoder({{"700", Json::object()}}), "added_tokens_decoder.700.content: missing"},
      {decoder({{"700", {{"content", "<x>"}, {"lstrip", 1}}}}), "lstrip: 1, expected true or false"},
      {decoder({{"700", flags("<x>", true)}, {"0700", flags("<y>", true)}}), "id 700) against \"<y>\""},
      {decoder({{"700", flags("<x>", true)}, {"701", flags("<x>", true)}}), "(id 701) against \"<x>\""},
      {{{{"pad_token", 7}}, {}, {}}, "pad_token: 7, expected a string"},
      {{{}, {{"additional_special_tokens", "<x>"}}, {}},
       "additional_special_tokens: \"<x>\", expected an array"},
      {{{}, {{"additional_special_tokens", {7}}}, {}}, "additional_special_tokens[0]: 7, expected a string"},
  };
  for (const auto& row : rows) {
    try {
      load(row.files);
      ADD_FAILURE() << row.expected;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(row.expected));
    }
  }
}

}  // namespace
}  // namespace linnet
