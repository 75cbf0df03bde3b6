// The options of the commands that train.
#include <fmt/format.h>

#include <type_traits>

#include "base/error.h"
#include "base/log.h"
#include "cli/training.h"

namespace linnet::cli {
namespace {

constexpr uint64_t kMostSteps = 1'000'000'000;
constexpr const char* kOptimization = "Optimization (each has the recipe's own value)";

template <class T>
void add_number(CLI::App& app, const char* name, std::optional<T>& value, const char* help, double low,
                double high) {
  CLI::Option* option = app.add_option(name, value, help)->group(kOptimization)->capture_default_str();
  if constexpr (std::is_integral_v<T>) {
    option->transform(whole(static_cast<uint64_t>(low), static_cast<uint64_t>(high)));
  } else {
    option->check(from_to(low, high));
  }
}

void add_numbers(CLI::App& app, TrainingOptions& options) {
  train::Hyperparameters& numbers = options.numbers;
  add_number(app, "--batch", numbers.batch, "Rows a step", 1, 1e6);
  add_number(app, "--micro-batch", numbers.micro_batch, "Rows at once; their gradients are added up", 1, 1e6);
  app.add_option("--context", numbers.context, "Tokens per row")
      ->transform(count(2, 1 << 20))
      ->type_name("TOKENS")
      ->group(kOptimization);
  add_number(app, "--lr", numbers.learning_rate, "Peak learning rate", 0, 10);
  app.add_option("--schedule", options.decay, "constant, linear or cosine")->group(kOptimization);
  add_number(app, "--floor", numbers.floor, "What the rate decays to, as a fraction of the peak", 0, 1);
  add_number(app, "--warmup", numbers.warmup, "Steps over which the rate rises", 0, 1e9);
  add_number(app, "--weight-decay", numbers.weight_decay, "Of tensors with two or more dimensions", 0, 10);
  add_number(app, "--beta1", numbers.beta1, "AdamW's first", 0, 0.99999);
  add_number(app, "--beta2", numbers.beta2, "AdamW's second", 0, 0.99999999);
  add_number(app, "--epsilon", numbers.epsilon, "AdamW's", 0, 1);
  add_number(app, "--clip", numbers.clip, "Largest L2 norm of the gradients; 0 is no limit", 0, 1e9);
}

/// A run that goes on, on another machine perhaps, keeps the type that it began with: under auto what the
/// checkpoint says, and of another --dtype the checkpoint says that it is another run's.
at::ScalarType compute_of(const TrainingOptions& options, const at::Device& device) {
  if (options.shared.dtype != "auto") return train::parse_compute(options.shared.dtype);
  if (options.resume) {
    const nlohmann::json run = train::identity_of_run(options.out);
    const std::string began = run.value("dtype", std::string());
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble})
      if (began == train::compute_name(type)) return type;
  }
  return train::fastest_compute(device);
}

}  // namespace

void add_training(CLI::App& app, TrainingOptions& options) {
  add_texts(app, "--data", options.data, "Training text");
  add_texts(app, "--valid", options.valid, "Held-out text, scored while training, never trained on");
  add_field(app, options.shared);
  app.add_option("--tokens", options.numbers.tokens,
                 "Tokens to train on, in all; 0 writes the model untrained")
      ->required()
      ->transform(count(0, int64_t{1} << 50))
      ->type_name("TOKENS");
  output_folder(
      app.add_option("-o,--out", options.out,
                     "Folder for the model, training.jsonl, training.svg and, until it is done, checkpoints"))
      ->required()
      ->type_name("FOLDER");
  app.add_flag("--resume", options.resume, "Go on from OUT's newest checkpoint, with the same options");
  app.add_option("--packing", options.packing,
                 "stream: attention sees across the documents of a row; documents: it starts anew at each")
      ->check(one_of_words({"stream", "documents"}));
  app.add_option("--checkpoint-every", options.checkpoint_every,
                 "Steps; 0: at Ctrl-C and after the last alone")
      ->transform(whole(0, kMostSteps));
  app.add_option("--evaluate-every", options.evaluate_every,
                 "Steps between scores of --valid; 0: before and after alone")
      ->transform(whole(0, kMostSteps));
  app.add_option("--valid-bytes", options.valid_bytes,
                 "Bytes of --valid to score, an equal share of each file; 0 is all")
      ->transform(count(0))
      ->type_name("BYTES");
  app.add_option("--valid-window", options.valid_window, "Tokens a window of --valid (perplexity's --window)")
      ->transform(count(1, 1 << 20))
      ->type_name("TOKENS");
  app.add_option("--log-every", options.log_every, "Steps between looks at a GPU's losses")
      ->transform(whole(1, 1 << 20));
  add_shard_size(app, options.shard_bytes);
  add_checkpointing(app, options.activation_checkpointing);
  app.add_option("--repeats", options.numbers.repeats,
                 "Passages of 32 to 128 tokens that stand again later in their row (in pretrain: in a long "
                 "row), per 1024 tokens: they teach far recall")
      ->check(from_to(0, 8));
  add_device(app, options.shared);
  app.add_option("--dtype", options.shared.dtype, kTrainingDtype);
  add_threads(app, options.shared);
  add_seed(app, options.shared);
  add_json(app, options.shared);
  add_numbers(app, options);
}

void add_long_rows(CLI::App& app, train::Hyperparameters& numbers, const char* place, const char* context) {
  app.add_option("--long-share", numbers.long_share, fmt::format("Share of the tokens {}", place))
      ->check(from_to(0, 1));
  app.add_option("--long-context", numbers.long_context,
                 fmt::format("Tokens per row there (default: {})", context))
      ->transform(count(2, 1 << 20))
      ->type_name("TOKENS");
}

void add_trainable(CLI::App& app, std::string& train, train::Trainable& trainable, const char* help) {
  app.add_option("--train", train, help);
  app.add_option("--lora-rank", trainable.lora_rank, "LoRA's rank")->transform(whole(1, 4096));
  app.add_option("--lora-alpha", trainable.lora_alpha, "LoRA's alpha: its product counts alpha/rank times")
      ->check(positive());
  app.add_option("--lora-targets", trainable.lora_targets,
                 "Modules with LoRA (default: the family's q, k, v and o projections)")
      ->type_name("NAME");
}

std::string arithmetic_of(const TrainingOptions& options, const train::Module& module) {
  const at::ScalarType type = module.options().compute;
  const std::string name(train::compute_name(type));
  if (options.shared.dtype != "auto") return name;
  if (type != train::fastest_compute(module.options().device)) return name + " (as the run began)";
  return type == at::kBFloat16 ? name : name + " (this processor does not multiply bfloat16)";
}

train::Module::Options module_options(const TrainingOptions& options) {
  const at::Device device = train::parse_device(options.shared.device);
  return {.device = device,
          .compute = compute_of(options, device),
          .checkpointing = options.activation_checkpointing.value_or(false)};
}

train::Module::Options module_options(const TrainingOptions& options, const ModelConfig& config,
                                      const std::vector<train::Phase>& phases) {
  train::Module::Options module = module_options(options);
  const double kept = train::kept_for_backward(config, phases, module.compute);
  if (options.activation_checkpointing || !module.device.is_cpu() || kept <= train::kMostForBackward)
    return module;
  module.checkpointing = true;
  if (options.numbers.tokens > 0)
    note(fmt::format(
        "each layer is computed twice, to save about {:.1f} GB (--no-activation-checkpointing: once)",
        kept * 1e-9));
  return module;
}

train::Place place_of(const TrainingOptions& options, const ModelConfig& config) {
  return {.cuda = train::parse_device(options.shared.device).is_cuda(), .positions = config.longest()};
}

train::Hyperparameters numbers_of(const TrainingOptions& options) {
  train::Hyperparameters numbers = options.numbers;
  if (!options.decay.empty()) numbers.decay = train::decay_of(options.decay, "--schedule");
  return numbers;
}

}  // namespace linnet::cli
