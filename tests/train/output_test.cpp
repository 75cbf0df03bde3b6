#include "train/output.h"
#include "base/remove_folder.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "evaluate/perplexity.h"
#include "model/decoder.h"
#include "text/train_bpe.h"
#include "train/evaluation.h"
#include "train/recipes.h"
#include "train/trainer.h"

namespace linnet::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = R"({"model_type": "llama", "vocab_size": 300, "hidden_size": 24,
  "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu",
  "bos_token_id": 0, "eos_token_id": 1})";
constexpr const char* kLinear = R"({"method": "grouped", "group": 4, "local_groups": 2, "sinks": 2})";

std::string some_text(int lines) {
  std::string text;
  for (int i = 0; i < lines; ++i)
    text += "The linnet number " + std::to_string(i * 7 % 31) + " sang; " + (i % 3 == 0 ? "naïve" : "grey") +
            " birds listened, and the " + std::to_string(i % 5) + " of them flew on.\n";
  return text;
}

/// A tiny model with a tokenizer of its own, untrained, in a folder; beside it, what is made from it.
class OutputTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) /
            ("output_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    remove_folder(root_);
    fs::create_directories(root_ / "tokenizer");
    const std::vector<std::string> special{"<s>", "</s>"}, texts{some_text(40)};
    WordCounts words;
    words.add(texts, pool_);
    write_file(root_ / "tokenizer" / "tokenizer.json",
               tokenizer_json(train_bpe(words, 300, special), special));
    write_file(root_ / "tokenizer" / "tokenizer_config.json", tokenizer_config_json(special));
    write_file(root_ / "valid.txt", some_text(9));
    const auto json = nlohmann::json::parse(kConfig);
    const Module fresh(ModelConfig::parse(json, "test"), 4, {});
    write_pretrained(make("base"), fresh, json, root_ / "tokenizer", size_t{1} << 30);
  }
  void TearDown() override { remove_folder(root_); }

  fs::path make(const char* name) const {
    fs::create_directories(root_ / name);
    return root_ / name;
  }
  Module train(const Model& base, bool linear, const std::vector<Phase>& phases) {
    Module module(Model::open(base.folder()), {});
    if (linear) module.set_attention(parse_attention(nlohmann::json::parse(linear_), 2, "test"), 1);
    const Tokenizer tokenizer = Tokenizer::load(base.tokenizer_folder());
    const std::vector<fs::path> files{root_ / "valid.txt"};
    const TokenizedText text = tokenize_files(files, tokenizer, 0, pool_);
    run_phases(module, text, nullptr, phases, {.out = make("run"), .seed = 1});
    remove_folder(root_ / "run");
    return module;
  }
  double workshop(const Module& module, int64_t window) {
    const Tokenizer tokenizer = Tokenizer::load(root_ / "tokenizer");
    const std::vector<fs::path> files{root_ / "valid.txt"};
    return Validation(files, tokenizer, 0, window, 0, pool_).bits_per_byte(module, 3).value();
  }
  double runtime(const fs::path& folder, int64_t window) {
    const auto model = Model::open(folder);
    const auto decoder = Decoder::make(model, {.compute = ComputeType::kFloat32}, pool_);
    const Tokenizer tokenizer = Tokenizer::load(model->tokenizer_folder());
    PerplexityMeter meter(*decoder, *model, tokenizer, {.window = window}, pool_);
    meter.add(some_text(9), "test");
    return meter.totals().bits_per_byte();
  }
  static std::set<std::string> files_in(const fs::path& folder) {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
    return names;
  }

  ThreadPool pool_{2};
  fs::path root_;
  std::string linear_ = kLinear;
};

std::vector<Phase> few_steps(Trainable trainable, double rate) {
  Hyperparameters numbers{
      .tokens = 6 * 2 * 32, .batch = 2, .context = 32, .learning_rate = rate, .warmup = 0};
  return finetune_recipe(numbers, {}, trainable);
}

TEST_F(OutputTest, APretrainedFolderScoresInTheRuntimeWhatTheWorkshopEvaluates) {
  const Module module(Model::open(root_ / "base"), {});
  EXPECT_NEAR(runtime(root_ / "base", 48), workshop(module, 48), 1e-4);
  EXPECT_EQ(files_in(root_ / "base"),
            (std::set<std::string>{"config.json", "generation_config.json", "model.safetensors",
                                   "tokenizer.json", "tokenizer_config.json"}));
}

TEST_F(OutputTest, ATrainedSidecarScoresInTheRuntimeWhatTheWorkshopEvaluates) {
  const auto base = Model::open(root_ / "base");
  const Module module = train(*base, true, few_steps({.what = Train::kNew}, 0.05));
  write_trained(make("linear"), module, *base, OutputKind::kSidecar, size_t{1} << 30, /*trained=*/true);
  EXPECT_EQ(files_in(root_ / "linear"),
            (std::set<std::string>{"config.json", "linear_attention.safetensors"}));
  EXPECT_TRUE(base_hint(root_ / "linear", *base).empty());
  EXPECT_NE(base_hint("/elsewhere/linear", *base).find("--base"), std::string::npos);
  const double trained = workshop(module, 48);
  EXPECT_NE(trained, workshop(Module(base, {}), 48));
  EXPECT_NEAR(runtime(root_ / "linear", 48), trained, 1e-4);
}

TEST_F(OutputTest, ASidecarBesideALinkToItsBaseOpensByTheLinksName) {
  fs::rename(root_ / "base", make("hub") / "abc");
  fs::create_directory_symlink("hub/abc", root_ / "link");
  const auto base = Model::open(root_ / "link/");
  Module module(base, {});
  module.set_attention(parse_attention(nlohmann::json::parse(linear_), 2, "test"), 1);
  write_trained(make("linear"), module, *base, OutputKind::kSidecar, size_t{1} << 30, /*trained=*/false);
  EXPECT_TRUE(base_hint(root_ / "linear", *base).empty());
  EXPECT_EQ(Model::open(root_ / "linear")->base_folder(), root_ / "link");
  EXPECT_NE(base_hint(make("hub/deeper") / "linear", *base).find("--base"), std::string::npos);
}

TEST_F(OutputTest, ATrainedSidecarOfBudgetsByHeadScoresInTheRuntimeWhatTheWorkshopEvaluates) {
  linear_ = R"({"method": "grouped", "group": 4, "local_groups": [2, 3], "kept": [7, 0], "sinks": 2,
                "layers": {"1": {"local_groups": 2, "kept": 3}}})";
  const auto base = Model::open(root_ / "base");
  const Module module = train(*base, true, few_steps({.what = Train::kNew}, 0.05));
  write_trained(make("linear"), module, *base, OutputKind::kSidecar, size_t{1} << 30, /*trained=*/true);
  const double trained = workshop(module, 48);
  EXPECT_NEAR(runtime(root_ / "linear", 48), trained, 1e-4);
  Module others(base, {});
  others.set_attention(parse_attention(nlohmann::json::parse(kLinear), 2, "test"), 1);
  EXPECT_NE(trained, workshop(others, 48));
}

TEST_F(OutputTest, LoraOfAPlainModelIsPeftsTwoFilesAndReloads) {
  const auto base = Model::open(root_ / "base");
  const Module module = train(*base, false, few_steps({.what = Train::kLora, .lora_rank = 3}, 0.02));
  write_trained(make("lora"), module, *base, OutputKind::kLora, size_t{1} << 30, /*trained=*/true);
  EXPECT_EQ(files_in(root_ / "lora"),
            (std::set<std::string>{"adapter_config.json", "adapter_model.safetensors"}));
  const Module again(Model::open(root_ / "lora", {.base = root_ / "base"}), {});
  const double trained = workshop(module, 48);
  EXPECT_GT(std::fabs(trained - workshop(Module(base, {}), 48)), 1e-3);
  EXPECT_NEAR(workshop(again, 48), trained, 1e-6);
}

TEST_F(OutputTest, ThePapersRecipeLeavesAFullFolderWithLoraMerged) {
  const auto base = Model::open(root_ / "base");
  const Module module =
      train(*base, true, few_steps({.what = Train::kLora, .embeddings_and_norms = true}, 0.01));
  write_trained(make("full"), module, *base, OutputKind::kFull, size_t{1} << 30, /*trained=*/true);
  const auto full = Model::open(root_ / "full");
  EXPECT_FALSE(full->is_sidecar());
  EXPECT_FALSE(full->lora());
  EXPECT_FALSE(files_in(root_ / "full").contains("lora.unfinished"));
  for (const auto& [name, tensor] : base->base_tensors().tensors())
    EXPECT_EQ(name_of(full->base_tensors().find(name)->type), name_of(tensor.type)) << name;
  const double before = workshop(Module(base, {}), 48), trained = workshop(module, 48);
  EXPECT_GT(std::fabs(before - trained), 0.02);
  // What was merged and trained is rounded to the base's bf16.
  EXPECT_NEAR(workshop(Module(full, {}), 48), trained, 0.01);
}

TEST_F(OutputTest, TapsThatLookAheadAreTrainedAndNeverWritten) {
  const auto json = nlohmann::json::parse(kConfig);
  Module module(ModelConfig::parse(json, "test"), 4, {});
  auto layers = parse_attention(nlohmann::json::parse(kLinear), 2, "test");
  for (AttentionConfig& layer : layers) layer.future_taps = 2;
  module.set_attention(layers, 1);
  module.set_trainable({.what = Train::kAll});
  int64_t ahead = 0;
  for (const Parameter& parameter : module.parameters()) {
    if (parameter.kind != ParameterKind::kExperiment) continue;
    EXPECT_EQ(parameter.tensor.sizes(), (std::vector<int64_t>{4, 2, 6})) << parameter.name;
    at::NoGradGuard off;
    at::Tensor(parameter.tensor).fill_(100.0);
    ++ahead;
  }
  EXPECT_EQ(ahead, 2);
  write_pretrained(make("fresh"), module, json, root_ / "tokenizer", size_t{1} << 30);
  const auto base = Model::open(root_ / "base");
  write_trained(make("sidecar"), module, *base, OutputKind::kSidecar, size_t{1} << 30, true);
  for (const char* name : {"fresh", "sidecar"}) {
    const auto written = Model::open(root_ / name);
    for (const AttentionConfig& layer : written->attention()) EXPECT_EQ(layer.future_taps, 0);
    for (const auto& entry : fs::directory_iterator(root_ / name))
      EXPECT_EQ(MappedFile(entry.path()).text().find("future"), std::string_view::npos) << entry.path();
  }
  // What was written is the module without them, in bf16.
  for (AttentionConfig& layer : layers) layer.future_taps = 0;
  Module sound(ModelConfig::parse(json, "test"), 4, {});
  sound.set_attention(layers, 1);
  const double written = runtime(root_ / "fresh", 48),
               difference = workshop(module, 48) - workshop(sound, 48);
  EXPECT_GT(std::fabs(difference), 5e-4);
  EXPECT_LT(std::fabs(written - workshop(sound, 48)), 0.2 * std::fabs(difference));
}

TEST_F(OutputTest, AFullDiskLeavesNothingOfTheModel) {
  const auto base = Model::open(root_ / "base");
  Module module(base, {});
  module.set_attention(parse_attention(nlohmann::json::parse(kLinear), 2, "test"), 1);
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  for (const OutputKind kind : {OutputKind::kSidecar, OutputKind::kFull})
    for (const rlim_t limit : {rlim_t{0}, rlim_t{500}, rlim_t{2000}}) {
      const fs::path out = make("broken");
      const rlimit full{.rlim_cur = limit, .rlim_max = before.rlim_max};
      ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
      EXPECT_THROW(write_trained(out, module, *base, kind, size_t{1} << 30, /*trained=*/true), Error);
      ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
      EXPECT_EQ(files_in(out), std::set<std::string>{}) << "limit " << limit;
    }
}

TEST_F(OutputTest, DocumentsOfTheValidationSetAreKnown) {
  const Tokenizer tokenizer = Tokenizer::load(root_ / "tokenizer");
  const std::vector<fs::path> files{root_ / "valid.txt"};
  const Validation validation(files, tokenizer, 0, 48, 100, pool_);  // cut short, and still known
  EXPECT_LE(validation.bytes(), 100);
  EXPECT_TRUE(validation.contains({.text = some_text(9)}));
  EXPECT_FALSE(validation.contains({.text = some_text(8)}));
  write_file(root_ / "other.txt", some_text(20));
  const std::vector<fs::path> data{root_ / "other.txt", root_ / "valid.txt"};
  const TokenizedText text = tokenize_files(
      data, tokenizer, 0, pool_, [&](const Document& document) { return validation.contains(document); });
  EXPECT_EQ(text.documents(), 1);
  EXPECT_EQ(text.dropped, 1);
}

TEST_F(OutputTest, AShortValidationSetIsTheBeginningOfEveryFileAlike) {
  const Tokenizer tokenizer = Tokenizer::load(root_ / "tokenizer");
  write_file(root_ / "longer.txt", some_text(20));
  const std::vector<fs::path> files{root_ / "valid.txt", root_ / "longer.txt"};
  const Validation validation(files, tokenizer, 0, 48, 100, pool_);
  EXPECT_EQ(validation.bytes(), 100);
  EXPECT_EQ(validation.tokens(),
            2 * static_cast<int64_t>(tokenizer.encode(some_text(9).substr(0, 50)).size()));
}

}  // namespace
}  // namespace linnet::train
