#include "train/trainer.h"
#include "base/remove_folder.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/random.h"
#include "format/safetensors.h"
#include "train/recipes.h"

// Null where products run in another library.
extern "C" int openblas_get_num_threads() __attribute__((weak));

namespace linnet::train {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(LINNET_TEST_DATA) / "hf" / "llama-gqa-tied";

TokenizedText random_text(int64_t tokens) {
  TokenizedText text;
  for (int64_t i = 0; i < tokens; ++i) {
    if (i % 57 == 0) text.starts.push_back(i);
    text.tokens.push_back(i % 57 == 0 ? 1 : static_cast<int32_t>(3 + uniform_integer(5, 0, i, 150)));
  }
  return text;
}

/// Phases of a linearization on a few tokens: transfer, then KL, two micro-batches a step.
std::vector<Phase> phases(int64_t tokens) {
  Hyperparameters numbers{.tokens = tokens, .batch = 2, .micro_batch = 1, .context = 32};
  numbers.warmup = 2;
  return transfer_recipe(numbers, {}, {.what = Train::kNew});
}

Module linear_module(at::ScalarType compute = at::kFloat) {
  Module module(Model::open(kModel), {.compute = compute});
  const auto layers =
      parse_attention(nlohmann::json::parse(R"({"method": "grouped", "group": 4, "local_groups": 2})"),
                      static_cast<int>(module.config().layers), "test");
  module.set_attention(layers, 9);
  return module;
}

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    out_ = fs::path(testing::TempDir()) /
           ("trainer_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    remove_folder(out_);
    fs::create_directories(out_);
  }
  void TearDown() override { remove_folder(out_); }
  void reset() const {
    remove_folder(out_);
    fs::create_directories(out_);
  }

  RunOptions options(bool resume = false) const {
    return {.out = out_,
            .title = "test",
            .resume = resume,
            .checkpoint_every = 2,
            .seed = 3,
            .identity = {{"model", "tiny"}}};
  }
  /// step → (loss, gradient norm), as logged.
  std::map<int64_t, std::pair<double, double>> logged() const {
    std::map<int64_t, std::pair<double, double>> result;
    std::ifstream file(out_ / "training.jsonl");
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::json::parse(line);
      result[json.at("step")] = {json.at("loss"), json.at("gradient_norm")};
    }
    return result;
  }
  static RunResult run(const RunOptions& options, const std::vector<Phase>& all) {
    Module module = linear_module();
    return run_phases(module, random_text(900), nullptr, all, options);
  }
  fs::path out_;
};

std::string message_of(const std::function<void()>& work, ExitStatus status) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), status) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST_F(TrainerTest, AResumedRunContinuesTheSameLossesBitForBit) {
  // 6 steps of transfer, 10 of KL; then 10 of short rows and 6 of long ones with one optimizer and one decay.
  Hyperparameters numbers{.tokens = 16 * 64, .batch = 2, .micro_batch = 1, .context = 32};
  numbers.long_share = 0.375;
  numbers.long_context = 64;
  numbers.repeats = 16;
  for (const auto& all : {phases(16 * 64), pretrain_recipe(numbers, {})}) {
    reset();
    run(options(), all);
    const auto whole = logged();
    ASSERT_EQ(whole.size(), 16u);
    for (const int64_t killed_after : {4, 6, 9, 12}) {  // in the first phase, at its end, in the second
      reset();
      RunOptions dying = options();
      dying.on_step = [&](int64_t step) {
        if (step == killed_after + 1) throw std::runtime_error("killed");
      };
      EXPECT_THROW(run(dying, all), std::runtime_error);
      const RunResult result = run(options(true), all);
      EXPECT_EQ(result.steps, 16);
      EXPECT_EQ(logged(), whole) << all.back().name << ", killed after step " << killed_after;
    }
  }
}

TEST(Recipes, WhatAStepKeepsGrowsWithTheModelAndTheTokensAtOnceOfWhatComesAfterTransfer) {
  ModelConfig large;
  large.layers = 22, large.hidden = 2048, large.intermediate = 5632;
  large.heads = 32, large.kv_heads = 4, large.head_size = 64;
  const auto kept = [](const ModelConfig& config, const Hyperparameters& numbers) {
    return kept_for_backward(config, transfer_recipe(numbers, {}, {.what = Train::kNew}), at::kBFloat16);
  };
  EXPECT_GT(kept(large, {}), kMostForBackward);  // the recipe's own batch
  EXPECT_NEAR(kept(large, {.micro_batch = 1}), kept(large, {}) / 4, 1.0);
  EXPECT_LT(kept(large, {.batch = 1, .context = 256}), kMostForBackward);
  EXPECT_EQ(kept(large, {.transfer_share = 1.0}), 0);
  ModelConfig small = large;
  small.layers = 7, small.hidden = 384, small.intermediate = 896, small.heads = small.kv_heads = 6;
  EXPECT_LT(kept(small, {}), kMostForBackward);
}

TEST_F(TrainerTest, APhaseThatGoesOnKeepsTheOptimizer) {
  // One phase of 8 steps cut in two of 4: the same losses.
  Hyperparameters numbers{.tokens = 8 * 64, .batch = 2, .micro_batch = 1, .context = 32};
  const auto one = pretrain_recipe(numbers, {});
  auto two = std::vector<Phase>{one.front(), one.front()};
  two[0].schedule.steps = two[1].schedule.steps = 4;
  two[0].schedule.after = two[1].schedule.before = 4;
  two[1].goes_on = true;
  run(options(), one);
  const auto whole = logged();
  reset();
  run(options(), two);
  EXPECT_EQ(logged(), whole);
}

TEST_F(TrainerTest, CtrlCSavesAndTheResumedRunContinuesTheSameLosses) {
  const auto all = phases(16 * 64);
  run(options(), all);
  const auto whole = logged();
  reset();
  RunOptions interrupted = options();
  interrupted.on_step = [](int64_t step) {
    if (step == 7) ::raise(SIGINT);
  };
  const RunResult part = run(interrupted, all);
  EXPECT_TRUE(part.interrupted);
  EXPECT_EQ(part.steps, 7);
  EXPECT_TRUE(fs::exists(part.checkpoint / "checkpoint.json"));
  catch_interrupts();  // a new process knows nothing of the signal
  EXPECT_FALSE(run(options(true), all).interrupted);
  EXPECT_EQ(logged(), whole);
}

/// What is held out is the weights' own sum: another number after every step. One of the scores is cut off by
/// Ctrl-C.
class SumOfWeights final : public HeldOut {
 public:
  mutable int cut_off = -1;  // which, counted down
  std::optional<double> score(const Module& module, int64_t) const override {
    if (cut_off-- == 0) ::raise(SIGINT);
    if (interrupted()) return std::nullopt;
    double sum = 0;
    for (const Parameter& parameter : module.parameters())
      sum += parameter.tensor.sum(at::kDouble).item<double>();
    return sum;
  }
  bool in_nats() const override { return true; }
};

TEST_F(TrainerTest, AScoreThatCtrlCCutOffIsOfTheSameWeightsOnceTheRunGoesOn) {
  const auto all = phases(16 * 64);
  const SumOfWeights held_out;
  const auto score = [&](const RunOptions& options) {
    Module module = linear_module();
    return run_phases(module, random_text(900), &held_out, all, options);
  };
  const auto scores = [&] {
    std::map<int64_t, double> result;
    std::ifstream file(out_ / "training.jsonl");
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains("validation_nats_per_token"))
        result[json.at("step")] = json.at("validation_nats_per_token");
    }
    return result;
  };
  RunOptions every = options();
  every.evaluate_every = 3;
  const RunResult whole = score(every);
  const auto of_whole = scores();
  for (const int at : {2, static_cast<int>(of_whole.size()) - 1}) {  // the first is of step 0
    reset();
    held_out.cut_off = at;
    const RunResult part = score(every);
    EXPECT_EQ(part.validation_after, std::nullopt) << at;  // and not the one before
    catch_interrupts();
    RunOptions rest = every;
    rest.resume = true;
    EXPECT_EQ(score(rest).validation_after, whole.validation_after) << at;
    EXPECT_EQ(scores(), of_whole) << at;
  }
}

TEST_F(TrainerTest, TheNewestTwoCheckpointsAreKept) {
  run(options(), phases(16 * 64));
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(out_ / "checkpoints"))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"step-00000014", "step-00000016"}));
}

void flip_a_bit(const fs::path& file, int64_t at) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(at);
  const char byte = static_cast<char>(stream.get());
  stream.seekp(at);
  stream.put(static_cast<char>(byte ^ 4));
}

TEST_F(TrainerTest, DamagedAndForeignCheckpointsAreRejected) {
  const auto all = phases(16 * 64);
  run(options(), all);
  const fs::path newest = out_ / "checkpoints" / "step-00000016";
  const fs::path tensors = newest / "tensors.safetensors", manifest = newest / "checkpoint.json";
  const auto size = static_cast<int64_t>(fs::file_size(tensors));
  const fs::path kept = out_ / "kept";
  fs::copy(newest, kept, fs::copy_options::recursive);
  struct Case {
    const char* name;
    std::function<void()> damage;
    const char* message;
  };
  const Case cases[] = {
      {"a flipped bit in a tensor", [&] { flip_a_bit(tensors, size - 3); }, "damaged"},
      {"a flipped bit in the header", [&] { flip_a_bit(tensors, 12); }, "damaged"},
      {"a truncated file", [&] { fs::resize_file(tensors, static_cast<uintmax_t>(size / 2)); }, "damaged"},
      {"an empty file", [&] { fs::resize_file(tensors, 0); }, "tensors.safetensors: damaged: its hash"},
      {"a missing file", [&] { fs::remove(tensors); }, "tensors.safetensors"},
      {"another step in the manifest",
       [&] { flip_a_bit(manifest, static_cast<int64_t>(fs::file_size(manifest)) - 20); }, "checkpoint.json"},
  };
  for (const Case& c : cases) {
    c.damage();
    const std::string message = message_of([&] { run(options(true), all); }, ExitStatus::kBadInput);
    EXPECT_NE(message.find(c.message), std::string::npos) << c.name << ": " << message;
    remove_folder(newest);
    fs::copy(kept, newest, fs::copy_options::recursive);
  }
  RunOptions other = options(true);
  other.identity["model"] = "another";
  EXPECT_NE(
      message_of([&] { run(other, all); }, ExitStatus::kBadInput).find("model was \"tiny\", now \"another\""),
      std::string::npos);
  remove_folder(out_ / "checkpoints");
  EXPECT_NE(message_of([&] { run(options(true), all); }, ExitStatus::kBadInput).find("no checkpoint"),
            std::string::npos);
}

TEST_F(TrainerTest, ANonFiniteLossStopsTheRunNamingTheStepAndKeepsTheLastCheckpoint) {
  Module module = linear_module();
  RunOptions poisoned = options();
  poisoned.on_step = [&](int64_t step) {
    at::NoGradGuard no_gradients;
    if (step == 8) module.parameters().front().tensor.fill_(std::nan(""));
  };
  poisoned.checkpoint_every = 3;
  const std::string message = message_of(
      [&] { run_phases(module, random_text(900), nullptr, phases(16 * 64), poisoned); }, ExitStatus::kFailed);
  EXPECT_NE(message.find("step 9: training diverged"), std::string::npos) << message;
  EXPECT_NE(message.find("step-00000006"), std::string::npos) << message;
  EXPECT_EQ(logged().size(), 8u);
  EXPECT_EQ(Checkpoints(out_ / "checkpoints", options().identity)
                .read_progress(out_ / "checkpoints" / "step-00000006")
                .step,
            6);
}

TEST_F(TrainerTest, AFirstStepWithoutAnyGradientEndsTheRunNamingWhatToChange) {
  // Rows of one document that the local branch sees whole, so that no trained tensor has a part in the loss;
  // and rows of several, over which the summary is computed, though no document of 57 tokens reads it.
  const struct {
    const char* attention;
    int64_t context;
    Packing packing;
  } rows[] = {{R"({"method": "grouped", "group": 32, "taps": 0})", 32, Packing::kStream},
              {R"({"method": "grouped", "group": 16, "taps": 0})", 128, Packing::kDocuments}};
  for (const auto& row : rows) {
    Module module(Model::open(kModel), {});
    module.set_attention(parse_attention(nlohmann::json::parse(row.attention),
                                         static_cast<int>(module.config().layers), "test"),
                         9);
    const Hyperparameters numbers{.tokens = 4096, .batch = 2, .context = row.context};
    const auto all = transfer_recipe(numbers, {}, {.what = Train::kNew});
    RunOptions with = options();
    with.packing = row.packing;
    const std::string message =
        message_of([&] { run_phases(module, random_text(900), nullptr, all, with); }, ExitStatus::kFailed);
    EXPECT_NE(message.find("step 1: nothing can learn"), std::string::npos) << message;
    EXPECT_NE(message.find("--context"), std::string::npos) << message;
    EXPECT_TRUE(logged().empty());
    EXPECT_FALSE(Checkpoints(out_ / "checkpoints", options().identity).newest());
    reset();
  }
}

TEST_F(TrainerTest, AFullDiskLeavesTheEarlierCheckpointsAndNothingHalfWritten) {
  Module module = linear_module();
  module.set_trainable({.what = Train::kNew});
  AdamW optimizer(module.parameters(), {});
  const Checkpoints checkpoints(out_ / "checkpoints", {{"model", "tiny"}});
  const fs::path good = checkpoints.save({.step = 1}, optimizer);
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{4096}}) {
    const rlimit full{.rlim_cur = limit, .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
    EXPECT_THROW(checkpoints.save({.step = 2}, optimizer), Error);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_EQ(checkpoints.newest(), good);
    EXPECT_EQ(std::distance(fs::directory_iterator(out_ / "checkpoints"), fs::directory_iterator()), 1);
  }
  checkpoints.load(good, optimizer, 1);
}

TEST_F(TrainerTest, MicroBatchesAddUpToTheBatch) {
  std::vector<std::vector<at::Tensor>> trained;
  for (const int64_t micro_batch : {4, 1, 3}) {  // 3: the last one is smaller
    Hyperparameters numbers{.tokens = 5 * 4 * 32, .batch = 4, .micro_batch = micro_batch, .context = 32};
    numbers.transfer_share = 0;  // its loss divides by each micro-batch's own mean square
    Module module = linear_module(at::kDouble);
    remove_folder(out_);
    fs::create_directories(out_);
    run_phases(module, random_text(900), nullptr, transfer_recipe(numbers, {}, {.what = Train::kNew}),
               options());
    trained.emplace_back();
    for (const Parameter& parameter : module.parameters())
      trained.back().push_back(parameter.tensor.detach());
  }
  for (size_t other : {1, 2})
    for (size_t i = 0; i < trained[0].size(); ++i)
      EXPECT_LT((trained[0][i] - trained[other][i]).abs().max().item<double>(), 1e-9);
}

class GoldenLosses : public testing::TestWithParam<std::string> {};

TEST_P(GoldenLosses, TenStepsOfAdamWAreHuggingFaces) {
  const fs::path folder = fs::path(LINNET_TEST_DATA) / "hf" / GetParam();
  const SafetensorsFile golden = SafetensorsFile::open(folder / "golden.safetensors");
  const auto number = [&](const char* key) { return std::stod(golden.metadata().find(key)->second); };
  const auto read = [&](const char* name, at::ScalarType type) {
    const TensorView& view = golden.tensors().find(name)->second;
    at::Tensor tensor = at::empty(view.shape, at::TensorOptions().dtype(type));
    std::memcpy(tensor.data_ptr(), view.bytes.data(), view.bytes.size());
    return tensor;
  };
  const at::Tensor ids = read("input_ids", at::kLong).unsqueeze(0), losses = read("losses", at::kDouble);
  Module module(Model::open(folder), {});
  module.set_trainable({.what = Train::kAll});
  AdamW optimizer(module.parameters(), {.beta1 = number("beta1"),
                                        .beta2 = number("beta2"),
                                        .epsilon = number("epsilon"),
                                        .weight_decay = number("weight_decay")});
  const int64_t n = ids.size(1) - 1;
  for (int64_t step = 0; step < losses.numel(); ++step) {
    const at::Tensor loss = module.next_token_loss(
        module.hidden({.tokens = ids.narrow(1, 0, n).contiguous()}), ids.narrow(1, 1, n).contiguous());
    EXPECT_NEAR(loss.item<double>(), losses[step].item<double>(), 1e-4) << "step " << step;
    loss.backward();
    optimizer.clip_gradients(0);
    optimizer.step(number("learning_rate"));
  }
}

INSTANTIATE_TEST_SUITE_P(HuggingFace, GoldenLosses,
                         testing::Values("llama-mha", "llama-gqa-tied", "llama-biases", "llama-rope-linear",
                                         "llama-rope-llama3", "llama-rope-yarn", "llama-sharded",
                                         "llama-old-spelling", "mistral-window", "qwen2-window",
                                         "qwen2-layer-types", "qwen3", "qwen3-window", "phi3",
                                         "phi3-longrope", "phi3-longrope-short", "olmo2", "gpt-neox",
                                         "gpt-neox-sequential", "gemma", "gemma2", "smollm3", "gpt2",
                                         "gpt2-without-prefix", "flash-softmax", "flash-quadratic",
                                         "flash-mixed", "flash-augmented"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Threads, OfProductsAreAsManyAsAreAskedFor) {
  if (openblas_get_num_threads == nullptr) GTEST_SKIP() << "no OpenBLAS";
  const int before = at::get_num_threads();
  for (const int threads : {1, 2}) {
    set_threads(threads);
    EXPECT_EQ(at::get_num_threads(), threads);
    EXPECT_EQ(openblas_get_num_threads(), threads);
  }
  set_threads(before);
}

}  // namespace
}  // namespace linnet::train
