// A model of an encoder and a decoder in training: transformers' numbers (scripts/golden/make_t5.py), and the
// runtime's.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "format/safetensors.h"
#include "model/decoder.h"
#include "model/teacher.h"
#include "tests/train/random_rows.h"
#include "train/module.h"
#include "train/optimizer.h"
#include "train/pairs.h"
#include "train/weights.h"

namespace linnet::train {
namespace {

struct Folder {
  explicit Folder(const std::string& name)
      : model(Model::open(std::filesystem::path(LINNET_TEST_DATA "/t5") / name)),
        file(SafetensorsFile::open(model->folder() / "golden.safetensors")),
        labels(integers("labels")) {
    const at::Tensor start = at::full({1, 1}, model->config().start, at::kLong);
    batch.tokens = at::cat({start, labels.narrow(1, 0, labels.size(1) - 1)}, 1);
    batch.source = integers("source");
  }
  at::Tensor integers(const std::string& name) const {
    const TensorView& view = file.tensors().find(name)->second;
    at::Tensor x = at::empty(view.shape, at::kLong);
    std::memcpy(x.data_ptr(), view.bytes.data(), view.bytes.size());
    return x.unsqueeze(0);
  }
  at::Tensor numbers(const std::string& name) const {
    return load_tensor(file.tensors().find(name)->second, at::kCPU, at::kFloat, name);
  }

  std::shared_ptr<const Model> model;
  SafetensorsFile file;
  at::Tensor labels;
  Batch batch;
};

class T5Training : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Checkpoints, T5Training, testing::Values("t5", "t5-gated"),
                         [](const auto& info) { return info.param == "t5" ? "First" : "Gated"; });

TEST_P(T5Training, LogitsAreTransformers) {
  const Folder folder(GetParam());
  const Module module(folder.model, {});
  at::NoGradGuard off;
  EXPECT_LT(relative_error(module.logits(module.hidden(folder.batch))[0], folder.numbers("logits")), 1e-5);
}

TEST_P(T5Training, GradientsAreTransformersWithAndWithoutCheckpointing) {
  const Folder folder(GetParam());
  for (const bool checkpointing : {false, true}) {
    Module module(folder.model, {.checkpointing = checkpointing});
    module.set_trainable({});
    const at::Tensor loss = module.next_token_loss(module.hidden(folder.batch), folder.labels);
    std::vector<at::Tensor> leaves;
    for (const Parameter& p : module.parameters()) leaves.push_back(p.tensor);
    const auto gradients = torch::autograd::grad({loss}, leaves);
    for (size_t i = 0; i < leaves.size(); ++i) {
      const std::string name = module.parameters()[i].name;
      EXPECT_LT(relative_error(gradients[i], folder.numbers("gradient." + name)), 1e-4) << name;
    }
    const auto expected = std::ranges::count_if(
        folder.file.tensors(), [](const auto& tensor) { return tensor.first.starts_with("gradient."); });
    EXPECT_EQ(std::ssize(leaves), expected);
  }
}

TEST_P(T5Training, TenLossesAreTransformers) {
  const Folder folder(GetParam());
  const auto number = [&](const char* key) { return std::stod(folder.file.metadata().at(key)); };
  const at::Tensor losses =
      load_tensor(folder.file.tensors().find("losses")->second, at::kCPU, at::kDouble, "");
  Module module(folder.model, {});
  module.set_trainable({.what = Train::kAll});
  AdamW optimizer(module.parameters(), {.beta1 = number("beta1"),
                                        .beta2 = number("beta2"),
                                        .epsilon = number("epsilon"),
                                        .weight_decay = number("weight_decay")});
  for (int64_t step = 0; step < losses.numel(); ++step) {
    const at::Tensor loss = module.next_token_loss(module.hidden(folder.batch), folder.labels);
    EXPECT_NEAR(loss.item<double>(), losses[step].item<double>(), 1e-4) << "step " << step;
    loss.backward();
    optimizer.clip_gradients(0);
    optimizer.step(number("learning_rate"));
  }
}

// Of each kind of attention the three forms: rows at once, prefill in pieces, token by token.
TEST_P(T5Training, LinearizedLogitsAreTheDecodersInEveryForm) {
  const Folder folder(GetParam());
  const nlohmann::json local = {{"method", "elu1"}, {"local", "softmax"}, {"group", 4}, {"alpha", 0.5}};
  nlohmann::json wide = local, kept = local, weighed = local;
  wide.update({{"local_groups", 2}, {"sinks", 2}, {"feature_position", "none"}});
  kept.update({{"local_groups", 2}, {"sinks", 1}, {"kept", 3}});
  weighed.update({{"local", "relu2"}});
  const nlohmann::json plain = {{"method", "elu1"}};
  const nlohmann::json softmax = nlohmann::json::object({{"method", "softmax"}});
  const std::vector<nlohmann::json> kinds = {
      {{"decoder", local}, {"cross", plain}, {"encoder", local}},
      {{"decoder", wide}, {"cross", softmax}, {"encoder", plain}},
      {{"decoder", kept}, {"encoder", weighed}},
      {{"decoder", weighed}, {"cross", plain}},
      {{"cross", plain}, {"encoder", softmax}},
  };
  for (const nlohmann::json& kind : kinds) {
    const auto model = folder.model->with_attention(attention_over(folder.model->config(), kind, "test"));
    const Module module(model, {});
    at::NoGradGuard off;
    const at::Tensor expected = module.logits(module.hidden(folder.batch))[0];
    ThreadPool pool(2);
    const auto read = [](const at::Tensor& ids) {
      std::vector<int32_t> out;
      for (int64_t i = 0; i < ids.size(1); ++i)
        out.push_back(static_cast<int32_t>(ids[0][i].item<int64_t>()));
      return out;
    };
    const std::vector<int32_t> tokens = read(folder.batch.tokens), source = read(folder.batch.source);
    const auto vocabulary = static_cast<size_t>(model->config().vocabulary);
    const auto decoder = Decoder::make(model, {.compute = ComputeType::kFloat32, .chunk = 7}, pool);
    std::vector<float> rows(tokens.size() * vocabulary), steps;
    decoder->read_source(0, source);
    decoder->prefill(0, tokens, 0, rows);
    decoder->read_source(0, source);
    for (const int32_t token : tokens) {
      const TokenTree tree = TokenTree::single(token);
      const Decoder::Branch branch{0, &tree};
      decoder->step({&branch, 1});
      const auto logits = decoder->logits(0);
      steps.insert(steps.end(), logits.begin(), logits.end());
      decoder->commit(0, std::vector<int32_t>{0});
    }
    const auto as_tensor = [&](std::vector<float>& of) {
      return at::from_blob(of.data(), expected.sizes(), at::kFloat);
    };
    EXPECT_LT(relative_error(as_tensor(rows), expected), 1e-5) << kind;
    EXPECT_LT(relative_error(as_tensor(steps), expected), 1e-5) << kind;
  }
}

TEST(T5, EveryStackLearnsToAttendAsItsTeacher) {
  const Folder folder("t5");
  const nlohmann::json local = {
      {"method", "hedgehog"}, {"local", "softmax"}, {"group", 4}, {"alpha", "learned"}};
  const nlohmann::json kind = {{"decoder", local}, {"cross", {{"method", "hedgehog"}}}, {"encoder", local}};
  Module module(folder.model, {});
  module.set_attention(attention_over(folder.model->config(), kind, "test"), 1);
  module.set_trainable({.what = Train::kNew});
  AdamW optimizer(module.parameters(), {});
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    const at::Tensor loss = module.transfer_loss(folder.batch);
    loss.backward();
    if (step == 0) {
      first = loss.item<double>();
      for (const Parameter& p : module.parameters()) {
        // Nothing is weighed by a tap, a gate or a decay here: every new tensor has a part in its output.
        EXPECT_GT(p.tensor.grad().abs().max().item<double>(), 0) << p.name;
      }
    }
    last = loss.item<double>();
    optimizer.step(1e-2);
  }
  EXPECT_LT(last, 0.9 * first);
}

/// The golden pairs.
TokenPairs pairs_of(const Folder& folder) {
  TokenPairs pairs{.start = static_cast<int32_t>(folder.model->config().start)};
  for (const auto& [side, to] : {std::pair("source", &pairs.sources), std::pair("labels", &pairs.targets)}) {
    for (int i = 0; i < 3; ++i) {
      const at::Tensor ids = folder.integers(fmt::format("pair.{}.{}", side, i)).to(at::kInt);
      to->emplace_back(ids.data_ptr<int32_t>(), ids.data_ptr<int32_t>() + ids.numel());
    }
  }
  return pairs;
}

TEST_P(T5Training, PairsOfOtherLengthsAreOneBatchAsTransformersFillsItUp) {
  const Folder folder(GetParam());
  const TokenPairs pairs = pairs_of(folder);
  const double expected =
      load_tensor(folder.file.tensors().find("pair_loss")->second, at::kCPU, at::kDouble, "").item<double>();
  Module module(folder.model, {});
  EXPECT_NEAR(PairValidation(pairs).score(module, 2).value(), expected, 1e-5);
  module.set_trainable({});
  const RowBatch batch = batch_of(pairs, std::vector<int64_t>{0, 1, 2}, at::kCPU);
  const at::Tensor loss = module.next_token_loss(module.hidden(batch.batch), batch.targets, batch.weights);
  EXPECT_NEAR(loss.item<double>(), expected, 1e-5);
  loss.backward();
  int seen = 0;
  for (const Parameter& p : module.parameters()) {
    const auto found = folder.file.tensors().find("pair_gradient." + p.name);
    if (found == folder.file.tensors().end()) continue;
    EXPECT_LT(relative_error(p.tensor.grad(), load_tensor(found->second, at::kCPU, at::kFloat, p.name)), 1e-4)
        << p.name;
    ++seen;
  }
  EXPECT_EQ(seen, 4);
}

// A step's loss is the mean over all tokens that are to be written, however many pairs are computed at once.
TEST_P(T5Training, AStepOfPairsIsTheSameInAnyNumberOfPieces) {
  const Folder folder(GetParam());
  const TokenPairs pairs = pairs_of(folder);
  std::vector<std::vector<double>> losses;
  for (const int64_t at_once : {3, 2, 1}) {
    Module module(folder.model, {});
    Phase phase{.name = "finetune", .batch = 3, .micro_batch = at_once};
    phase.schedule = {.peak = 1e-2, .steps = 3};
    phase.rows.context = pairs.longest();
    RunOptions options{.pairs = &pairs};
    auto& run = losses.emplace_back();
    options.on_line = [&](const LogLine& line) { run.push_back(line.loss); };
    const PairValidation validation(pairs);
    const RunResult result = run_phases(module, {}, &validation, {phase}, options);
    EXPECT_NEAR(run.front(), PairValidation(pairs).score(Module(folder.model, {}), 3).value(), 1e-5);
    EXPECT_LT(result.validation_after.value(), run.front());
  }
  for (size_t step = 0; step < 3; ++step) {
    EXPECT_NEAR(losses[0][step], losses[1][step], 1e-4) << step;
    EXPECT_NEAR(losses[0][step], losses[2][step], 1e-4) << step;
  }
}

TEST(T5, ABatchWithoutASourceIsRefused) {
  const Folder folder("t5");
  const Module module(folder.model, {});
  EXPECT_THROW(module.hidden({folder.batch.tokens}), Error);
}

TEST(T5, FreshStacksDrawNumbersOfTheirOwn) {
  const Folder folder("t5");
  const Module module(folder.model->config(), 7, Module::Options{});
  std::map<std::string, at::Tensor> tensors;
  for (const Parameter& p : module.tensors()) tensors[p.name] = p.tensor;
  EXPECT_FALSE(at::equal(tensors.at("encoder.block.0.layer.0.SelfAttention.k.weight"),
                         tensors.at("decoder.block.0.layer.0.SelfAttention.k.weight")));
  at::NoGradGuard off;
  const double loss = module.next_token_loss(module.hidden(folder.batch), folder.labels).item<double>();
  EXPECT_NEAR(loss, std::log(static_cast<double>(folder.model->config().vocabulary)), 0.2);
}

}  // namespace
}  // namespace linnet::train
