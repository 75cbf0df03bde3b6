// linnet finetune: a model trained on as it is, softmax or linear, by its own loss; with --task a classifier
// (finetune_task.cpp), with --text-fields alone pairs (finetune_pairs.cpp).
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/finetune.h"
#include "model/teacher.h"
#include "train/output.h"

namespace linnet::cli {
namespace {

train::OutputKind output_kind(const Model& model, train::Train what) {
  if (what == train::Train::kAll || what == train::Train::kAttention) return train::OutputKind::kFull;
  if (!model.base_hash().empty()) return train::OutputKind::kSidecar;
  const bool linear = model.config().raw.contains("linear_attention");
  return linear ? train::OutputKind::kFull : train::OutputKind::kLora;
}

/// Refuses what is for classifiers, or for pairs.
void check_text_options(const FinetuneOptions& options) {
  const CLI::App& app = *options.training.shared.app;
  refuse_given(app, {"--label-field", "--limit", "--metric", "--method", "--attention", "--set"},
               "given without --task", "--task FILE too");
  if (has_pairs(options)) return;
  refuse_given(app, {"--epochs", "--length"}, "given without --task", "--task FILE too, or --text-fields");
  if (app.count("--tokens") == 0)
    throw Error("--tokens", "is missing", "how many to train on, or --task FILE for a classifier");
}

ExitStatus finetune(const FinetuneOptions& given) {
  if (!given.task.empty()) return finetune_task(given);
  FinetuneOptions options = given;
  TrainingOptions& training = options.training;
  check_text_options(options);
  if (options.train == "head") throw Error("--train", "head without --task", "all, attention, lora or new");
  check_training(training);
  train::set_threads(training.shared.threads);
  const auto model = open_model(training.shared, Stacks::kTwo);
  train::Trainable trainable = options.trainable;
  trainable.what = train::parse_train(options.train);
  trainable.seed = training.shared.seed;
  if (model->lora()) {  // it is trained on, or kept, as it is
    trainable.lora_rank = model->lora()->rank;
    trainable.lora_alpha = model->lora()->alpha;
    trainable.lora_targets = model->lora()->targets;
  }
  const train::OutputKind kind = output_kind(*model, trainable.what);
  check_lora(training, options.train, model->lora().has_value());
  if (kind == train::OutputKind::kFull) check_mergeable(*model, trainable.what);
  check_shard_size(training, kind == train::OutputKind::kFull);
  std::optional<FinetunePairs> pairs;
  if (has_pairs(options)) {
    pairs = read_pairs(options, *model);
    training.numbers.context = pairs->train.longest();
    training.numbers.tokens = options.epochs * pairs->train.size() * pairs->train.longest();
  }
  std::vector<train::Phase> phases =
      train::finetune_recipe(numbers_of(training), place_of(training, model->config()), trainable);
  train::Module module(model, module_options(training, model->config(), phases));
  module.set_trainable(trainable);  // refuses before anything long is begun
  TrainingRun run{.title = fmt::format("linnet finetune {} --train {}", training.shared.model, options.train),
                  .tokenizer = model->tokenizer_folder(),
                  .model = model.get(),
                  .pairs = pairs ? &pairs->train : nullptr,
                  .held_out_pairs = pairs ? pairs->held_out.get() : nullptr,
                  .phases = std::move(phases),
                  .identity = {{"command", "finetune"},
                               {"model", model->weights_hash()},
                               {"attention", attention_object(model->config(), model->all_attention())}}};
  run.write = [&](bool trained) -> std::vector<std::string> {
    train::write_trained(training.out, module, *model, kind, static_cast<size_t>(training.shard_bytes),
                         trained);
    std::vector<std::string> lines{fmt::format("wrote {}", training.out.string())};
    if (kind == train::OutputKind::kFull) return lines;
    const std::string hint = train::base_hint(training.out, *model);
    if (!hint.empty()) lines.push_back(hint);
    return lines;
  };
  return run_training(training, module, run);
}

}  // namespace

void describe_finetune(CLI::App& app, Work& work) {
  const auto options = std::make_shared<FinetuneOptions>();
  add_model(app, options->training.shared);
  add_trainable(
      app, options->train, options->trainable,
      "What is trained: all; attention (q, k, v, o, their norms, new tensors); lora (and new tensors); "
      "new (of a linear model, the new tensors alone); head (of a classifier, its head alone)");
  add_task(app, *options);
  add_training(app, options->training);
  app.get_option("--tokens")->required(false)->default_str("");
  app.callback([options, &work] { work = [options] { return finetune(*options); }; });
}

}  // namespace linnet::cli
