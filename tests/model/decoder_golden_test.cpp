// The decoder against others' numbers: checkpoints made by Hugging Face transformers (tests/data/hf), and a
// real trained model where it is at hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/json.h"
#include "format/safetensors.h"
#include "model/decoder.h"
#include "tests/kernels/numbers.h"

namespace linnet {
namespace {

std::vector<int32_t> greedy(Decoder& decoder, std::vector<int32_t> prompt, size_t count) {
  std::vector<float> logits(static_cast<size_t>(decoder.vocabulary()));
  const auto best = [](std::span<const float> row) {
    return static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
  };
  decoder.reset(0);
  decoder.prefill(0, prompt, prompt.size() - 1, logits);
  std::vector<int32_t> tokens = {best(logits)};
  while (tokens.size() < count) {
    const TokenTree tree = TokenTree::single(tokens.back());
    const Decoder::Branch branch{0, &tree};
    decoder.step({&branch, 1});
    tokens.push_back(decoder.likeliest(0));
    decoder.commit(0, std::vector<int32_t>{0});
  }
  tokens.resize(count);
  return tokens;
}

std::vector<int32_t> ids_of(const TensorView& tensor) {
  std::vector<int64_t> wide(static_cast<size_t>(tensor.numbers()));
  std::memcpy(wide.data(), tensor.bytes.data(), tensor.bytes.size());
  return {wide.begin(), wide.end()};
}

std::vector<std::string> golden_folders() {
  std::vector<std::string> names;
  std::error_code absent;
  for (const auto& entry : std::filesystem::directory_iterator(LINNET_TEST_DATA "/hf", absent)) {
    if (std::filesystem::exists(entry.path() / "golden.safetensors"))
      names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(HuggingFaceGoldenFolders, AreAllHere) { EXPECT_EQ(golden_folders().size(), 28u); }

class HuggingFaceGolden : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Checkpoints, HuggingFaceGolden, testing::ValuesIn(golden_folders()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

TEST_P(HuggingFaceGolden, LogitsAndGreedyTextAreTransformers) {
  const std::filesystem::path folder = std::filesystem::path(LINNET_TEST_DATA "/hf") / GetParam();
  const auto golden = SafetensorsFile::open(folder / "golden.safetensors");
  const auto tensor = [&](const char* name) -> const TensorView& {
    return golden.tensors().find(name)->second;
  };
  ThreadPool pool(2);
  const auto model = Model::open(folder);
  const auto expected = to_float(tensor("logits"), "golden");
  const auto ids = ids_of(tensor("input_ids"));
  const struct {
    ComputeType compute;
    int chunk;
  } kRuns[] = {{ComputeType::kFloat32, 512}, {ComputeType::kFloat32, 5}, {ComputeType::kFloat64, 512}};
  for (const auto& run : kRuns) {
    const auto decoder = Decoder::make(model, {.compute = run.compute, .chunk = run.chunk}, pool);
    auto logits = poison(expected.size());
    decoder->prefill(0, ids, 0, logits);
    EXPECT_LT(relative_rms(logits, expected), 1e-5);
    const auto text = ids_of(tensor("greedy"));
    EXPECT_EQ(greedy(*decoder, ids_of(tensor("prompt")), text.size()), text);
  }
}

TEST(RealModel, TellsItsPublishedStories) {
  const std::filesystem::path folder = LINNET_SHARED "/data/models/stories260k";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not here";
  const auto reference = read_json(folder / "reference.json");
  ThreadPool pool(2);
  const auto model = Model::open(folder);
  for (ComputeType compute : {ComputeType::kAuto, ComputeType::kFloat64}) {
    const auto decoder = Decoder::make(model, {.compute = compute}, pool);
    for (const auto& row : reference["logits"]) {
      const auto ids = row["ids"].get<std::vector<int32_t>>();
      const auto expected = row["last_logits"].get<std::vector<float>>();
      auto logits = poison(expected.size());
      decoder->reset(0);
      decoder->prefill(0, ids, ids.size() - 1, logits);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(logits[i], expected[i], 5e-4) << i;
    }
    for (const auto& row : reference["greedy"]) {
      const auto ids = row["ids"].get<std::vector<int32_t>>();
      EXPECT_EQ(greedy(*decoder, row["prompt_ids"].get<std::vector<int32_t>>(), ids.size()), ids)
          << row["text"];
    }
  }
}

}  // namespace
}  // namespace linnet
