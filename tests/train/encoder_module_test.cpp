// Encoders in the workshop: Hugging Face's numbers (tests/data/encoders), the runtime's rows, padding,
// masking.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "evaluate/masked_meter.h"
#include "format/safetensors.h"
#include "model/encoder.h"
#include "model/teacher.h"
#include "tests/train/random_rows.h"
#include "train/module.h"
#include "train/optimizer.h"
#include "train/weights.h"

namespace linnet::train {
namespace {

namespace fs = std::filesystem;
const fs::path kFolder = LINNET_TEST_DATA "/encoders";

class File {
 public:
  explicit File(const fs::path& folder) : file_(SafetensorsFile::open(folder / "golden.safetensors")) {}
  bool has(const std::string& name) const { return file_.tensors().contains(name); }
  at::Tensor ids(const char* name) const {
    const TensorView& view = file_.tensors().find(name)->second;
    at::Tensor x = at::empty(view.shape, at::kLong);
    std::memcpy(x.data_ptr(), view.bytes.data(), view.bytes.size());
    return x;
  }
  at::Tensor numbers(const std::string& name, at::ScalarType type = at::kFloat) const {
    return load_tensor(file_.tensors().find(name)->second, at::kCPU, type, name);
  }
  size_t gradients() const {
    size_t count = 0;
    for (const auto& [name, view] : file_.tensors()) count += name.starts_with("gradient.");
    return count;
  }
  std::string optimizer() const { return file_.metadata().find("optimizer")->second; }

 private:
  SafetensorsFile file_;
};

/// The mean loss over the labels, as make_encoders.py has it.
at::Tensor loss_of(const Module& module, const File& file) {
  const at::Tensor labels = file.ids("labels"), places = at::nonzero(labels >= 0).squeeze(1);
  const at::Tensor hidden = module.hidden(
      {.tokens = file.ids("masked_ids").unsqueeze(0), .types = file.ids("token_type_ids").unsqueeze(0)});
  return module.next_token_loss(hidden[0].index_select(0, places), labels.index_select(0, places));
}

class EncoderModule : public testing::TestWithParam<const char*> {
 protected:
  fs::path folder() const { return kFolder / GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Checkpoints, EncoderModule,
                         testing::Values("bert-bare", "bert", "roberta", "xlm-roberta"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(EncoderModule, RowsAndLogitsAreTransformersWhateverPaddingStandsBehind) {
  const File file(folder());
  at::NoGradGuard off;
  const Module module(Model::open(folder()), {.pooler = file.has("pooled")});
  const at::Tensor ids = file.ids("input_ids"), short_ids = file.ids("short_ids"),
                   expected = file.numbers("hidden");
  const int64_t n = ids.size(0), m = short_ids.size(0);
  at::Tensor tokens = at::full({2, n}, 3, at::kLong), types = at::zeros({2, n}, at::kLong);
  tokens[0] = ids;
  types[0] = file.ids("token_type_ids");
  tokens[1].narrow(0, 0, m).copy_(short_ids);
  const at::Tensor hidden =
      module.hidden({.tokens = tokens, .lengths = at::tensor({n, m}, at::kLong), .types = types});
  EXPECT_LT(relative_error(hidden[0], expected), 1e-5);
  EXPECT_LT(relative_error(hidden[1].narrow(0, 0, m), file.numbers("short_hidden")), 1e-5);
  EXPECT_EQ(module.has_pooler(), file.has("pooled"));
  if (file.has("pooled")) {
    EXPECT_LT(relative_error(module.pooled(hidden[0][0]), file.numbers("pooled")), 1e-5);
  }
  EXPECT_EQ(module.has_head(), file.has("logits"));
  if (file.has("logits")) {
    EXPECT_LT(relative_error(module.logits(expected), file.numbers("logits")), 1e-5);
  } else {
    EXPECT_THROW(module.logits(expected), Error);
  }
}

TEST_P(EncoderModule, TheRuntimesMaskedLossIsTransformers) {
  const File file(folder());
  if (!file.has("labels")) return;
  const auto numbers_of = [&](const char* name) {
    const at::Tensor ids = file.ids(name).to(at::kInt);
    return std::vector<int32_t>(ids.data_ptr<int32_t>(), ids.data_ptr<int32_t>() + ids.numel());
  };
  MaskedText text{.tokens = numbers_of("masked_ids"), .types = numbers_of("token_type_ids")};
  const std::vector<int32_t> labels = numbers_of("labels");
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0) continue;
    text.places.push_back(static_cast<int64_t>(i));
    text.wanted.push_back(labels[i]);
  }
  const auto model = Model::open(folder());
  if (model->config().token_types < 2) text.types.clear();
  ThreadPool pool(1);
  const auto encoder = Encoder::make(model, {}, pool);
  // Beside another text, whose tokens are asked for too.
  const std::vector<MaskedText> two{{.tokens = text.wanted, .places = {0}, .wanted = {1}}, text};
  const std::vector<double> losses = masked_losses(*encoder, model->config().vocabulary, two, pool);
  ASSERT_EQ(losses.size(), text.places.size() + 1);
  double mean = 0;
  for (size_t i = 1; i < losses.size(); ++i) mean += losses[i] / static_cast<double>(text.places.size());
  EXPECT_NEAR(mean, file.numbers("losses", at::kDouble)[0].item<double>(), 1e-5);
}

TEST_P(EncoderModule, GradientsAndTenStepsOfAdamWAreTransformers) {
  const File file(folder());
  if (!file.has("labels")) return;
  Module module(Model::open(folder()), {});
  module.set_trainable({});
  std::vector<at::Tensor> leaves;
  const auto parameters = module.parameters();
  for (const Parameter& p : parameters) leaves.push_back(p.tensor);
  const auto gradients = torch::autograd::grad({loss_of(module, file)}, leaves, {}, {}, false, true);
  size_t compared = 0;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (!file.has("gradient." + parameters[i].name)) {
      EXPECT_FALSE(gradients[i].defined()) << parameters[i].name;
      continue;
    }
    ++compared;
    ASSERT_TRUE(gradients[i].defined()) << parameters[i].name;
    const at::Tensor expected = file.numbers("gradient." + parameters[i].name);
    // A key's bias moves all scores of a query alike: its gradient is rounding.
    if (expected.abs().max().item<double>() < 1e-6) continue;
    EXPECT_LT(relative_error(gradients[i], expected), 1e-4) << parameters[i].name;
  }
  EXPECT_EQ(compared, file.gradients());
  const auto numbers = nlohmann::json::parse(file.optimizer());
  AdamW optimizer(parameters, {.beta1 = numbers["beta1"],
                               .beta2 = numbers["beta2"],
                               .epsilon = numbers["epsilon"],
                               .weight_decay = numbers["weight_decay"]});
  const at::Tensor losses = file.numbers("losses", at::kDouble);
  for (int64_t step = 0; step < losses.numel(); ++step) {
    const at::Tensor loss = loss_of(module, file);
    EXPECT_NEAR(loss.item<double>(), losses[step].item<double>(), 1e-4) << "step " << step;
    loss.backward();
    optimizer.clip_gradients(0);
    optimizer.step(numbers["learning_rate"]);
  }
}

/// An encoder under each of these attentions.
std::shared_ptr<const Model> with(const std::shared_ptr<const Model>& base, const nlohmann::json& object) {
  return base->with_attention(attention_over(base->config(), object, "test"));
}

TEST(EncoderModules, LinearizedRowsAreTheRuntimes) {
  const File file(kFolder / "bert-bare");
  at::NoGradGuard off;
  const auto base = Model::open(kFolder / "bert-bare");
  const at::Tensor ids = file.ids("input_ids"), types = file.ids("token_type_ids");
  std::vector<int32_t> tokens, kinds;
  for (int64_t i = 0; i < ids.size(0); ++i) {
    tokens.push_back(static_cast<int32_t>(ids[i].item<int64_t>()));
    kinds.push_back(static_cast<int32_t>(types[i].item<int64_t>()));
  }
  ThreadPool pool(1);
  for (const nlohmann::json& object :
       {nlohmann::json{{"method", "elu1"}},
        nlohmann::json{{"method", "elu1"}, {"local", "softmax"}, {"group", 8}, {"alpha", 0.5}},
        nlohmann::json{{"method", "relu"}, {"group", 4}}}) {
    const auto model = with(base, object);
    const auto encoder = Encoder::make(model, {.compute = ComputeType::kFloat32}, pool);
    std::vector<float> rows(tokens.size() * 36);
    const Encoder::Sequence sequence{tokens, kinds};
    encoder->encode({&sequence, 1}, rows);
    const Module module(model, {});
    const at::Tensor own = module.hidden({.tokens = ids.unsqueeze(0), .types = types.unsqueeze(0)})[0];
    EXPECT_LT(relative_error(own, at::from_blob(rows.data(), own.sizes().vec(), at::kFloat)), 1e-5) << object;
  }
}

TEST(EncoderModules, LearnFromTheSoftmaxTeacherWithoutAHeadAndWithPadding) {
  const auto base = Model::open(kFolder / "bert-bare");
  Module module(base, {});
  module.set_attention(attention_over(base->config(), {{"method", "hedgehog"}, {"group", 8}}, "test"), 0);
  module.set_trainable({.what = Train::kNew, .keep_teacher = true});
  const at::Tensor tokens = at::arange(64, at::kLong).remainder(100).view({2, 32});
  const Batch batch{.tokens = tokens, .lengths = at::tensor({32, 20}, at::kLong)};
  // What stands behind a sequence changes no loss.
  at::Tensor other = tokens.clone();
  other[1].narrow(0, 20, 12).fill_(7);
  const Batch same{.tokens = other, .lengths = batch.lengths};
  EXPECT_EQ(module.transfer_loss(batch).item<float>(), module.transfer_loss(same).item<float>());
  EXPECT_EQ(module.distill_loss(batch).item<float>(), module.distill_loss(same).item<float>());
  AdamW optimizer(module.parameters(), {});
  for (const bool transfer : {true, false}) {
    const auto loss = [&] { return transfer ? module.transfer_loss(batch) : module.distill_loss(batch); };
    const float before = loss().item<float>();
    for (int step = 0; step < 10; ++step) {
      loss().backward();
      optimizer.clip_gradients(0);
      optimizer.step(1e-2);
    }
    EXPECT_LT(loss().item<float>(), 0.9F * before);
  }
  EXPECT_THROW(module.hidden({.tokens = tokens, .documents = at::zeros({2, 32}, at::kInt)}), Error);
}

TEST(Masking, ChoosesFifteenPercentAndLeavesSpecialTokens) {
  const EncoderTokens special{.first = 2, .separator = 3, .mask = 4, .vocabulary = 1000};
  std::vector<int32_t> row(1000);
  for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<int32_t>(10 + i % 900);
  int64_t chosen = 0, masked = 0, kept = 0;
  for (int64_t index = 0; index < 40; ++index) {
    std::vector<int32_t> tokens = row;
    tokens[500] = special.separator;
    frame(tokens, special);
    EXPECT_EQ(tokens.front(), 2);
    EXPECT_EQ(tokens.back(), 3);
    const std::vector<int32_t> before = tokens;
    const auto places = mask_tokens(tokens, special, 1, index);
    std::vector<int32_t> again = before;
    EXPECT_EQ(mask_tokens(again, special, 1, index), places);
    EXPECT_EQ(again, tokens);
    const std::set<int64_t> set(places.begin(), places.end());
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (!set.contains(static_cast<int64_t>(i))) {
        EXPECT_EQ(tokens[i], before[i]);
        continue;
      }
      EXPECT_NE(before[i], 2);
      EXPECT_NE(before[i], 3);
      masked += tokens[i] == special.mask;
      kept += tokens[i] == before[i];
    }
    chosen += std::ssize(places);
  }
  EXPECT_NEAR(static_cast<double>(chosen) / 40000, 0.15, 0.01);
  EXPECT_NEAR(static_cast<double>(masked) / static_cast<double>(chosen), 0.8, 0.03);
  EXPECT_NEAR(static_cast<double>(kept) / static_cast<double>(chosen), 0.1, 0.02);
  std::vector<int32_t> lonely = {2, 50, 3};
  EXPECT_EQ(mask_tokens(lonely, special, 1, 0), std::vector<int64_t>{1});
  EXPECT_THROW(mask_tokens(lonely, {.first = 2, .separator = 3}, 1, 0), Error);
}

}  // namespace
}  // namespace linnet::train
