// What the commands that train share: their options, described once, and the run itself around the recipe.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/options.h"
#include "model/write_model.h"
#include "train/recipes.h"
#include "train/trainer.h"

namespace linnet::cli {

/// Where train-heads keeps what the model wrote while a run lasts, in OUT.
constexpr const char* kWrittenText = "written.safetensors";

struct TrainingOptions {
  SharedOptions shared;
  std::vector<std::filesystem::path> data, valid;
  std::filesystem::path out;
  train::Hyperparameters numbers;
  std::string decay, packing = "stream";
  bool resume = false;
  std::optional<bool> activation_checkpointing;  // absent: where a step would keep much on a CPU
  int64_t checkpoint_every = 500, evaluate_every = 0, log_every = 10;
  int64_t valid_bytes = 200000, valid_window = 1024;
  int64_t shard_bytes = kShardBytes;
};

/// --data, --valid, --tokens, -o, --resume and all numbers of the optimization.
void add_training(CLI::App& app, TrainingOptions& options);
/// --long-share and --long-context; `place` and `context` are where long rows stand and how long they are by
/// default.
void add_long_rows(CLI::App& app, train::Hyperparameters& numbers, const char* place, const char* context);
/// --train and LoRA's numbers.
void add_trainable(CLI::App& app, std::string& train, train::Trainable& trainable, const char* help);

/// What a command is in a run.
struct TrainingRun {
  std::string title;                // of the curves
  std::filesystem::path tokenizer;  // folder or file
  const Model* model = nullptr;     // what is trained on; null: a model from nothing
  /// Of a model with an encoder: what it learns in place of text, and is scored on; null: --data and --valid.
  const train::TokenPairs* pairs = nullptr;
  const train::HeldOut* held_out_pairs = nullptr;
  std::vector<train::Phase> phases;
  std::string attention_option;  // what set the model's attention in this command; empty: nothing
  nlohmann::json identity;       // what makes it another run: the model, the attention, …
  /// Where something else than the module is trained: makes it of the text, which it may change. May be
  /// empty.
  std::function<train::Learner(train::TokenizedText& text, const Tokenizer& tokenizer, ThreadPool& pool)>
      learner;
  /// Writes the model into OUT, after some steps or none; returns lines to print.
  std::function<std::vector<std::string>(bool trained)> write;
};

/// Checks that OUT can be written and that every option does something, before anything long is begun. Throws
/// Error.
void check_training(const TrainingOptions& options);
/// Refuses texts that cannot be trained on: none, or held-out ones among them.
void check_data(const TrainingOptions& options);
/// Refuses LoRA's numbers where --train is another, or the model has a LoRA already.
void check_lora(const TrainingOptions& options, const std::string& train, bool has_lora);
/// Refuses a LoRA that would be merged into matrices in integers: into what is written, where that is a full
/// folder.
void check_mergeable(const Model& model, train::Train what);
/// Refuses --shard-size where no full folder is written.
void check_shard_size(const TrainingOptions& options, bool full);
/// Tokenises, trains (nothing with --tokens 0), writes, prints. The status is kInterrupted after Ctrl-C.
ExitStatus run_training(const TrainingOptions& options, train::Module& module, const TrainingRun& run);

/// The warning of documents of --data that stand in --valid too.
std::string left_out(int64_t documents);
/// Numbers in all of its tensors, trained or frozen.
int64_t count_parameters(const train::Module& module);
/// "peak 812 MB", and what the device held where there is one.
std::string memory_of(const train::RunResult& result);

/// What --dtype auto is in training, as help has it.
constexpr const char* kTrainingDtype =
    "Arithmetic: auto, float32, bfloat16 or float64. auto: bfloat16 on a GPU and on a processor that "
    "multiplies it (AVX512_BF16, AMX), else float32; with --resume the type that the run began with. Weights "
    "that are trained, and AdamW's moments, are float32";

/// The type in which `module` is trained, as --dtype spells it, and why auto chose one where that may
/// surprise.
std::string arithmetic_of(const TrainingOptions& options, const train::Module& module);

/// The module's place and type from --device, --dtype and --activation-checkpointing.
train::Module::Options module_options(const TrainingOptions& options);
/// The same; where nothing was said of checkpointing, by what the phases would keep on a CPU, with a note.
train::Module::Options module_options(const TrainingOptions& options, const ModelConfig& config,
                                      const std::vector<train::Phase>& phases);
train::Place place_of(const TrainingOptions& options, const ModelConfig& config);
train::Hyperparameters numbers_of(const TrainingOptions& options);

}  // namespace linnet::cli
