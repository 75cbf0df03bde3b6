// Tokenizer files that nobody should have written: each gives its Error, or does what is right all the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "tests/format/files.h"
#include "text/tokenizer.h"

namespace linnet {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

/// A sound tokenizer of five tokens, which each row breaks.
Json sound() {
  return Json::parse(R"({
    "added_tokens": [{"id": 4, "content": "<s>", "special": true}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "aba": 3}, "merges": [["a", "b"], ["ab", "a"]]}})");
}

Json sound_unigram() {
  Json json = sound();
  json["model"] = Json::parse(
      R"({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["a", -1], ["b", -2], ["ab", -2.5]]})");
  return json;
}

/// Breaks it by a charsmap, given in base64.
std::function<void(Json&)> charsmap(const char* blob) {
  return [blob](Json& j) { j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", blob}}; };
}

struct Row {
  const char* name;
  std::function<void(Json&)> breaks;
  const char* expected;  // in the message
  bool unigram = false;
};

const Row kRows[] = {
    {"duplicate id", [](Json& j) { j["model"]["vocab"]["b"] = 0; },
     "id 0 is that of \"a\" and of \"b\", expected one token an id"},
    {"missing id", [](Json& j) { j["model"]["vocab"]["b"] = nullptr; }, "token \"b\" without an integer id"},
    {"negative id", [](Json& j) { j["model"]["vocab"]["b"] = -1; }, "token \"b\" has id -1"},
    {"id 2^31", [](Json& j) { j["model"]["vocab"]["b"] = 2147483648; }, "token \"b\" has id 2147483648"},
    {"id 2^64 - 1", [](Json& j) { j["model"]["vocab"]["b"] = UINT64_MAX; }, "18446744073709551615"},
    {"id 1.5", [](Json& j) { j["model"]["vocab"]["b"] = 1.5; }, "token \"b\" without an integer id"},
    {"vocabulary is a list", [](Json& j) { j["model"]["vocab"] = Json::array({"a"}); },
     "model.vocab: not an object"},
    {"no vocabulary", [](Json& j) { j["model"].erase("vocab"); }, "model.vocab: missing"},
    {"empty vocabulary", [](Json& j) { j["model"]["vocab"] = Json::object(), j["added_tokens"] = nullptr; },
     "an empty vocabulary"},
    {"merge of an unknown piece",
     [](Json& j) {
       j["model"]["merges"][0] = {"a", "z"};
     },
     "merges[0]: token \"z\" is not in the vocabulary"},
    {"merge into an unknown piece",
     [](Json& j) {
       j["model"]["merges"][0] = {"b", "b"};
     },
     "merges[0]: token \"bb\" is not in the vocabulary"},
    {"merge of one", [](Json& j) { j["model"]["merges"][0] = Json::array({"a"}); }, "merges[0]: 1 parts"},
    {"merge in words of three", [](Json& j) { j["model"]["merges"][0] = "a b c"; },
     "expected two tokens with a space between them"},
    {"merge of numbers",
     [](Json& j) {
       j["model"]["merges"][0] = {1, 2};
     },
     "merges[0]: not two strings"},
    {"a piece of 100 KB", [](Json& j) { j["model"]["vocab"][std::string(100'000, 'x')] = 5; },
     "a token of 100000 bytes"},
    {"unknown unk", [](Json& j) { j["model"]["unk_token"] = "<unk>"; },
     "unk_token \"<unk>\" is not in the vocabulary"},
    {"added token twice", [](Json& j) { j["added_tokens"][1] = j["added_tokens"][0]; },
     "added token \"<s>\" (id 4) stands twice"},
    {"added token with another's id", [](Json& j) { j["added_tokens"][0]["id"] = 1; },
     "added token \"<s>\" has the id 1 of \"b\""},
    {"added token against the vocabulary", [](Json& j) { j["added_tokens"][0]["content"] = "a"; },
     "has id 4, expected 0"},
    {"added token without id", [](Json& j) { j["added_tokens"][0].erase("id"); },
     "token \"<s>\" without an integer id"},
    {"added token of negative id", [](Json& j) { j["added_tokens"][0]["id"] = -4; },
     "token \"<s>\" has id -4"},
    {"added token of id 10^9", [](Json& j) { j["added_tokens"][0]["id"] = 1'000'000'000; },
     "has id 1000000000"},
    {"added token of 100 KB", [](Json& j) { j["added_tokens"][0]["content"] = std::string(100'000, 'x'); },
     "a token of 100000 bytes"},
    {"unknown model", [](Json& j) { j["model"]["type"] = "WordLevel"; },
     "model \"WordLevel\", expected BPE, Unigram or WordPiece"},
    {"no model", [](Json& j) { j.erase("model"); }, "model: missing"},
    {"unknown normalizer",
     [](Json& j) {
       j["normalizer"] = {{"type", "Rot13"}};
     },
     "normalizer \"Rot13\""},
    {"unknown pre-tokenizer",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Scissors"}};
     },
     "pre-tokenizer \"Scissors\""},
    {"unknown post-processor",
     [](Json& j) {
       j["post_processor"] = {{"type", "Ribbon"}};
     },
     "post-processor \"Ribbon\""},
    {"unknown decoder",
     [](Json& j) {
       j["decoder"] = {{"type", "Enigma"}};
     },
     "decoder \"Enigma\""},
    {"pattern that does not compile",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}};
     },
     "does not compile"},
    {"unknown behavior",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Eaten"}};
     },
     "behavior \"Eaten\""},
    {"metaspace of two characters",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "__"}};
     },
     "not one character"},
    {"template without a sequence",
     [](Json& j) {
       j["post_processor"] = {
           {"type", "TemplateProcessing"}, {"single", Json::array()}, {"special_tokens", Json::object()}};
     },
     "0 sequences, expected one"},
    {"template with an id out of range",
     [](Json& j) {
       j["post_processor"] = Json::parse(
           R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"x": {"ids": [99]}}})");
     },
     "id 99, expected 0 to 4"},
    {"charsmap that is no base64", charsmap("!!"), "not base64"},
    {"charsmap with a lying size", charsmap("/////w=="), "sizes do not fit"},
    {"charsmap that leads out of itself", charsmap("BAAAAAD//38A"), "leads out of it"},
    {"charsmap with children out of it", charsmap("BAAAAAAAAAAA"),
     "unit 0 of the precompiled map leads out of it"},
    {"charsmap whose root is a value", charsmap("BAAAAAAAAIAA"),
     "unit 0 of the precompiled map leads out of it"},
    {"unigram token twice", [](Json& j) { j["model"]["vocab"][2][0] = "a"; }, "token \"a\" stands twice",
     true},
    {"unigram score that is a word", [](Json& j) { j["model"]["vocab"][2][1] = "high"; },
     "vocab[2]: [\"b\",\"high\"], expected a token and its score", true},
    {"unigram unk past the end", [](Json& j) { j["model"]["unk_id"] = 4; },
     "unk_id 4, expected less than the 4 tokens", true},
    {"unigram unk negative", [](Json& j) { j["model"]["unk_id"] = -1; }, "unk_id: -1", true},
    {"unigram entry of three", [](Json& j) { j["model"]["vocab"][2].push_back(1); },
     "[\"b\",-2,1], expected a token and its score", true},
    {"unigram of nothing", [](Json& j) { j["model"]["vocab"] = Json::array(); }, "an empty vocabulary", true},
    {"unigram piece of 100 KB", [](Json& j) { j["model"]["vocab"][2][0] = std::string(100'000, 'x'); },
     "a token of 100000 bytes", true},
};

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), ExitStatus::kBadInput);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "one line";
    return error.what();
  }
  return "no error";
}

class BadTokenizers : public testing::TestWithParam<Row> {};

TEST_P(BadTokenizers, EndInOneClearLine) {
  Json json = GetParam().unigram ? sound_unigram() : sound();
  Tokenizer::from_json(json.dump(), "t");  // sound before it is broken
  GetParam().breaks(json);
  EXPECT_THAT(message_of([&] { Tokenizer::from_json(json.dump(), "t"); }), HasSubstr(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(All, BadTokenizers, testing::ValuesIn(kRows), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (!isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

Tokenizer with(const char* field, const Json& value) {
  Json json = sound();
  json[field] = value;
  return Tokenizer::from_json(json.dump(), "t");
}

TEST(Tokenizer, APatternThatBacktracksWithoutEndIsAnError) {
  for (const char* pattern : {"(a+)+$", "(a|aa)+$"}) {
    const Tokenizer tokenizer = with(
        "pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}});
    const std::string text = std::string(40, 'a') + "!";
    EXPECT_THAT(message_of([&] { tokenizer.encode(text); }), HasSubstr("the pattern gives up on this text"))
        << pattern;
  }
}

TEST(Tokenizer, ByteTokensAreTwoHexadecimalDigitsAndNothingElse) {
  Json json = sound();
  json["model"]["byte_fallback"] = true;
  json["model"]["vocab"] = {{"<0x-1>", 0}, {"<0xZZ>", 1}, {"<0x41>", 2}, {"<0x5>", 3}};
  json["model"]["merges"] = Json::array();
  json["decoder"] = {{"type", "ByteFallback"}};
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "t");
  EXPECT_EQ(tokenizer.encode("A"), std::vector<int32_t>{2});
  EXPECT_EQ(tokenizer.encode("Z"), std::vector<int32_t>{}) << "neither token, byte nor unk";
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{0, 1, 2, 3}), "<0x-1><0xZZ>A<0x5>");
}

TEST(Tokenizer, AWordOfTenMegabytesIsEncoded) {
  const Tokenizer tokenizer = Tokenizer::from_json(sound().dump(), "t");
  std::string word;
  for (int i = 0; i < 5'000'000; ++i) word += "ab";
  const auto ids = tokenizer.encode(word);
  ASSERT_EQ(ids.size(), 5'000'000u);
  EXPECT_EQ(tokenizer.decode(ids), word);
}

TEST(Tokenizer, NulIsACharacterLikeAnyOther) {
  Json json = sound();
  json["model"]["vocab"][std::string(1, '\0')] = 5;
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "t");
  const std::string text("a\0b", 3);
  EXPECT_EQ(tokenizer.encode(text), (std::vector<int32_t>{0, 5, 1}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(Tokenizer, InvalidUtf8CountsAsReplacementCharacters) {
  Json json = sound();
  json["model"]["vocab"]["\uFFFD"] = 5;
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "t");
  EXPECT_EQ(tokenizer.encode("a\xE2\x82"
                             "b\xFF\xFF"),
            (std::vector<int32_t>{0, 5, 1, 5, 5}));
}

TEST(Tokenizer, IdsWithoutATokenAreErrors) {
  const Tokenizer tokenizer = Tokenizer::from_json(sound().dump(), "t");
  for (const int32_t id : {-1, 5, INT32_MAX, INT32_MIN}) {
    EXPECT_THAT(message_of([&] { tokenizer.decode(std::vector<int32_t>{id}); }), HasSubstr("token id")) << id;
    StreamingDetokenizer stream(tokenizer);
    EXPECT_THROW(stream.push(id), Error);
  }
  Json gap = sound();
  gap["added_tokens"][0]["id"] = 9;
  const Tokenizer with_gap = Tokenizer::from_json(gap.dump(), "t");
  EXPECT_EQ(with_gap.decode(std::vector<int32_t>{9}, false), "<s>");
  EXPECT_THAT(message_of([&] { with_gap.decode(std::vector<int32_t>{4}); }),
              HasSubstr("token id 4 has no token"));
}

TEST(Tokenizer, UnusedIdsOfAVocabularyStandForNothing) {
  Json json = sound();
  json["model"]["vocab"]["aba"] = 9;
  const Tokenizer tokenizer = Tokenizer::from_json(json.dump(), "t");
  EXPECT_EQ(tokenizer.vocabulary(), 10);
  EXPECT_EQ(tokenizer.encode("abab<s>"), (std::vector<int32_t>{2, 2, 4}));
  EXPECT_EQ(tokenizer.encode("abaa"), (std::vector<int32_t>{9, 0}));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{9, 3, 5, 0}), "abaa");
  EXPECT_EQ(tokenizer.id_of(""), std::nullopt);
}

TEST(Tokenizer, AnAddedTokenBeyondTheVocabularyKeepsTheIdOfItsFile) {
  Json json = sound();
  json["added_tokens"][0]["id"] = 9;
  EXPECT_EQ(Tokenizer::from_json(json.dump(), "t").encode("a<s>b"), (std::vector<int32_t>{0, 9, 1}));
}

TEST(Tokenizer, FilesThatAreNoJsonAreErrors) {
  for (const std::string text :
       {"", "{", "[]", "null", "\xEF\xBB\xBF{}", "{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}}}"}) {
    EXPECT_THROW(Tokenizer::from_json(text, "t"), Error) << text;
  }
  EXPECT_THROW(Tokenizer::from_json(std::string(1'000'000, '['), "t"), Error);
}

/// A sentencepiece model of pieces (text, type): 1 normal, 2 unknown, 3 control, 6 byte.
std::string sentencepiece_of(const std::vector<std::pair<std::string, char>>& pieces) {
  std::string model;
  for (const auto& [text, type] : pieces) {
    const std::string piece = std::string("\x0A") + char(text.size()) + text + "\x18" + type;
    model += std::string("\x0A") + char(piece.size()) + piece;
  }
  return model;
}

TEST(Sentencepiece, PiecesThatNoModelHasAreErrors) {
  using Pieces = std::vector<std::pair<std::string, char>>;
  const TemporaryFolder folder;
  const auto load = [&](const Pieces& added) {
    Pieces pieces = {{"<s>", 3}, {"</s>", 3}, {"a", 1}};
    pieces.insert(pieces.end(), added.begin(), added.end());
    return Tokenizer::load(folder.write("tokenizer.model", sentencepiece_of(pieces)));
  };
  EXPECT_EQ(load({{"<unk>", 2}}).encode("b"), std::vector<int32_t>{3});
  const struct {
    Pieces added;
    const char* expected;
  } rows[] = {
      {{}, "0 unknown pieces, expected one"},
      {{{"<unk>", 2}, {"<other>", 2}}, "2 unknown pieces, expected one"},
      {{{"<unk>", 2}, {"a", 1}}, "piece 4: \"a\" stands twice"},
      {{{"<unk>", 2}, {"<0xG0>", 6}}, "byte piece \"<0xG0>\", expected <0x00> to <0xFF>"},
      {{{"<unk>", 2}, {"b", 7}}, "type 7, expected 1 to 6"},
      {{{"<unk>", 2}, {"", 1}}, "an empty or invalid piece"},
  };
  for (const auto& row : rows) {
    EXPECT_THAT(message_of([&] { load(row.added); }), HasSubstr(row.expected));
  }
}

TEST(Sentencepiece, AFileCutShortAnywhereIsAnError) {
  namespace fs = std::filesystem;
  const fs::path whole = LINNET_TEST_DATA "/tokenizers/hf/sentencepiece_bpe.model";
  const fs::path file = fs::path(testing::TempDir()) / "linnet_cut.model";
  const MappedFile mapped(whole);
  const std::string_view bytes = mapped.text();
  EXPECT_NO_THROW(Tokenizer::load(whole));
  // A cut between two fields of the outermost message leaves a smaller, sound file: 97 is coprime to them.
  for (size_t size = 0; size < bytes.size(); size += size < 40 ? 1 : 97) {
    write_file(file, bytes.substr(0, size));
    try {
      Tokenizer::load(file).encode("the river");
    } catch (const Error&) {
      continue;
    }
  }
  for (const size_t size : {size_t{0}, size_t{3}, bytes.size() - 3}) {
    write_file(file, bytes.substr(0, size));
    EXPECT_THROW(Tokenizer::load(file), Error) << size;
  }
  std::string flipped(bytes);
  flipped[1] = '\xFF';
  write_file(file, flipped);
  EXPECT_THAT(message_of([&] { Tokenizer::load(file); }), HasSubstr("cut short"));
  fs::remove(file);
}

}  // namespace
}  // namespace linnet
