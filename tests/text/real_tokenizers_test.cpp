// Real tokenizers, and ids that an independent implementation computed with them.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "tests/format/files.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

namespace linnet {
namespace {

const std::filesystem::path kStories = LINNET_SHARED "/data/models/stories260k";

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamingDetokenizer stream(tokenizer);
  std::string text;
  for (const int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

struct Real {
  const char* name;  // as encodings.jsonl.xz has it
  std::filesystem::path tokenizer, encodings;
};

const std::filesystem::path kCommitted = LINNET_TEST_DATA "/tokenizers";
const std::filesystem::path kShared = LINNET_SHARED "/data/models/tokenizers";
const Real kReal[] = {
    {"gpt2", kCommitted / "gpt2-tokenizer.json.xz", kCommitted / "encodings.jsonl.xz"},
    {"gpt2", kShared / "gpt2-tokenizer.json.xz", kShared / "encodings.jsonl.xz"},
    {"llama2", kShared / "llama2-tokenizer.json.xz", kShared / "encodings.jsonl.xz"},
};

std::string whole(const std::filesystem::path& file) {
  std::string text;
  for_each_line(file, [&](std::string_view line, size_t) {
    text += line;
    text += '\n';
    return true;
  });
  return text;
}

class RealTokenizers : public testing::TestWithParam<Real> {};

TEST_P(RealTokenizers, GivesTheIdsOfAnIndependentImplementation) {
  const Real& real = GetParam();
  if (real.encodings != kCommitted / "encodings.jsonl.xz" && !std::filesystem::exists(real.tokenizer))
    GTEST_SKIP() << real.tokenizer << " is not here";
  const Tokenizer tokenizer = Tokenizer::from_json(whole(real.tokenizer), real.name);
  size_t texts = 0;
  for_each_line(real.encodings, [&](std::string_view line, size_t) {
    const auto record = parse_json(line, real.name);
    if (record.at("tokenizer") != real.name) return true;
    const auto text = record.at("text").get<std::string>();
    const auto ids = record.at("ids").get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << text;
    const std::string decoded = tokenizer.decode(ids, false);
    EXPECT_EQ(decoded == text, record.at("decoded_equal").get<bool>()) << text << " | " << decoded;
    EXPECT_EQ(streamed(tokenizer, ids), tokenizer.decode(ids));
    ++texts;
    return true;
  });
  EXPECT_GE(texts, 27u);
}

INSTANTIATE_TEST_SUITE_P(All, RealTokenizers, testing::ValuesIn(kReal), [](const auto& info) {
  return std::string(info.param.name) + (info.index == 0 ? "_committed" : "_shared");
});

TEST(Stories260k, SentencepieceModelGivesTheReferencesIds) {
  if (!std::filesystem::exists(kStories)) GTEST_SKIP() << kStories << " is not here";
  // By itself: the files beside it name special tokens, which are then found in texts.
  const TemporaryFolder folder;
  const Tokenizer tokenizer =
      Tokenizer::load(folder.write("tokenizer.model", MappedFile(kStories / "tokenizer.model").text()));
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_EQ(tokenizer.vocabulary(), 512);
  const auto reference = read_json(kStories / "reference.json");
  for (const auto& entry : reference.at("encodings")) {
    const auto text = entry.at("text").get<std::string>();
    const auto ids = entry.at("ids").get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text, true), ids) << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(streamed(tokenizer, ids), text);
  }
}

TEST(Stories260k, GivesTheReferencesIds) {
  if (!std::filesystem::exists(kStories)) GTEST_SKIP() << kStories << " is not here";
  const Tokenizer tokenizer = Tokenizer::load(kStories);
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_EQ(tokenizer.vocabulary(), 512);
  const auto reference = read_json(kStories / "reference.json");
  for (const auto& entry : reference.at("encodings")) {
    const auto text = entry.at("text").get<std::string>();
    const auto ids = entry.at("ids").get<std::vector<int32_t>>();
    // The reference is sentencepiece's: there a text that spells a special token is plain text.
    if (text.find("<unk>") == std::string::npos && text.find("<s>") == std::string::npos) {
      EXPECT_EQ(tokenizer.encode(text, true), ids) << text;
    }
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(streamed(tokenizer, ids), text);
  }
}

}  // namespace
}  // namespace linnet
