// linnet linearize: a softmax model's attention replaced by linear attention, and the new tensors trained.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>

#include "attention/method.h"
#include "attention/presets.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/attention_choice.h"
#include "cli/commands.h"
#include "cli/spending.h"
#include "cli/training.h"
#include "model/state_size.h"
#include "model/teacher.h"
#include "train/learning.h"
#include "train/lora.h"
#include "train/output.h"

namespace linnet::cli {
namespace {

struct LinearizeOptions {
  TrainingOptions training;
  AttentionChoice chosen;
  std::string budgets, recipe = "transfer", train;
  Spending spending;
  train::Trainable trainable;
};

/// Keys that say how many tokens a head sees exactly: given one, nothing is bought unasked.
constexpr std::array kWindowKeys{"group", "local_groups", "kept", "alpha", "layers"};

Stages stages_of(const LinearizeOptions& options, int layers, bool spends) {
  const CLI::App& app = *options.training.shared.app;
  Stages stages = stages_of(app, options.chosen, layers,
                            spends ? attention_to_spend_on() : method_attention("grouped", layers));
  if (app.count("--budgets") > 0)
    stages.push_back({"--budgets", with_budgets(stages.back().second,
                                                given_object("--budgets", options.budgets), "--budgets")});
  return stages;
}

/// Whether changes say how wide a window is, of all layers or of one.
bool sets_windows(const nlohmann::json& changes) {
  const auto layers = changes.find("layers");
  return changes.contains("local_groups") ||
         (layers != changes.end() && layers->is_object() &&
          std::any_of(layers->begin(), layers->end(), [](const nlohmann::json& own) {
            return own.is_object() && own.contains("local_groups");
          }));
}

/// --state, or the recommended one: where no attention is named, its windows are left open and the model's
/// context is long enough for them to matter. A method that is named is taken as it stands. Empty: none.
std::string state_of(const LinearizeOptions& options, const Model& model) {
  constexpr int64_t kLongContext = 4096;
  if (!options.spending.state.empty()) return options.spending.state;
  const bool can_measure = options.training.numbers.tokens > 0 &&
                           (!options.training.data.empty() || !options.spending.reach.empty());
  const nlohmann::json keys = keys_of(options.chosen.set);
  const bool is_open = std::none_of(kWindowKeys.begin(), kWindowKeys.end(),
                                    [&](const char* key) { return keys.contains(key); });
  if (!options.chosen.method.empty() || !options.chosen.attention.empty() || !options.budgets.empty() ||
      !can_measure || model.config().positions < kLongContext || !is_open)
    return {};
  note(fmt::format("--state {} as no window is given (--set local_groups=4: the same for every head)",
                   kRecommendedState));
  return kRecommendedState;
}

/// The attention of every layer; with --state its windows are bought. Nothing after Ctrl-C.
std::optional<std::vector<AttentionConfig>> chosen_attention(const LinearizeOptions& options,
                                                             const std::shared_ptr<const Model>& model) {
  const CLI::App& app = *options.training.shared.app;
  Spending spending = options.spending;
  if (!spending.state.empty()) {
    refuse_given(app, {"--budgets"}, "given with --state", "one of the two");
    if (sets_windows(keys_of(options.chosen.set)))
      throw Error("--set", "local_groups given with --state, which chooses them", "one of the two");
  }
  if (model->encoder()) {
    refuse_given(app, {"--state", "--reach", "--recall-weight", "--state-type", "--budgets"},
                 fmt::format("given for {}, whose windows are not bought", model->config().model_type),
                 "--method, --attention or --set");
    const Stages stages = stages_of(options, static_cast<int>(model->config().layers), false);
    return attention_of(stages, model->config());
  }
  spending.state = state_of(options, *model);
  const Stages stages = stages_of(options, static_cast<int>(model->config().layers), !spending.state.empty());
  const std::vector<AttentionConfig> layers = attention_of(stages, model->config());
  const nlohmann::json& object = stages.back().second;
  if (spending.state.empty()) {
    refuse_given(app, {"--reach", "--recall-weight", "--state-type"}, "given without --state", "--state too");
    return layers;
  }
  check_spendable(layers);
  if (options.training.numbers.tokens > 0) check_data(options.training);
  const bool is_fixed = object.contains("group") || !options.chosen.attention.empty();
  if (is_fixed) return spend(spending, options.training, model, {0}, [&](int) { return layers; });
  return spend(spending, options.training, model, {16, 32, 64}, [&](int group) {
    return attention_over(model->config(), with_changes(object, {{"group", group}}), "--state");
  });
}

/// A local branch that sees more than the teacher did cannot learn not to: its weights are not learned.
void warn_of_wide_branches(const std::vector<AttentionConfig>& layers, const std::vector<int>& windows) {
  std::vector<size_t> wide;
  for (size_t i = 0; i < windows.size(); ++i) {
    if (layers[i].has_local() && windows[i] > 0 &&
        layers[i].group * layers[i].local_groups.most() > windows[i])
      wide.push_back(i);
  }
  if (wide.empty()) return;
  const AttentionConfig& first = layers[wide.front()];
  warn(
      fmt::format("layer {}{}: the local branch sees up to {} tokens, the model's own window is {}; group or "
                  "local_groups make it smaller",
                  wide.front(), wide.size() > 1 ? fmt::format(" and {} more", wide.size() - 1) : "",
                  first.group * first.local_groups.most(), windows[wide.front()]));
}

bool is_paper_recipe(const LinearizeOptions& options) {
  if (options.recipe == "finetune") return true;
  if (options.recipe == "transfer") return false;
  throw Error("--recipe", printable(options.recipe), "transfer or finetune");
}

std::string train_of(const LinearizeOptions& options) {
  if (!options.train.empty()) return options.train;
  return is_paper_recipe(options) ? "lora" : "new";
}

/// Refuses options of attention transfer where there is none.
void check_given(const LinearizeOptions& options, bool learns) {
  const CLI::App& app = *options.training.shared.app;
  if (is_paper_recipe(options))
    refuse_given(app, {"--transfer-lr", "--transfer-share", "--long-share"}, "given with --recipe finetune",
                 "--recipe transfer");
  if (!learns)
    refuse_given(app, {"--transfer-lr", "--transfer-share"},
                 "given, and this attention learns no tensors of its own", "a method that learns some");
  if (options.training.numbers.transfer_share == 0)
    refuse_given(app, {"--transfer-lr"}, "given with --transfer-share 0", "a share above 0");
}

/// `transfer` trains the new tensors; the paper LoRA, with embeddings and norms in full.
train::Trainable trainable_of(const LinearizeOptions& options) {
  const bool paper = is_paper_recipe(options);
  train::Trainable trainable = options.trainable;
  trainable.what = train::parse_train(train_of(options));
  trainable.embeddings_and_norms = paper && trainable.what == train::Train::kLora;
  trainable.seed = options.training.shared.seed;
  return trainable;
}

train::OutputKind output_kind(const train::Trainable& trainable) {
  const bool original_changed = trainable.what == train::Train::kAll ||
                                trainable.what == train::Train::kAttention || trainable.embeddings_and_norms;
  return original_changed ? train::OutputKind::kFull : train::OutputKind::kSidecar;
}

/// Which option made the attention what it is, as far as an error must name one.
std::string attention_option(const LinearizeOptions& options) {
  return options.chosen.attention.empty() ? "--method" : "--attention";
}

ExitStatus linearize(const LinearizeOptions& options) {
  const TrainingOptions& training = options.training;
  check_training(training);
  train::set_threads(training.shared.threads);
  SharedOptions opened = training.shared;
  opened.dtype = "auto";  // its state is that of the model as it will be run; --dtype is training's
  const auto model = open_model(opened, Stacks::kTwo);
  if (model->config().raw.contains("linear_attention") || !model->base_hash().empty())
    throw Error(training.shared.model, "is linearized already",
                "a softmax model (finetune trains this one on)");
  if (model->lora())  // the teacher would be the base without it
    throw Error(training.shared.model, "is a LoRA",
                "a model with its own weights: linnet merge writes one to linearize");
  const train::Trainable trainable = trainable_of(options);
  // What can be refused before minutes of measuring what the heads need is refused before them.
  check_lora(training, train_of(options), false);
  if (trainable.what == train::Train::kLora) train::check_targets(model->family(), trainable.lora_targets);
  const train::OutputKind kind =
      training.numbers.tokens == 0 ? train::OutputKind::kSidecar : output_kind(trainable);
  check_shard_size(training, kind == train::OutputKind::kFull);
  const auto chosen = chosen_attention(options, model);
  if (!chosen) {
    note("interrupted; nothing written");
    return ExitStatus::kInterrupted;
  }
  const std::vector<AttentionConfig>& layers = *chosen;
  check_state_fits(constant_state_bytes(layers, model->attention_shape()), 1, machine_memory(), "attention");
  warn_of_wide_branches(layers, model->config().windows);
  const AttentionShape shape = model->attention_shape();
  const bool learns = std::any_of(layers.begin(), layers.end(),
                                  [&](const auto& config) { return train::learns_tensors(config, shape); });
  check_given(options, learns);
  train::Hyperparameters numbers = numbers_of(training);
  if (!learns) numbers.transfer_share = 0;  // attention transfer trains the new tensors alone
  const train::Place place = place_of(training, model->config());
  std::vector<train::Phase> phases = is_paper_recipe(options)
                                         ? train::finetune_recipe(numbers, place, trainable)
                                         : train::transfer_recipe(numbers, place, trainable);
  train::Module module(model, module_options(training, model->config(), phases));
  module.set_attention(layers, training.shared.seed);
  TrainingRun run{
      .title = fmt::format("linnet linearize {} --recipe {}", training.shared.model, options.recipe),
      .tokenizer = model->tokenizer_folder(),
      .model = model.get(),
      .phases = std::move(phases),
      .attention_option = attention_option(options),
      .identity = {{"command", "linearize"},
                   {"model", model->weights_hash()},
                   {"attention", attention_object(model->config(), layers)},
                   {"recipe", options.recipe}}};
  run.write = [&](bool trained) -> std::vector<std::string> {
    train::write_trained(training.out, module, *model, kind, static_cast<size_t>(training.shard_bytes),
                         trained);
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
  add_model(app, options->training.shared, "Model folder with softmax attention and weights of its own");
  add_attention_choice(app, options->chosen,
                       "where windows are bought, t2r with softmax over them; else grouped");
  add_spending(app, options->spending);
  add_state_type(app, options->training.shared);
  app.add_option(
         "--budgets", options->budgets,
         "Windows and kept tokens by hand instead: group, local_groups, kept, keep and sinks of that object, "
         "and of its layers; JSON text, or a file with it")
      ->type_name("JSON");
  app.add_option("--recipe", options->recipe,
                 "transfer: attention transfer by layer, then KL to the softmax model's logits; "
                 "finetune: next-token loss, the paper's");
  add_trainable(
      app, options->train, options->trainable,
      "What is trained: new (transfer's default), lora (finetune's), attention or all; transfer's first "
      "phase trains the new tensors alone");
  train::Hyperparameters& numbers = options->training.numbers;
  app.add_option("--transfer-lr", numbers.transfer_learning_rate,
                 "Peak rate of attention transfer, by default 0.01")
      ->check(from_to(0, 10));
  app.add_option("--transfer-share", numbers.transfer_share,
                 "Share of the tokens for attention transfer, by default 0.375")
      ->check(from_to(0, 1));
  add_long_rows(app, numbers, "for a last phase on long rows", "8 times the others'");
  add_training(app, options->training);
  app.callback([options, &work] { work = [options] { return linearize(*options); }; });
}

}  // namespace linnet::cli
