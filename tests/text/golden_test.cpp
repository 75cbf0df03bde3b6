// Every tokenizer in tests/data/tokenizers/hf gives the ids and texts that Hugging Face's tokenizers and
// sentencepiece gave for it (scripts/golden/make_tokenizers.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
const fs::path kFolder = LINNET_TEST_DATA "/tokenizers/hf";

std::vector<std::string> tokenizer_files() {
  std::vector<std::string> files;
  std::error_code absent;  // the first test says so
  for (const auto& entry : fs::directory_iterator(kFolder, absent)) {
    const auto extension = entry.path().extension();
    if (extension == ".json" || extension == ".model") files.push_back(entry.path().filename());
  }
  std::ranges::sort(files);
  return files;
}

uint64_t digest(const std::vector<int32_t>& ids) {
  uint64_t value = 0;
  for (const int32_t id : ids) value = value * 31 + static_cast<uint64_t>(id) + 1;
  return value;
}

std::string text_of(const nlohmann::json& record) {
  if (record.contains("text")) return record.at("text");
  std::string text;
  for (int i = 0; i < record.at("count"); ++i) text += record.at("repeat").get<std::string>();
  return text;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special) {
  StreamingDetokenizer stream(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

void check_decoded(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const nlohmann::json& record,
                   const std::string& text) {
  const auto expected = [&](const char* key, const std::string& otherwise) -> nlohmann::json {
    return record.contains(key) ? record.at(key) : nlohmann::json(otherwise);
  };
  const std::string without = tokenizer.decode(ids), with = tokenizer.decode(ids, false);
  const nlohmann::json decoded = expected("decoded", text);  // null: different, and too long to keep
  const nlohmann::json all = expected("decoded_all", without);
  if (!decoded.is_null()) {
    EXPECT_EQ(without, decoded.get<std::string>());
  }
  if (!all.is_null()) {
    EXPECT_EQ(with, all.get<std::string>());
  }
  EXPECT_EQ(streamed(tokenizer, ids, true), without);
  EXPECT_EQ(streamed(tokenizer, ids, false), with);
}

TEST(GoldenTokenizerFiles, AreAllHere) { EXPECT_EQ(tokenizer_files().size(), 13u); }

class GoldenTokenizers : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTokenizers, GiveTheIdsAndTextsOfTheLibraryThatMadeThem) {
  const fs::path file = kFolder / GetParam();
  const Tokenizer tokenizer = Tokenizer::load(file);
  fs::path encodings = file;
  encodings.replace_extension(".encodings.jsonl");
  for_each_line(encodings, [&](std::string_view line, size_t number) {
    const auto record = parse_json(line, encodings.string());
    const std::string text = text_of(record);
    SCOPED_TRACE(encodings.filename().string() + ":" + std::to_string(number) + ": " + text.substr(0, 100));
    const std::vector<int32_t> ids = tokenizer.encode(text);
    if (record.contains("ids")) {
      EXPECT_EQ(ids, record.at("ids").get<std::vector<int32_t>>());
    } else {
      EXPECT_EQ(ids.size(), record.at("length").get<size_t>());
      EXPECT_EQ(digest(ids), record.at("hash").get<uint64_t>());
    }
    std::vector<int32_t> special = record.at("before");
    special.insert(special.end(), ids.begin(), ids.end());
    for (const int32_t id : record.at("after")) special.push_back(id);
    EXPECT_EQ(tokenizer.encode(text, true), special);
    check_decoded(tokenizer, ids, record, text);
    return true;
  });
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTokenizers, testing::ValuesIn(tokenizer_files()), [](const auto& info) {
  std::string name = info.param;
  std::ranges::replace_if(
      name, [](char c) { return !isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

}  // namespace
}  // namespace linnet
