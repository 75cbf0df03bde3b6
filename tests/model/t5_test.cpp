// Encoder and decoder against transformers' numbers: checkpoints made by scripts/golden/make_t5.py.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "attention/distance_bias.h"
#include "base/error.h"
#include "format/safetensors.h"
#include "model/decoder.h"
#include "model/teacher.h"
#include "tests/kernels/numbers.h"

namespace linnet {
namespace {

std::vector<int32_t> ids_of(const TensorView& tensor) {
  std::vector<int64_t> wide(static_cast<size_t>(tensor.numbers()));
  std::memcpy(wide.data(), tensor.bytes.data(), tensor.bytes.size());
  return {wide.begin(), wide.end()};
}

/// A folder with what transformers computes from it.
struct Golden {
  explicit Golden(const std::string& name)
      : folder(std::filesystem::path(LINNET_TEST_DATA "/t5") / name),
        file(SafetensorsFile::open(folder / "golden.safetensors")),
        model(Model::open(folder)),
        source(ids_of(tensor("source"))),
        decoded(ids_of(tensor("labels"))) {
    decoded.insert(decoded.begin(), static_cast<int32_t>(model->config().start));
    decoded.pop_back();
  }
  const TensorView& tensor(const char* which) const { return file.tensors().find(which)->second; }

  std::filesystem::path folder;
  SafetensorsFile file;
  std::shared_ptr<const Model> model;
  std::vector<int32_t> source, decoded;  // labels, shifted right
};

class T5Golden : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Checkpoints, T5Golden, testing::Values("t5", "t5-gated"),
                         [](const auto& info) { return info.param == "t5" ? "First" : "Gated"; });

TEST_P(T5Golden, LogitsAreTransformers) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  const auto expected = to_float(golden.tensor("logits"), "golden");
  for (const ComputeType compute : {ComputeType::kFloat32, ComputeType::kFloat64}) {
    for (const int chunk : {512, 5}) {
      const auto decoder = Decoder::make(golden.model, {.compute = compute, .chunk = chunk}, pool);
      decoder->read_source(0, golden.source);
      auto logits = poison(expected.size());
      decoder->prefill(0, golden.decoded, 0, logits);
      EXPECT_LT(relative_rms(logits, expected), 1e-5);
    }
  }
}

TEST_P(T5Golden, GreedyTextIsTransformers) {
  const Golden golden(GetParam());
  ThreadPool pool(2);
  const auto decoder = Decoder::make(golden.model, {.compute = ComputeType::kFloat32}, pool);
  const auto expected = ids_of(golden.tensor("greedy"));
  decoder->read_source(0, golden.source);
  std::vector<int32_t> tokens = {static_cast<int32_t>(golden.model->config().start)};
  while (tokens.size() <= expected.size()) {
    const TokenTree tree = TokenTree::single(tokens.back());
    const Decoder::Branch branch{0, &tree};
    decoder->step({&branch, 1});
    tokens.push_back(decoder->likeliest(0));
    decoder->commit(0, std::vector<int32_t>{0});
  }
  tokens.erase(tokens.begin());
  EXPECT_EQ(tokens, expected);
}

TEST_P(T5Golden, ASavedStateGoesOnWithoutItsSource) {
  const Golden golden(GetParam());
  ThreadPool pool(1);
  const nlohmann::json linear = {{"method", "elu1"}, {"local", "softmax"}, {"group", 4}, {"alpha", 0.5}};
  const nlohmann::json kinds[] = {
      {}, {{"decoder", linear}, {"cross", {{"method", "elu1"}}}, {"encoder", linear}}};
  for (const nlohmann::json& kind : kinds) {
    const auto model = golden.model->with_attention(attention_over(golden.model->config(), kind, "test"));
    const auto one = Decoder::make(model, {}, pool), other = Decoder::make(model, {}, pool);
    const std::span<const int32_t> tokens = golden.decoded;
    const auto size = static_cast<size_t>(one->vocabulary());
    std::vector<float> expected(size), after(size);
    const auto empty = one->save(0);
    one->read_source(0, golden.source);
    one->prefill(0, tokens.first(9), 9, {});
    const auto saved = one->save(0);
    one->prefill(0, tokens.subspan(9, 4), 3, expected);
    other->load(0, saved);
    EXPECT_EQ(other->length(0), 9);
    EXPECT_EQ(other->source_length(0), std::ssize(golden.source));
    EXPECT_EQ(other->save(0), saved);
    other->prefill(0, tokens.subspan(9, 4), 3, after);
    EXPECT_EQ(after, expected);
    // Bytes that are cut anywhere are refused, and the slot stays as it was; nothing read is a state too.
    const auto before = other->save(0);
    for (size_t cut = 0; cut < saved.size(); cut += 97)
      EXPECT_THROW(other->load(0, std::span(saved).first(cut)), Error) << cut;
    EXPECT_EQ(other->save(0), before);
    other->load(0, empty);
    EXPECT_EQ(other->source_length(0), 0);
    EXPECT_THROW(other->prefill(0, tokens, 0, expected), Error);
    // Another attention of any of the three is another model.
    const auto changed = golden.model->with_attention(
        attention_over(golden.model->config(), {{"cross", {{"method", "hedgehog"}}}}, "test"));
    EXPECT_THROW(Decoder::make(kind.is_null() ? changed : golden.model, {}, pool)->load(0, saved), Error);
  }
}

TEST(T5, BucketsOfDistancesAreTransformers) {
  const auto file = SafetensorsFile::open(LINNET_TEST_DATA "/t5/t5/golden.safetensors");
  const auto ids = ids_of(file.tensors().find("buckets")->second);
  const int64_t wide = std::ssize(ids) / 4, reach = wide / 2;
  const DistanceBuckets kinds[] = {{32, 128, true}, {32, 128, false}, {8, 20, true}, {8, 20, false}};
  for (int64_t kind = 0; kind < 4; ++kind) {
    for (int64_t i = 0; i < wide; ++i)
      EXPECT_EQ(kinds[kind].of(i - reach), ids[kind * wide + i]) << i - reach;
  }
}

TEST(T5, ADecoderThatHasReadNothingSaysSo) {
  const Golden golden("t5");
  ThreadPool pool(1);
  const auto decoder = Decoder::make(golden.model, {}, pool);
  std::vector<float> logits(static_cast<size_t>(decoder->vocabulary()));
  EXPECT_THROW(decoder->prefill(0, std::vector<int32_t>{0}, 0, logits), Error);
  const TokenTree tree = TokenTree::single(0);
  const Decoder::Branch branch{0, &tree};
  EXPECT_THROW(decoder->step({&branch, 1}), Error);
  decoder->read_source(0, golden.source);
  decoder->prefill(0, std::vector<int32_t>{0}, 0, logits);
  decoder->reset(0);
  EXPECT_THROW(decoder->prefill(0, std::vector<int32_t>{0}, 0, logits), Error);
}

}  // namespace
}  // namespace linnet
