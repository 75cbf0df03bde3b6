// What a tokenizer's parts make together; ids as Hugging Face's tokenizers 0.22.2 give them.
#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "tests/format/files.h"

namespace linnet {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

TEST(AddedTokens, TakeTheSpaceBesideThemAndAreFoundInIt) {
  const auto tokenizer = Tokenizer::from_json(R"({
      "added_tokens": [{"id": 3, "content": "[R]", "rstrip": true}, {"id": 4, "content": "[L]", "lstrip": true},
                       {"id": 5, "content": "\n"}],
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, " ": 2}, "merges": []}})",
                                              "t");
  const struct {
    const char* text;
    Ids ids;
  } rows[] = {
      {"a [R] [L] b", {0, 2, 3, 4, 2, 1}}, {"[L] [R]", {4, 2, 3}},
      {"a \n [L]a", {0, 2, 5, 4, 0}},      {"[R]\n\n", {3, 5, 5}},
      {"[R] \n b", {3, 5, 2, 1}},          {"[R]\n [L]", {3, 5, 4}},
  };
  for (const auto& row : rows) EXPECT_EQ(tokenizer.encode(row.text), row.ids) << row.text;
}

TEST(Tokenizer, EncodesTheEndOfATextAsItStandsInTheWhole) {
  const auto tokenizer = Tokenizer::from_json(R"({
      "added_tokens": [{"id": 3, "content": "[R]", "rstrip": true}, {"id": 4, "content": "[L]", "lstrip": true},
                       {"id": 5, "content": "<s>", "normalized": false}],
      "normalizer": {"type": "Lowercase"},
      "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"},
      "model": {"type": "BPE", "vocab": {"a": 0, "▁": 1, "▁a": 2, "[": 6, "r": 7}, "merges": [["▁", "a"]]}})",
                                              "t");
  for (const char* text :
       {"", "a", "<s>", "a A<s>Aa <s>", "<s>a a", "[R] a [L]aa<s> [R]<s>", "\xFF<s>a\xFF a"}) {
    const Ids whole = tokenizer.encode(text);
    for (size_t count = 0; count <= whole.size() + 1; ++count) {
      const auto last = static_cast<ptrdiff_t>(std::min(count, whole.size()));
      EXPECT_EQ(tokenizer.encode_end(text, count), Ids(whole.end() - last, whole.end())) << text << count;
    }
  }
}

TEST(Metaspace, OfSchemeFirstMarksOnlyWhatBeginsTheText) {
  Json json = Json::parse(R"({
      "added_tokens": [{"id": 3, "content": "<s>", "normalized": false}, {"id": 4, "content": "[N]"}],
      "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"},
      "model": {"type": "BPE", "vocab": {"a": 0, "▁": 1, "▁a": 2}, "merges": [["▁", "a"]]}})");
  const struct {
    const char* text;
    Ids alone, behind_split;  // the step alone, and behind one that takes white space away
  } rows[] = {
      {"a", {2}, {2}},
      {"<s>a", {3, 0}, {3, 0}},
      {"[N]a", {4, 0}, {4, 0}},
      {"a<s>a", {2, 3, 0}, {2, 3, 0}},
      {"a[N]a", {2, 4, 0}, {2, 4, 0}},
      {" a", {2}, {0}},
      {"a a", {2, 2}, {2, 0}},
  };
  const Tokenizer alone = Tokenizer::from_json(json.dump(), "t");
  const Json steps = {{{"type", "WhitespaceSplit"}}, json["pre_tokenizer"]};
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  const Tokenizer behind_split = Tokenizer::from_json(json.dump(), "t");
  for (const auto& row : rows) {
    EXPECT_EQ(alone.encode(row.text), row.alone) << row.text;
    EXPECT_EQ(behind_split.encode(row.text), row.behind_split) << row.text;
  }
}

TEST(TokenizerConfig, SaysWhetherATextGetsBosAndEos) {
  const TemporaryFolder folder;
  const Json name_both = {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}};
  const auto bos = R"({"SpecialToken": {"id": "<s>"}})", eos = R"({"SpecialToken": {"id": "</s>"}})";
  const struct {
    bool bos_there, eos_there;  // in the post-processor
    Json wanted;                // add_bos_token and add_eos_token
    Ids ids;
  } rows[] = {
      {false, false, {}, {0}},
      {false, false, {true, true}, {1, 0, 2}},
      {false, false, {true, false}, {1, 0}},
      {true, true, {}, {1, 0, 2}},
      {true, true, {true, true}, {1, 0, 2}},
      {true, true, {false, true}, {0, 2}},
      {true, true, {true, false}, {1, 0}},
      {true, false, {false, false}, {0}},
  };
  for (const auto& row : rows) {
    Json single = {{{"Sequence", {{"id", "A"}}}}}, config = name_both;
    if (row.bos_there) single.insert(single.begin(), Json::parse(bos));
    if (row.eos_there) single.push_back(Json::parse(eos));
    if (!row.wanted.is_null())
      config["add_bos_token"] = row.wanted[0], config["add_eos_token"] = row.wanted[1];
    Json json = Json::parse(R"({
        "added_tokens": [{"id": 1, "content": "<s>"}, {"id": 2, "content": "</s>"}],
        "post_processor": {"type": "TemplateProcessing",
                           "special_tokens": {"<s>": {"ids": [1]}, "</s>": {"ids": [2]}}},
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})");
    json["post_processor"]["single"] = single;
    folder.write("tokenizer.json", json.dump());
    folder.write("tokenizer_config.json", config.dump());
    EXPECT_EQ(Tokenizer::load(folder.path).encode("a", true), row.ids) << single << config;
  }
  folder.write("tokenizer_config.json", R"({"add_bos_token": true})");
  try {
    Tokenizer::load(folder.path);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("add_bos_token: true without such a token in the vocabulary"));
  }
}

// Of "2 3" and "4", as tokenizers 0.23 has them.
TEST(Tokenizer, PutsSpecialTokensAroundAPairAsItsKindDoes) {
  using Ids = std::vector<int32_t>;
  const struct {
    const char* step;
    Ids ids, types;
  } rows[] = {
      {R"({"type": "BertProcessing", "cls": ["c", 0], "sep": ["s", 1]})",
       {0, 2, 3, 1, 4, 1},
       {0, 0, 0, 0, 1, 1}},
      {R"({"type": "RobertaProcessing", "cls": ["c", 0], "sep": ["s", 1]})",
       {0, 2, 3, 1, 1, 4, 1},
       {0, 0, 0, 0, 0, 0, 0}},
      {R"({"type": "ByteLevel"})", {2, 3, 4}, {0, 0, 1}},
      {R"({"type": "TemplateProcessing", "special_tokens": {"<s>": {"ids": [5]}},
           "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
           "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]})",
       {5, 2, 3, 5, 4},
       {0, 0, 0, 1, 1}},
      // Without a pair of its own each text stands as it stands alone.
      {R"({"type": "TemplateProcessing", "special_tokens": {"<s>": {"ids": [5]}},
           "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})",
       {5, 2, 3, 5, 4},
       {0, 0, 0, 1, 1}},
  };
  for (const auto& row : rows) {
    nlohmann::json json = nlohmann::json::parse(R"({"model": {"type": "BPE", "merges": [], "vocab":
        {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5}}, "added_tokens": []})");
    json["post_processor"] = nlohmann::json::parse(row.step);
    const auto pair = Tokenizer::from_json(json.dump(), "t").framed(Ids{2, 3}, Ids{4});
    EXPECT_EQ(pair.tokens, row.ids) << row.step;
    EXPECT_EQ(pair.types, row.types) << row.step;
  }
}

}  // namespace
}  // namespace linnet
