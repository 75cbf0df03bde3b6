// What a Decoder makes of weights: in integers, at odd bytes, drawn at random; and what it says that it
// reads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "model/decoder.h"
#include "model/linear.h"
#include "tests/format/files.h"
#include "tests/kernels/numbers.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

TEST(Linear, BiasesFollowTheirOutputsThroughEveryPieceAndMatrix) {
  constexpr int64_t kIn = 64, kOut = 600, kRows = 3;  // enough bytes for several pieces
  const auto weights = normals(2 * kOut * kIn, 1), bias = normals(2 * kOut, 2), x = normals(kRows * kIn, 3);
  std::vector<Matrix> matrices;
  for (int64_t m : {0, 1}) {
    const auto* data = reinterpret_cast<const std::byte*>(weights.data() + m * kOut * kIn);
    matrices.push_back({{kernels::WeightType::kFloat32, kOut, kIn, data, nullptr}, nullptr});
  }
  const Linear linear(matrices, bias, false);
  ThreadPool pool(3);
  ProductScratch scratch;
  auto y = poison(kRows * 2 * kOut);
  linear.step(x.data(), kIn, kRows, y.data(), scratch, pool);
  std::vector<double> expected(y.size());
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t o = 0; o < 2 * kOut; ++o) {
      double& sum = expected[r * 2 * kOut + o] = bias[o];
      for (int64_t i = 0; i < kIn; ++i) sum += double{weights[o * kIn + i]} * double{x[r * kIn + i]};
    }
  }
  EXPECT_LT(relative_rms(y, expected), 1e-6);
}

TEST(DecoderWeights, IntegersDecodeAlikeInATreeAndAsTheNumbersThatTheyStandFor) {
  ThreadPool pool(2);
  const RandomModel spec{.hidden = 64, .heads = 4, .head_size = 16, .intermediate = 96, .type = DType::kBF16};
  const TemporaryModel model(spec);
  const auto tokens = random_tokens(9, spec.vocabulary, 1);
  const auto logits = [&](ComputeType compute, std::optional<kernels::WeightType> weights, bool as_tree) {
    const auto decoder = Decoder::make(model.get(), {.compute = compute, .weights = weights}, pool);
    std::vector<float> all;
    TokenTree tree;
    for (const int32_t token : tokens) {
      if (!as_tree) tree.clear();
      tree.add(token, tree.size() - 1);
      if (as_tree && tree.size() < std::ssize(tokens)) continue;
      const Decoder::Branch branch{0, &tree};
      decoder->step({&branch, 1});
      for (int node = 0; node < tree.size(); ++node) {
        const auto now = decoder->logits(node);
        all.insert(all.end(), now.begin(), now.end());
      }
      if (!as_tree) decoder->commit(0, std::vector<int32_t>{0});
    }
    return all;
  };
  const auto stored = logits(ComputeType::kFloat64, {}, false);
  for (const auto& [type, tolerance] :
       {std::pair(kernels::WeightType::kInt8, 0.06), std::pair(kernels::WeightType::kInt4, 0.7)}) {
    const auto exact = logits(ComputeType::kFloat64, type, false);
    EXPECT_LT(relative_rms(exact, stored), tolerance);
    EXPECT_LT(relative_rms(logits(ComputeType::kFloat32, type, false), exact), 1e-5);
    const auto rounded = logits(ComputeType::kAuto, type, false);
    EXPECT_LT(relative_rms(rounded, exact), 0.04);
    EXPECT_EQ(bits(rounded), bits(logits(ComputeType::kAuto, type, true)));
  }
}

TEST(DecoderProfile, NamesEveryWeightThatAStepReads) {
  ThreadPool pool(2);
  for (const bool gpt2 : {false, true}) {
    const RandomModel spec{.gpt2 = gpt2, .attention = kGrouped};
    const TemporaryModel model(spec);
    Profile profile;
    const auto decoder = Decoder::make(model.get(), {.profile = &profile}, pool);
    const TokenTree tree = TokenTree::single(1);
    const Decoder::Branch branch{0, &tree};
    decoder->step({&branch, 1});
    size_t bytes = profile.outside()[static_cast<size_t>(Operation::kHead)].weight_bytes;
    ASSERT_EQ(profile.layers().size(), static_cast<size_t>(spec.layers));
    for (const Profile::Operations& layer : profile.layers()) {
      for (const Profile::Entry& entry : layer) bytes += entry.weight_bytes;
      for (const Operation operation : {Operation::kNorm, Operation::kAttention})
        EXPECT_GT(layer[static_cast<size_t>(operation)].seconds, 0);
    }
    const size_t embedded = static_cast<size_t>(spec.hidden) * sizeof(float) * (gpt2 ? 2 : 1);
    EXPECT_EQ(bytes + embedded, decoder->cost().step_weight_bytes);
    profile.clear();
    EXPECT_TRUE(profile.layers().empty());
  }
}

TEST(DecoderRandom, AConfigAloneMakesAModelOfItsShape) {
  ThreadPool pool(2);
  for (const bool gpt2 : {false, true}) {
    for (const char* dtype : {"bfloat16", "float32"}) {
      const TemporaryModel written({.gpt2 = gpt2, .tied = gpt2, .biased = true, .attention = kHybrid});
      const auto file = written.folder() / "config.json";
      Json config = Json::parse(MappedFile(file).text());
      config["torch_dtype"] = dtype;
      write_file(file, config.dump());
      const auto model = Model::random(file, 3);
      for (const auto& [name, tensor] : written.get()->base_tensors().tensors()) {
        const TensorView* drawn = model->base_tensors().find(name);
        ASSERT_NE(drawn, nullptr) << name;
        EXPECT_EQ(drawn->shape, tensor.shape) << name;
        EXPECT_TRUE(is_sound(*drawn)) << name;
      }
      EXPECT_EQ(model->base_tensors().find(gpt2 ? "transformer.wte.weight" : "lm_head.weight")->type,
                std::string_view(dtype) == "float32" ? DType::kF32 : DType::kBF16);
      std::vector<float> logits(61);
      Decoder::make(model, {}, pool)->prefill(0, random_tokens(20, 61, 1), 19, logits);
      for (const float logit : logits) EXPECT_TRUE(std::isfinite(logit));
      EXPECT_NE(*std::ranges::min_element(logits), *std::ranges::max_element(logits));
    }
  }
}

TEST(DecoderRandom, RefusesAShapeThatMemoryCannotHold) {
  const TemporaryModel written({});
  const auto file = written.folder() / "config.json";
  Json config = Json::parse(MappedFile(file).text());
  config["vocab_size"] = 2'000'000'000;
  config["hidden_size"] = 48'000;
  write_file(file, config.dump());
  try {
    Model::random(file, 1);
    ADD_FAILURE() << "made";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("GB of weights, expected a shape that fits"), std::string::npos)
        << error.what();
  }
}

/// Moves every tensor of a file one byte on, behind a tensor of one byte.
void shift_tensors(const std::filesystem::path& file) {
  const std::string old(MappedFile(file).text());
  uint64_t length = 0;
  std::memcpy(&length, old.data(), sizeof(length));
  Json header = Json::parse(old.substr(8, length));
  for (auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    for (Json& offset : entry["data_offsets"]) offset = offset.get<int64_t>() + 1;
  }
  header["odd"] = {{"dtype", "U8"}, {"shape", {1}}, {"data_offsets", {0, 1}}};
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  write_file(file, safetensors(text, old.substr(8 + length).insert(0, 1, 'x')));
}

TEST(DecoderWeights, TensorsThatStandAtOddBytesComputeTheSame) {
  ThreadPool pool(1);
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const TemporaryModel model({.type = type, .attention = kGrouped});
    const auto odd = model.folder() / "odd";
    std::filesystem::create_directory(odd);
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::copy(model.folder() / name, odd / name);
    shift_tensors(odd / "model.safetensors");
    const auto shifted = Model::open(odd);
    EXPECT_EQ(shifted->unused_tensors(), std::vector<std::string>{"odd"});
    const auto logits = [&](const std::shared_ptr<const Model>& of) {
      std::vector<float> out(20 * 61);
      Decoder::make(of, {}, pool)->prefill(0, random_tokens(20, 61, 1), 0, out);
      return out;
    };
    EXPECT_EQ(bits(logits(shifted)), bits(logits(model.get())));
  }
}
}  // namespace
}  // namespace linnet
