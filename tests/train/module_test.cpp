#include "train/module.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>

#include "base/error.h"
#include "format/safetensors.h"
#include "model/decoder.h"
#include "model/quantize.h"
#include "model/teacher.h"
#include "model/write_model.h"
#include "tests/model/random_model.h"
#include "tests/model/tiny_model.h"
#include "tests/train/random_rows.h"
#include "train/weights.h"

namespace linnet::train {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> golden_folders() {
  std::vector<fs::path> folders;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(LINNET_TEST_DATA "/hf", absent)) {
    if (fs::exists(entry.path() / "config.json")) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

Module module_of_folder(const fs::path& folder, at::ScalarType compute) {
  Module::Options options;
  options.compute = compute;
  return Module(Model::open(folder), options);
}

at::Tensor integers_of(const SafetensorsFile& file, const std::string& name) {
  const TensorView& view = file.tensors().find(name)->second;
  at::Tensor x = at::empty(view.shape, at::kLong);
  std::memcpy(x.data_ptr(), view.bytes.data(), view.bytes.size());
  return x;
}

TEST(ComputeType, IsBFloat16WhereTheDeviceMultipliesIt) {
  const at::Device gpu(at::kCUDA, 0);
  for (const bool processor : {false, true}) EXPECT_EQ(fastest_compute(gpu, processor), at::kBFloat16);
  EXPECT_EQ(fastest_compute(at::kCPU, true), at::kBFloat16);
  EXPECT_EQ(fastest_compute(at::kCPU, false), at::kFloat);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble})
    EXPECT_EQ(parse_compute(std::string(compute_name(type))), type);
}

TEST(GoldenFolders, AreAllHere) { EXPECT_EQ(golden_folders().size(), 28u); }

class Golden : public testing::TestWithParam<fs::path> {};

TEST_P(Golden, LogitsAreHuggingFaces) {
  const SafetensorsFile file = SafetensorsFile::open(GetParam() / "golden.safetensors");
  const Batch batch{integers_of(file, "input_ids").unsqueeze(0), {}};
  const Module module = module_of_folder(GetParam(), at::kFloat);
  at::NoGradGuard off;
  const at::Tensor expected =
      load_tensor(file.tensors().find("logits")->second, at::kCPU, at::kFloat, "logits");
  EXPECT_LT(relative_error(module.logits(module.hidden(batch))[0], expected.view({-1, expected.size(-1)})),
            1e-5);
}

TEST_P(Golden, GradientsAreHuggingFaces) {
  const SafetensorsFile file = SafetensorsFile::open(GetParam() / "golden.safetensors");
  const at::Tensor ids = integers_of(file, "input_ids").unsqueeze(0);
  Module module = module_of_folder(GetParam(), at::kFloat);
  module.set_trainable({});
  const int64_t n = ids.size(1);
  const at::Tensor hidden = module.hidden({ids.narrow(1, 0, n - 1), {}});
  const at::Tensor loss = module.next_token_loss(hidden, ids.narrow(1, 1, n - 1));
  std::vector<at::Tensor> leaves;
  for (const Parameter& p : module.parameters()) leaves.push_back(p.tensor);
  const auto gradients = torch::autograd::grad({loss}, leaves);
  size_t compared = 0;
  for (size_t i = 0; i < leaves.size(); ++i) {
    std::string name = module.parameters()[i].name;
    auto found = file.tensors().find("gradient." + name);
    for (const std::string prefix : {"transformer.", "model."}) {  // a folder may leave the prefix out
      if (found == file.tensors().end()) found = file.tensors().find("gradient." + prefix + name);
    }
    ASSERT_NE(found, file.tensors().end()) << name;
    EXPECT_LT(relative_error(gradients[i], load_tensor(found->second, at::kCPU, at::kFloat, name)), 1e-4)
        << name;
    ++compared;
  }
  const size_t expected =
      static_cast<size_t>(std::count_if(file.tensors().begin(), file.tensors().end(),
                                        [](auto& t) { return t.first.rfind("gradient.", 0) == 0; }));
  EXPECT_EQ(compared, expected);
}

/// Logits of 40 tokens by the module and by the decoder, both in float32.
void expect_logits_of_the_decoder(const std::shared_ptr<const Model>& model) {
  at::NoGradGuard off;
  const at::Tensor ids = at::arange(40, at::kLong).remainder(model->config().vocabulary).unsqueeze(0);
  const Module module(model, {});
  ThreadPool pool(1);
  const auto decoder = Decoder::make(model, {.compute = ComputeType::kFloat32}, pool);
  std::vector<int32_t> tokens(40);
  for (int i = 0; i < 40; ++i)
    tokens[static_cast<size_t>(i)] = static_cast<int32_t>(ids[0][i].item<int64_t>());
  std::vector<float> logits(40 * static_cast<size_t>(model->config().vocabulary));
  decoder->prefill(0, tokens, 0, logits);
  const at::Tensor expected =
      at::from_blob(logits.data(), {40, model->config().vocabulary}, at::TensorOptions().dtype(at::kFloat));
  EXPECT_LT(relative_error(module.logits(module.hidden({ids, {}}))[0], expected), 1e-5);
}

TEST_P(Golden, LogitsAreTheDecoders) { expect_logits_of_the_decoder(Model::open(GetParam())); }

// Unrotated features behind a local branch: what a family does to queries, keys and scores in all its places.
TEST_P(Golden, LinearizedLogitsAreTheDecodersAndBeginAsHuggingFaces) {
  const auto base = Model::open(GetParam());
  if (base->config().raw.contains("linear_attention")) return;  // it begins as no softmax
  const auto model = base->with_attention(attention_over(base->config(),
                                                         {{"method", "elu1"},
                                                          {"local", "softmax"},
                                                          {"group", 2},
                                                          {"local_groups", 2},
                                                          {"alpha", 0.5},
                                                          {"feature_position", "none"}},
                                                         "test"));
  expect_logits_of_the_decoder(model);
  // The first W groups have an empty summary.
  const SafetensorsFile file = SafetensorsFile::open(GetParam() / "golden.safetensors");
  at::NoGradGuard off;
  const Module module(model, {});
  const at::Tensor ids = integers_of(file, "input_ids").narrow(0, 0, 4).unsqueeze(0);
  const at::Tensor expected =
      load_tensor(file.tensors().find("logits")->second, at::kCPU, at::kFloat, "logits");
  EXPECT_LT(relative_error(module.logits(module.hidden({ids, {}}))[0], expected.narrow(0, 0, 4)), 1e-5);
}

TEST(Quantized, AModelComputesWhatItsIntegersStandForAndDoesNotTrainThem) {
  for (const bool gpt2 : {false, true}) {
    const TemporaryModel original(
        {.gpt2 = gpt2, .hidden = 64, .heads = 4, .head_size = 16, .intermediate = 96, .type = DType::kBF16});
    const fs::path folder = original.folder() / "integers";
    ThreadPool pool(1);
    write_quantized(folder, *original.get(), {.type = kernels::WeightType::kInt4}, kShardBytes, pool);
    const auto model = Model::open(folder);
    expect_logits_of_the_decoder(model);
    Module module(model, {});
    for (const Train what : {Train::kAll, Train::kAttention})
      EXPECT_THROW(module.set_trainable({.what = what}), Error);
    EXPECT_THROW(module.set_trainable({.what = Train::kLora, .embeddings_and_norms = true}), Error);
    module.set_trainable({.what = Train::kLora});
    EXPECT_EQ(module.parameters().size(),
              gpt2 ? 18u : 24u);  // A and B of three or four matrices in three layers
  }
}

TEST(Quantized, HeadsThatStandSideBySideInOneMatrixAreTakenApartInIntegersToo) {
  const TemporaryFolder folder;
  const nlohmann::json config = {{"model_type", "gpt_neox"}, {"hidden_size", 64},
                                 {"num_hidden_layers", 2},   {"num_attention_heads", 4},
                                 {"intermediate_size", 96},  {"vocab_size", 48},
                                 {"rotary_pct", 0.5},        {"max_position_embeddings", 64}};
  const auto original = Model::open(make_tiny(config).write(folder.path, "neox"));
  ThreadPool pool(1);
  for (const bool offsets : {false, true}) {
    const fs::path integers = folder.path / (offsets ? "offsets" : "integers");
    write_quantized(integers, *original, {.type = kernels::WeightType::kInt4, .symmetric = !offsets},
                    kShardBytes, pool);
    expect_logits_of_the_decoder(Model::open(integers));
  }
}

INSTANTIATE_TEST_SUITE_P(HuggingFace, Golden, testing::ValuesIn(golden_folders()), [](const auto& info) {
  std::string name = info.param.filename().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

ModelConfig small_config() {
  return ModelConfig::parse(
      nlohmann::json::parse(R"({"model_type": "llama", "hidden_size": 24, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40, "vocab_size": 50,
      "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu"})"),
      "test");
}

Module small_module(at::ScalarType compute = at::kDouble, bool checkpointing = false, uint64_t seed = 3) {
  Module::Options options;
  options.compute = compute;
  options.checkpointing = checkpointing;
  return Module(small_config(), seed, options);
}

std::vector<AttentionConfig> grouped(int layers) {
  return std::vector<AttentionConfig>(
      static_cast<size_t>(layers),
      parse_layer_attention(nlohmann::json::parse(R"({"method": "grouped", "group": 4, "sinks": 2})"),
                            "test"));
}

Batch small_batch(int64_t rows = 2, int64_t n = 40) {
  return {at::arange(rows * n, at::kLong).mul(7).remainder(50).view({rows, n}), {}};
}

at::Tensor gradient_of(const at::Tensor& loss, const std::vector<Parameter>& parameters) {
  std::vector<at::Tensor> leaves, flat;
  for (const Parameter& p : parameters) leaves.push_back(p.tensor);
  for (const at::Tensor& g : torch::autograd::grad({loss}, leaves, {}, true)) flat.push_back(g.reshape({-1}));
  return at::cat(flat);
}

TEST(Module, IsAFunctionOfItsSeed) {
  const auto all = [](uint64_t seed) {
    std::vector<at::Tensor> flat;
    for (const Parameter& p : small_module(at::kDouble, false, seed).tensors())
      flat.push_back(p.tensor.reshape({-1}));
    return at::cat(flat);
  };
  EXPECT_TRUE(all(3).equal(all(3)));
  EXPECT_FALSE(all(3).equal(all(4)));
}

/// Three layers, the last two of which see five tokens.
Module windowed_module() {
  return module_of_folder(fs::path(LINNET_TEST_DATA) / "hf" / "qwen2-window", at::kDouble);
}

TEST(Module, TheTeacherIsTheSoftmaxModelWhateverTheAttention) {
  at::NoGradGuard off;
  for (Module (*const make)() : {+[] { return small_module(); }, +[] { return windowed_module(); }}) {
    Module module = make();
    const at::Tensor before = module.hidden(small_batch());
    module.set_attention(grouped(static_cast<int>(module.attention().size())), 1);
    EXPECT_TRUE(module.hidden(small_batch(), Mode::kTeacher).equal(before));
    EXPECT_FALSE(module.hidden(small_batch()).equal(before));
  }
}

TEST(Module, TheTeachersWindowsAreItsOwn) {
  Module module = windowed_module();
  at::NoGradGuard off;
  const at::Tensor before = module.hidden(small_batch());
  module.set_attention(std::vector<AttentionConfig>(3), 1);  // over all tokens
  const at::Tensor all = module.hidden(small_batch());
  EXPECT_LT(relative_error(all.narrow(1, 0, 5), before.narrow(1, 0, 5)), 1e-12);
  EXPECT_GT(relative_error(all.narrow(1, 5, 35), before.narrow(1, 5, 35)), 1e-2);
  const Module fresh(module.config(), 1, {});
  EXPECT_EQ(fresh.attention(), windowed_module().attention());
}

TEST(Module, TransferTargetsAreTheWindowedAttentions) {
  Module module = windowed_module();
  module.set_attention(grouped(3), 1);
  module.set_trainable({.what = Train::kNew});
  // The local branch's four groups of four reach past the teacher's five tokens.
  EXPECT_LT(module.transfer_loss(small_batch(2, 5)).item<double>(), 1e-20);
  EXPECT_GT(module.transfer_loss(small_batch(2, 8)).item<double>(), 1e-3);
}

TEST(Module, TheTeacherStaysTheBaseWhereItIsKept) {
  for (const bool keep : {false, true}) {
    Module module = small_module();
    module.set_attention(grouped(2), 1);
    Trainable trainable;
    trainable.keep_teacher = keep;
    module.set_trainable(trainable);
    const at::Tensor before = module.hidden(small_batch(), Mode::kTeacher).clone();
    at::NoGradGuard off;
    for (const Parameter& p : module.parameters()) p.tensor.mul_(1.1);
    EXPECT_EQ(module.hidden(small_batch(), Mode::kTeacher).equal(before), keep);
  }
}

TEST(Module, TrainsExactlyWhatItWasAskedTo) {
  const struct {
    Train what;
    size_t base, added, lora;
  } rows[] = {{Train::kNew, 0, 12, 0},
              {Train::kLora, 0, 12, 16},
              {Train::kAttention, 10, 12, 0},
              {Train::kAll, 20, 12, 0}};
  for (const auto& row : rows) {
    Module module = small_module();
    module.set_attention(grouped(2), 1);
    Trainable trainable;
    trainable.what = row.what;
    module.set_trainable(trainable);
    size_t counts[3] = {};
    for (const Parameter& p : module.parameters()) {
      ++counts[static_cast<size_t>(p.kind)];
      EXPECT_TRUE(p.tensor.is_leaf() && p.tensor.requires_grad()) << p.name;
    }
    EXPECT_EQ(counts[0], row.base);
    EXPECT_EQ(counts[1], row.added);
    EXPECT_EQ(counts[2], row.lora);
    // Everything trained gets a gradient. LoRA's A gets zeros while B is zero.
    const at::Tensor hidden = module.hidden(small_batch());
    const at::Tensor loss = module.next_token_loss(hidden, small_batch().tokens);
    gradient_of(loss, module.parameters());
  }
}

TEST(Module, FreshLoraChangesNothing) {
  Module module = small_module();
  at::NoGradGuard off;
  const at::Tensor before = module.hidden(small_batch());
  Trainable trainable;
  trainable.what = Train::kLora;
  module.set_trainable(trainable);
  EXPECT_TRUE(module.hidden(small_batch()).equal(before));
  for (const Parameter& p : module.parameters()) p.tensor.add_(0.1);
  EXPECT_FALSE(module.hidden(small_batch()).equal(before));
  EXPECT_TRUE(module.hidden(small_batch(), Mode::kTeacher).equal(before));
}

TEST(Module, NamesALoraTargetThatNoMatrixHas) {
  Module module = small_module();
  Trainable trainable;
  trainable.what = Train::kLora;
  trainable.lora_targets = {"q_porj"};
  try {
    module.set_trainable(trainable);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean q_proj"), std::string::npos) << error.what();
  }
}

TEST(Module, RefusesToTrainNothing) {
  Module module = small_module();
  Trainable trainable;
  trainable.what = Train::kNew;
  EXPECT_THROW(module.set_trainable(trainable), Error);
}

TEST(Module, CheckpointingChangesNoGradient) {
  at::Tensor gradients[2];
  for (const bool checkpointing : {false, true}) {
    Module module = small_module(at::kDouble, checkpointing);
    module.set_attention(grouped(2), 1);
    Trainable trainable;
    trainable.what = Train::kLora;
    module.set_trainable(trainable);
    for (const Parameter& p : module.parameters()) {
      if (p.kind == ParameterKind::kLora) p.tensor.detach().add_(0.01);
    }
    const Batch batch = small_batch();
    gradients[checkpointing] =
        gradient_of(module.next_token_loss(module.hidden(batch), batch.tokens), module.parameters());
  }
  EXPECT_LT(relative_error(gradients[1], gradients[0]), 1e-12);
}

TEST(Module, PackedDocumentsAreEachAlone) {
  Module module = small_module();
  module.set_attention(grouped(2), 1);
  at::NoGradGuard off;
  Batch batch = small_batch(1, 40);
  batch.documents = at::cat({at::zeros({1, 17}, at::kInt), at::ones({1, 23}, at::kInt)}, 1);
  for (const Mode mode : {Mode::kStudent, Mode::kTeacher}) {
    const at::Tensor packed = module.hidden(batch, mode);
    const at::Tensor first = module.hidden({batch.tokens.narrow(1, 0, 17), {}}, mode);
    const at::Tensor second = module.hidden({batch.tokens.narrow(1, 17, 23), {}}, mode);
    EXPECT_LT(relative_error(packed.narrow(1, 0, 17), first), 1e-12) << (mode == Mode::kTeacher);
    EXPECT_LT(relative_error(packed.narrow(1, 17, 23), second), 1e-12) << (mode == Mode::kTeacher);
  }
}

TEST(Module, TransferLossIsThePerLayerRelativeErrorAndReachesNewTensorsAlone) {
  Module module = small_module();
  module.set_attention(grouped(2), 1);
  Trainable trainable;
  trainable.what = Train::kNew;
  module.set_trainable(trainable);
  const at::Tensor loss = module.transfer_loss(small_batch());
  EXPECT_GT(loss.item<double>(), 0.0);
  EXPECT_GT(gradient_of(loss, module.parameters()).abs().max().item<double>(), 0.0);
  // The first W groups are exactly the teacher, so short rows lose nothing.
  EXPECT_LT(module.transfer_loss(small_batch(2, 16)).item<double>(), 1e-20);
}

TEST(Module, TransferKeepsNothingOfALayerButItsGradients) {
  Module module = small_module();
  module.set_attention(grouped(2), 1);
  module.set_trainable({.what = Train::kNew});
  std::set<torch::autograd::Node*> seen;
  const at::Tensor loss = module.transfer_loss(small_batch());
  std::vector<torch::autograd::Node*> waiting{loss.grad_fn().get()};
  ASSERT_NE(waiting.front(), nullptr);
  while (!waiting.empty()) {
    torch::autograd::Node* const node = waiting.back();
    waiting.pop_back();
    if (node == nullptr || !seen.insert(node).second) continue;
    for (const auto& edge : node->next_edges()) waiting.push_back(edge.function.get());
  }
  // A sum of layers, each with one node, and one leaf for each tensor.
  EXPECT_LE(seen.size(), 2 * module.attention().size() + 2 * module.parameters().size());
}

TEST(Module, KlOfAModelToItselfIsNothing) {
  Module module = small_module();
  EXPECT_NEAR(module.distill_loss(small_batch()).item<double>(), 0.0, 1e-12);
}

TEST(Module, DistillationIsTheKlOfTheStudentsLogitsToTheTeachers) {
  Module module = small_module();
  module.set_attention(grouped(2), 1);
  at::NoGradGuard off;
  Batch batch = small_batch(1, 60);
  batch.documents = at::cat({at::zeros({1, 27}, at::kInt), at::ones({1, 33}, at::kInt)}, 1);
  const auto log_p = [&](Mode mode) {
    return module.logits(module.hidden(batch, mode), mode).log_softmax(-1);
  };
  const at::Tensor teacher = log_p(Mode::kTeacher);
  const double kl = (teacher.exp() * (teacher - log_p(Mode::kStudent))).sum(-1).mean().item<double>();
  EXPECT_GT(kl, 1e-9);
  EXPECT_NEAR(module.distill_loss(batch).item<double>(), kl, 1e-12);
}

TEST(Module, Bfloat16StaysNearFloat32) {
  Module exact = small_module(at::kFloat), half = small_module(at::kBFloat16);
  exact.set_attention(grouped(2), 1);
  half.set_attention(grouped(2), 1);
  at::NoGradGuard off;
  EXPECT_LT(relative_error(half.hidden(small_batch()), exact.hidden(small_batch())), 2e-2);
}

TEST(Module, Stories260kGivesTheDecodersLogits) {
  const fs::path folder = fs::path(LINNET_SHARED) / "data/models/stories260k";
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is absent";
  const auto model = Model::open(folder);
  at::NoGradGuard off;
  const at::Tensor ids =
      at::arange(100, at::kLong).mul(37).remainder(model->config().vocabulary).unsqueeze(0);
  const Module module(model, {});
  ThreadPool pool(2);
  const auto decoder = Decoder::make(model, {.compute = ComputeType::kFloat32}, pool);
  std::vector<int32_t> tokens(100);
  for (size_t i = 0; i < 100; ++i)
    tokens[i] = static_cast<int32_t>(i * 37 % static_cast<size_t>(model->config().vocabulary));
  std::vector<float> logits(100 * static_cast<size_t>(model->config().vocabulary));
  decoder->prefill(0, tokens, 0, logits);
  const at::Tensor expected =
      at::from_blob(logits.data(), {100, model->config().vocabulary}, at::TensorOptions().dtype(at::kFloat));
  EXPECT_LT(relative_error(module.logits(module.hidden({ids, {}}))[0], expected), 1e-5);
}

}  // namespace
}  // namespace linnet::train
