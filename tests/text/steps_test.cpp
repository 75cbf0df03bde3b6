// The steps of a tokenizer one by one; what is expected is what Hugging Face's tokenizers 0.22.2
// (characters: 0.23.3) and sentencepiece 0.1.97 give.
#include <gtest/gtest.h>

#include <cstring>

#include "text/charsmap.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/token_decoder.h"

namespace linnet {
namespace {

using Json = nlohmann::json;
using Strings = std::vector<std::string>;

TEST(Normalizer, ChangesWhatItsStepSaysAndNothingElse) {
  const struct {
    const char* step;
    std::string text, normalized;
  } rows[] = {
      {R"({"type": "Strip"})", " a b\t", "a b"},
      {R"({"type": "Strip", "strip_right": false})", " a b\t", "a b\t"},
      {R"({"type": "Strip", "strip_left": false})", " \u00E9\u2003", " \u00E9"},
      {R"({"type": "Strip"})", "  ", ""},
      {R"({"type": "Prepend", "prepend": "_"})", "a", "_a"},
      {R"({"type": "Prepend", "prepend": "_"})", "", ""},
      {R"({"type": "Nmt"})", "\1a\x08 b\x0B c\x0E d\x1F e\x7F f\u008Fg\u009F", "a b c d e fg"},
      {R"({"type": "Nmt"})",
       "a\tb\nc\fd\re\u1680f\u200Bg\u200Fh\u2028i\u2029j\u2581k\uFEFFl\uFFFDm\u00A0n\u0085o",
       "a b c d e f g h i j k l m\u00A0n\u0085o"},
      // A mark of Unicode 14 is none to StripAccents and stays where it is in NFD; one of Unicode 6 moves.
      {R"({"type": "StripAccents"})", "a\u1AC1b\u0316c", "a\u1AC1bc"},
      {R"({"type": "NFD"})", "a\u0301\u1AC2\u0316", "a\u0301\u1AC2\u0316"},
      {R"({"type": "NFC"})", "e\u1AC1\u0301e\u0301", "e\u1AC1\u0301\u00E9"},
      {R"({"type": "NFD"})", "a\u0301\u0316", "a\u0316\u0301"},
      {R"({"type": "NFKC"})", "\u32FF\u32FE\U0001FBF1", "\u32FF\u30F2\U0001FBF1"},
      {R"({"type": "Lowercase"})", "\uA7CB\U00010D50\u0130\u0178\u017D",
       "\u0264\U00010D70i\u0307\u00FF\u017E"},
      {R"({"type": "Replace", "pattern": {"Regex": "b*"}, "content": "x"})", "", ""},
      {R"({"type": "NFKC"})", "\U0001E030", "\U0001E030"},  // of Unicode 15
  };
  for (const auto& row : rows) {
    const Json step = Json::parse(row.step);
    EXPECT_EQ(Normalizer({step, "t"}).apply(row.text), row.normalized) << step << row.text;
  }
}

TEST(CharsMap, FollowsOffsetsOfMoreThan21Bits) {
  // The root's children begin at 256 (bit 9: the offset counts in 256s); that of 'A' has its value beside it.
  uint32_t units[512] = {1 << 10 | 1 << 9};
  units[256 ^ 'A'] = 1 << 10 | 1 << 8 | 'A';
  units[256 ^ 'A' ^ 1] = 1u << 31;
  const uint32_t size = sizeof units;
  std::string blob(sizeof size + size, '\0');
  std::memcpy(blob.data(), &size, sizeof size);
  std::memcpy(blob.data() + sizeof size, units, size);
  blob += std::string("new", 4);
  EXPECT_EQ(CharsMap(blob, "t").normalize("A A\u00C5"), "new new\u00C5");
}

Strings pieces_of(const Json& step, const std::string& text) {
  Pieces pieces{text, {{0, text.size()}}};
  PreTokenizer({step, "t"}).apply(pieces);
  Strings found;
  for (const Piece& piece : pieces.pieces) found.emplace_back(pieces.view(piece));
  return found;
}

TEST(PreTokenizer, SplitsAsItsBehaviorSays) {
  const struct {
    const char* behavior;
    Strings pieces, inverted;
  } rows[] = {
      {"Removed", {"a", "b"}, {",", ",", ","}},
      {"Isolated", {",", "a", ",", ",", "b"}, {",", "a", ",", ",", "b"}},
      {"MergedWithPrevious", {",", "a,", ",", "b"}, {",a", ",", ",b"}},
      {"MergedWithNext", {",a", ",", ",b"}, {",", "a,", ",", "b"}},
      {"Contiguous", {",", "a", ",,", "b"}, {",", "a", ",,", "b"}},
  };
  for (const auto& row : rows) {
    for (const bool invert : {false, true}) {
      const Json step = {
          {"type", "Split"}, {"pattern", {{"String", ","}}}, {"behavior", row.behavior}, {"invert", invert}};
      EXPECT_EQ(pieces_of(step, ",a,,b"), invert ? row.inverted : row.pieces) << step;
    }
  }
}

TEST(PreTokenizer, AnEmptyMatchPartsWhatIsAroundIt) {
  const struct {
    const char* behavior;
    Strings pieces;
  } rows[] = {{"Isolated", {"3", "aa", "."}},
              {"Removed", {"3", "."}},
              {"MergedWithPrevious", {"3aa", "."}},
              {"MergedWithNext", {"3", "aa."}},
              {"Contiguous", {"3", "aa", "."}}};
  for (const auto& row : rows) {
    const Json step = {{"type", "Split"}, {"pattern", {{"Regex", "a*"}}}, {"behavior", row.behavior}};
    EXPECT_EQ(pieces_of(step, "3aa."), row.pieces) << step;
  }
}

TEST(PreTokenizer, KnowsTheCharactersThatTheReferenceKnows) {
  const struct {
    const char* step;
    std::string text;
    Strings pieces;
  } rows[] = {
      {R"({"type": "Digits", "individual_digits": true})",
       "a\u0663\U0001CCF1b",
       {"a", "\u0663", "\U0001CCF1", "b"}},
      {R"({"type": "Punctuation"})", "a\u2E52b\u2E42c\u166Dd", {"a\u2E52b", "\u2E42", "c", "\u166D", "d"}}};
  for (const auto& row : rows) EXPECT_EQ(pieces_of(Json::parse(row.step), row.text), row.pieces) << row.step;
}

TEST(PostProcessor, EachStepOfASequenceIsPutAroundWhatThoseBeforeItMade) {
  const Json sequence = Json::parse(R"({"type": "Sequence", "processors": [
      {"type": "BertProcessing", "cls": ["<s>", 4], "sep": ["<b>", 3]},
      {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<b>"}}, {"Sequence": {"id": "A"}}],
       "special_tokens": {"<b>": {"ids": [3]}}}]})");
  const PostProcessor post({sequence, "t"}, 5);
  EXPECT_EQ(post.before, (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(post.after, (std::vector<int32_t>{3}));
}

std::string decoded(const TokenDecoder& decoder, const Strings& tokens) {
  DecodeChain chain = decoder.start();
  std::string text;
  for (const std::string& token : tokens) text += chain.push(token);
  return text + chain.finish();
}

TEST(TokenDecoder, MakesTextOfTokensAsItsStepsSay) {
  const char* fallback = R"({"type": "ByteFallback"})";
  const char* byte_level = R"({"type": "ByteLevel"})";
  const char* strip_end = R"({"type": "Strip", "content": "x", "start": 0, "stop": 1})";
  const char* strip = R"({"type": "Strip", "content": "x", "start": 1, "stop": 1})";
  const char* replace = R"({"type": "Replace", "pattern": {"String": "ab"}, "content": "c"})";
  const struct {
    const char* step;
    bool fused;  // behind a Fuse
    Strings tokens;
    std::string text;
  } rows[] = {
      {fallback,
       false,
       {"<0xE5>", "<0x8F>", "a", "<0xC3>", "<0xA9>", "<0xC3>"},
       "\uFFFD\uFFFDa\uFFFD\uFFFD\uFFFD"},
      {byte_level, false, {"Ġa", "Ġ河", "Ã", "©", "Ã", "Ġa"}, " aĠ河é\uFFFD a"},
      {strip, false, {"xxa", "xaxx", "bxx"}, "xaaxbx"},
      {strip, true, {"xxa", "xaxx", "bxx"}, "xaxaxxbx"},
      {strip, true, {"xx", "xx"}, "xx"},
      {strip_end, true, {"xx", "xx"}, "xxx"},
      {replace, false, {"xa", "by", "ab"}, "xabyc"},
      {replace, true, {"xa", "by", "ab"}, "xcyc"},
      {R"({"type": "Metaspace"})", true, {"▁a", "▁b"}, "ab"},
  };
  for (const auto& row : rows) {
    Json steps = Json::array();
    if (row.fused) steps.push_back({{"type", "Fuse"}});
    steps.push_back(Json::parse(row.step));
    const Json sequence = {{"type", "Sequence"}, {"decoders", steps}};
    EXPECT_EQ(decoded(TokenDecoder({sequence, "t"}), row.tokens), row.text) << steps;
  }
}

TEST(TokenDecoder, OfSentencepieceStripsTheBeginningAndReplacesInvalidBytesOneByOne) {
  const struct {
    bool strip, strip_all;
    Strings tokens;
    const char* text;
  } rows[] = {
      {true, true, {"▁", "▁a", "▁b"}, "a b"},
      {true, false, {"▁", "▁a", "▁b"}, " a b"},
      {false, false, {"▁", "▁a", "▁b"}, "  a b"},
      {true, true, {"<0xE5>", "<0x8F>", "▁a"}, "\uFFFD\uFFFD a"},
      {true, true, {"<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0x9F>"}, "😀\uFFFD"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(decoded(TokenDecoder::sentencepiece(row.strip, row.strip_all), row.tokens), row.text);
  }
}

}  // namespace
}  // namespace linnet
