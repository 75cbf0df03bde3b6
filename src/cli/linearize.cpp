// linnet linearize: a softmax model's attention replaced by linear attention, and the new tensors trained.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/training.h"
#include "train/output.h"

namespace linnet::cli {
namespace {

struct LinearizeOptions {
  TrainingOptions training;
  std::string method = "grouped", attention, recipe = "transfer", train;
  std::vector<std::string> set;
  std::vector<int> exact_layers;
  std::optional<int> exact_window;
  train::Trainable trainable;
};

/// The `linear_attention` object: --attention, else --method alone; then each --set.
nlohmann::json attention_object(const LinearizeOptions& options) {
  nlohmann::json object{{"method", options.method}};
  if (!options.attention.empty()) object = parse_json(options.attention, "--attention");
  if (!object.is_object()) throw Error("--attention", printable(options.attention), "a JSON object");
  for (const std::string& item : options.set) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0)
      throw Error("--set", printable(item), "KEY=VALUE, such as group=32");
    const std::string value = item.substr(equals + 1);
    nlohmann::json parsed = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
    object[item.substr(0, equals)] = parsed.is_discarded() ? nlohmann::json(value) : parsed;
  }
  return object;
}

/// Adds the layers of --exact-layers: the local branch alone, as wide as --exact-window, for which nothing is
/// learned.
nlohmann::json with_exact_layers(nlohmann::json object, const LinearizeOptions& options,
                                 const ModelConfig& config) {
  if (options.exact_window && options.exact_layers.empty())
    throw Error("--exact-window", "given without --exact-layers", "the layers whose window it is");
  constexpr int kGroups = 16;
  const int64_t window = options.exact_window.value_or(static_cast<int>(config.positions));
  const int64_t group = std::min<int64_t>((window + kGroups - 1) / kGroups, 4096);
  for (const int layer : options.exact_layers) {
    if (layer < 0 || layer >= config.layers)
      throw Error("--exact-layers", fmt::format("layer {}", layer),
                  fmt::format("layers 0 to {}, such as 4,6", config.layers - 1));
    object["layers"][std::to_string(layer)] = {{"method", "grouped"},
                                               {"alpha", 1},
                                               {"taps", 0},
                                               {"group", group},
                                               {"local_groups", (window + group - 1) / group},
                                               {"sinks", std::min<int64_t>(4, group)}};
  }
  return object;
}

bool is_paper_recipe(const LinearizeOptions& options) {
  if (options.recipe == "finetune") return true;
  if (options.recipe == "transfer") return false;
  throw Error("--recipe", printable(options.recipe), "transfer or finetune");
}

/// `transfer` trains the new tensors; the paper LoRA, with embeddings and norms in full.
train::Trainable trainable_of(const LinearizeOptions& options) {
  const bool paper = is_paper_recipe(options);
  train::Trainable trainable = options.trainable;
  trainable.what = train::parse_train(options.train.empty() ? (paper ? "lora" : "new") : options.train);
  trainable.embeddings_and_norms = paper && trainable.what == train::Train::kLora;
  trainable.seed = options.training.shared.seed;
  return trainable;
}

train::OutputKind output_kind(const train::Trainable& trainable) {
  const bool original_changed = trainable.what == train::Train::kAll ||
                                trainable.what == train::Train::kAttention || trainable.embeddings_and_norms;
  return original_changed ? train::OutputKind::kFull : train::OutputKind::kSidecar;
}

ExitStatus linearize(const LinearizeOptions& options) {
  const TrainingOptions& training = options.training;
  check_out(training);
  train::set_threads(training.shared.threads);
  const auto model = open_model(training.shared);
  if (model->config().raw.contains("linear_attention"))
    throw Error(training.shared.model, "is linearized already",
                "a softmax model (finetune trains this one on)");
  const train::Trainable trainable = trainable_of(options);
  const auto object = with_exact_layers(attention_object(options), options, model->config());
  const auto layers = parse_attention(object, static_cast<int>(model->config().layers),
                                      options.attention.empty() ? "--method" : "--attention");
  train::Module module(model, module_options(training));
  module.set_attention(layers, training.shared.seed);
  const train::Place place = place_of(training, model->config());
  TrainingRun run{
      .title = fmt::format("linnet linearize {} --recipe {}", training.shared.model, options.recipe),
      .tokenizer = model->tokenizer_folder(),
      .model = model.get(),
      .phases = is_paper_recipe(options) ? train::finetune_recipe(numbers_of(training), place, trainable)
                                         : train::transfer_recipe(numbers_of(training), place, trainable),
      .identity = {{"command", "linearize"},
                   {"model", tensors_hash(model->base_tensors())},
                   {"attention", to_json(layers)},
                   {"recipe", options.recipe}}};
  run.write = [&]() -> std::vector<std::string> {
    const train::OutputKind kind =
        training.numbers.tokens == 0 ? train::OutputKind::kSidecar : output_kind(trainable);
    train::write_trained(training.out, module, *model, kind, static_cast<size_t>(training.shard_bytes));
    if (kind == train::OutputKind::kFull) return {fmt::format("wrote {}", training.out.string())};
    std::vector<std::string> lines{
        fmt::format("wrote {}: a sidecar of {}", training.out.string(), model->base_folder().string())};
    const std::string hint = train::base_hint(training.out, *model);
    if (!hint.empty()) lines.push_back(hint);
    return lines;
  };
  return run_training(training, module, run);
}

}  // namespace

void describe_linearize(CLI::App& app, Work& work) {
  const auto options = std::make_shared<LinearizeOptions>();
  add_model(app, options->training.shared);
  app.add_option("--method", options->method, "Attention of every layer (`linnet methods` lists them)");
  app.add_option("--attention", options->attention,
                 "The whole linear_attention object instead, as config.json has it")
      ->type_name("JSON");
  app.add_option("--set", options->set, "Sets keys of that object: group=32 local_groups=2 …")
      ->type_name("KEY=VALUE");
  app.add_option("--exact-layers", options->exact_layers,
                 "Layers that keep exact attention, over a window, and get no summary: those that look far "
                 "(`linnet reach` finds them), such as 4,6")
      ->delimiter(',')
      ->type_name("LAYER,…");
  app.add_option("--exact-window", options->exact_window,
                 "Tokens that those layers see [the context that the model was trained on]")
      ->check(from_to(1, 65536));
  app.add_option("--recipe", options->recipe,
                 "transfer: attention transfer by layer, then KL to the softmax model's logits; "
                 "finetune: next-token loss, the paper's");
  add_trainable(
      app, options->train, options->trainable,
      "What is trained: new (transfer's default), lora (finetune's), attention or all; transfer's first "
      "phase trains the new tensors alone");
  train::Numbers& numbers = options->training.numbers;
  app.add_option("--transfer-lr", numbers.transfer_learning_rate,
                 "Peak rate of attention transfer, by default 0.01")
      ->check(from_to(0, 10));
  app.add_option("--transfer-share", numbers.transfer_share,
                 "Share of the tokens for attention transfer, by default 0.375")
      ->check(from_to(0, 1));
  app.add_option("--long-share", numbers.long_share, "Share of the tokens for a last phase on long rows")
      ->check(from_to(0, 1));
  app.add_option("--long-factor", numbers.long_factor, "How many times longer those rows are")
      ->check(from_to(1, 1024));
  add_training(app, options->training);
  app.callback([options, &work] { work = [options] { return linearize(*options); }; });
}

}  // namespace linnet::cli
