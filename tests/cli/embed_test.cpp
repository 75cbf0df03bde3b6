// linnet embed, and what the other commands say to an encoder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "tests/cli/program.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// A small BertModel with a vocabulary of letters, as sentence-transformers keeps one.
class Embed : public Program {
 protected:
  static void SetUpTestSuite() {
    Program::SetUpTestSuite();
    make_encoder("encoder", kVocabulary);
    make_encoder("no-separator", "[PAD]\n[UNK]\n[CLS]\na\nb\n");
    const fs::path folder = inputs() / "encoder";
    fs::create_directories(folder / "1_Pooling");
    write_file(folder / "1_Pooling" / "config.json", R"({"pooling_mode_mean_tokens": true})");
    write_file(folder / "modules.json", R"([{"path": "", "type": "sentence_transformers.models.Transformer"},
      {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
      {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])");
    write_file(inputs() / "lines.txt", "ab ba\nc\n");
    write_file(inputs() / "nothing.txt", "");
    fs::copy(folder, inputs() / "dense", fs::copy_options::recursive);
    write_file(inputs() / "dense" / "modules.json",
               R"([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}])");
    fs::copy(folder, inputs() / "max", fs::copy_options::recursive);
    write_file(inputs() / "max" / "1_Pooling" / "config.json", R"({"pooling_mode_max_tokens": true})");
  }

  static std::vector<nlohmann::json> lines_of(const std::string& text) {
    std::vector<nlohmann::json> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }

 private:
  static constexpr const char* kVocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n##a\n##b\n##c\n";

  static void make_encoder(const char* name, const char* vocabulary) {
    const fs::path from = LINNET_TEST_DATA "/encoders/bert-bare", to = inputs() / name;
    fs::create_directories(to);
    for (const char* file : {"config.json", "model.safetensors"}) fs::copy_file(from / file, to / file);
    write_file(to / "vocab.txt", vocabulary);
  }
};

TEST_F(Embed, AloneATextsVectorIsTheSameBesideAnyOthers) {
  std::string longer;
  for (int i = 0; i < 20; ++i) longer += "abc ";
  for (const std::string dtype : {"float32", "bfloat16"}) {
    const auto embed = [&](const std::vector<std::string>& texts) {
      std::vector<std::string> arguments = {"embed", "{i}/encoder", "--dtype", dtype, "--alone"};
      arguments.insert(arguments.end(), texts.begin(), texts.end());
      const Outcome outcome = run(arguments);
      EXPECT_EQ(outcome.status, 0) << outcome.err;
      return lines_of(outcome.out);
    };
    const auto one = embed({"ab ba"}), among = embed({longer, "ab ba", longer});
    ASSERT_EQ(among.size(), 3u);
    EXPECT_EQ(among[1]["embedding"], one[0]["embedding"]) << dtype;
  }
}

TEST_F(Embed, GivesEachTextAVectorAsLinesAndAsAnArrayTheSame) {
  const Outcome said = run({"embed", "{i}/encoder", "ab ba", "c"});
  ASSERT_EQ(said.status, 0) << said.err;
  const auto lines = lines_of(said.out);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["tokens"], 6);  // [CLS] a ##b b ##a [SEP]
  EXPECT_EQ(lines[1]["index"], 1);
  double squares = 0;
  for (const double x : lines[0]["embedding"]) squares += x * x;
  EXPECT_NEAR(squares, 1, 1e-5);  // modules.json says so
  const Outcome piped = run({"embed", "{i}/encoder"}, {.input = "ab ba\nc\n"});
  EXPECT_EQ(piped.out, said.out);
  const Outcome array = run({"embed", "{i}/encoder", "--file", "{i}/lines.txt", "-o", "v.npy"});
  ASSERT_EQ(array.status, 0) << array.err;
  const std::string& file = array.files.at("v.npy");
  ASSERT_EQ(file.size(), 128 + 2 * 36 * sizeof(float));
  EXPECT_THAT(file, HasSubstr("'shape': (2, 36), }"));
  std::vector<float> numbers(2 * 36);
  std::memcpy(numbers.data(), file.data() + 128, numbers.size() * sizeof(float));
  for (size_t i = 0; i < numbers.size(); ++i)
    EXPECT_EQ(numbers[i], lines[i / 36]["embedding"][i % 36].get<float>());
}

TEST_F(Embed, PoolsAsItIsToldAndCutsWhatIsTooLong) {
  const Outcome first = run({"embed", "{i}/encoder", "ab", "--pooling", "first"});
  ASSERT_EQ(first.status, 0) << first.err;
  const auto lines = lines_of(first.out);
  double squares = 0;
  for (const double x : lines[0]["embedding"]) squares += x * x;
  EXPECT_GT(squares, 2);  // --pooling leaves modules.json aside
  EXPECT_EQ(run({"embed", "{i}/encoder", "ab", "--pooling", "last"}).status, 0);
  EXPECT_EQ(run({"embed", "{m}", "ab", "--pooling", "mean"}).status, 0);
  const Outcome cut = run({"embed", "{i}/encoder", "a b c a b c", "--max-length", "5", "--truncate"});
  EXPECT_EQ(lines_of(cut.out)[0]["tokens"], 5);
  EXPECT_EQ(lines_of(cut.out)[0]["embedding"],
            lines_of(run({"embed", "{i}/encoder", "a b c"}).out)[0]["embedding"]);
}

TEST_F(Embed, NumbersThatAreNoneAreNeverWritten) {
  const fs::path folder = inputs() / "huge";
  fs::create_directories(folder);
  for (const auto& entry : fs::directory_iterator(inputs() / "encoder"))
    if (entry.is_regular_file()) fs::copy(entry.path(), folder / entry.path().filename());
  const TensorStore store = TensorStore::open_folder(inputs() / "encoder");
  const std::vector<std::string> scaled = {"embeddings.LayerNorm.weight",
                                           "encoder.layer.0.attention.self.query.weight",
                                           "encoder.layer.0.attention.self.key.weight"};
  std::vector<std::vector<std::byte>> bytes;  // huge, and yet numbers: the scores overflow
  bytes.reserve(store.tensors().size());
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : store.tensors()) {
    NamedTensor one{name, tensor};
    if (std::ranges::any_of(scaled, [&](const std::string& end) { return name.ends_with(end); })) {
      bytes.push_back(
          from_float(std::vector<float>(static_cast<size_t>(tensor.numbers()), 1e18F), tensor.type));
      one.tensor.bytes = bytes.back();
    }
    tensors.push_back(one);
  }
  write_safetensors(folder / "model.safetensors", tensors);
  for (const char* file : {"v.npy", "v.jsonl"}) {
    const Outcome outcome = run({"embed", "{i}/huge", "c", "--pooling", "mean", "-o", file});
    EXPECT_EQ(outcome.status, 1) << file;
    EXPECT_THAT(outcome.err, HasSubstr("text 0: its vector has a number that is not finite")) << file;
    EXPECT_TRUE(outcome.files.empty()) << file;
  }
}

TEST_F(Embed, ATextThatIsAFilesNameIsNoInput) {
  const Outcome first = run({"embed", "{i}/encoder", "ab", "-o", "ab"});
  ASSERT_EQ(first.status, 0) << first.err;
  const std::string place = (inputs() / "ab").string();
  write_file(place, "old");
  const Outcome again = run({"embed", "{i}/encoder", place, "-o", place, "--truncate"});
  EXPECT_EQ(again.status, 0) << again.err;
}

TEST_F(Embed, BadInputIsOneLine) {
  write_file(inputs() / "bytes.txt", "a\nb\xFF\n");
  write_file(inputs() / "blank.txt", "a\n\nb\n");
  const char* decoder = "bert is an encoder, which predicts no next token";
  const std::string longer(200, 'a');
  const BadRow rows[] = {
      {{"generate", "{i}/encoder", "--prompt", "a"}, decoder},
      {{"chat", "{i}/encoder"}, decoder},
      {{"serve", "{i}/encoder"}, decoder},
      {{"perplexity", "{i}/encoder", "{i}/text.txt"}, "encoder: has no head that predicts tokens"},
      {{"embed", "{i}/encoder", "--file", "{i}/bytes.txt"}, "bytes.txt:2: bytes that are no UTF-8"},
      {{"embed", "{m}", "--pooling", "mean", "--file", "{i}/blank.txt"},
       "blank.txt:2: no token, expected a text"},
      {{"recall", "{i}/encoder", "{i}/text.txt"}, decoder},
      {{"reach", "{i}/encoder", "{i}/text.txt"}, decoder},
      {{"evaluate", "{i}/encoder", "--tasks", "piqa"}, decoder},
      {{"embed", "{m}", "a"}, "--pooling: not given, and "},
      {{"embed", "{i}/encoder", "a", "--pooling", "max"}, "--pooling: max, expected mean, first or last"},
      {{"embed", "{i}/encoder", longer + " " + longer, "--pooling", "mean", "--max-length", "3"},
       "4 tokens, expected at most 3, or --truncate"},
      {{"embed", "{i}/encoder", "a", "--max-length", "2"}, "texts of at most 2 tokens"},
      {{"embed", "{i}/encoder", "a", "--file", "{i}/lines.txt"}, "--file: given together with texts"},
      {{"embed", "{i}/encoder", "a", "--normalize", "--no-normalize"}, "--no"},
      {{"embed", "{i}/encoder", "a", "-o", "/nonexistent/v.npy"}, "/nonexistent/v.npy: cannot be written"},
      {{"embed", "{i}/encoder", "--file", "{i}/lines.txt", "-o", "{i}/lines.txt"},
       "lines.txt is what --file reads"},
      {{"embed", "{i}/encoder", "a", "-o", "{i}/encoder/config.json"},
       "encoder/config.json is what MODEL reads"},
      {{"embed", "{i}/encoder", "--file", "{i}/nothing.txt"}, "nothing.txt: no text, expected one a line"},
      {{"embed", "{i}/no-separator", "a", "--pooling", "mean"}, "vocab.txt: has no \"[SEP]\""},
      {{"embed", "{i}/dense", "a"}, "module \"sentence_transformers.models.Dense\""},
      {{"embed", "{i}/max", "a"}, "pooling \"max_tokens\", expected mean_tokens"},
  };
  for (const BadRow& row : rows) expect_refused(row, run(row.arguments));
}

TEST_F(Embed, InspectAndCheckKnowEncoders) {
  const Outcome inspected = run({"inspect", "{i}/encoder"});
  EXPECT_EQ(inspected.status, 0) << inspected.err;
  EXPECT_THAT(inspected.out, HasSubstr("sees whole sequences, 2 kinds of tokens, a pooler"));
  const Outcome checked = run({"check", "{i}/encoder"});
  EXPECT_EQ(checked.status, 0) << checked.err;
  EXPECT_THAT(checked.out, HasSubstr("another last token changes every row"));
}

}  // namespace
}  // namespace linnet
