// linnet finetune --task: a classifier of texts or of pairs of them, in the paper's protocol.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/finetune.h"
#include "evaluate/classify.h"
#include "model/teacher.h"
#include "train/classifier.h"
#include "train/output.h"

namespace linnet::cli {
namespace {

namespace fs = std::filesystem;

/// What --task and --valid hold, as text.
struct TaskTexts {
  const TextTask* task = nullptr;  // the known one that all files are of
  std::vector<LabeledText> train, valid;
  std::vector<std::string> labels;
  std::vector<Metric> metrics;  // the first chooses the epoch
};

std::vector<LabeledText> read_texts(const std::vector<fs::path>& files, const TextFields& fields) {
  std::vector<LabeledText> texts;
  for (const fs::path& file : files)
    for (LabeledText& text : read_labeled(file, fields, /*labeled=*/true)) texts.push_back(std::move(text));
  return texts;
}

const TextTask* task_of(const FinetuneOptions& options) {
  if (!options.fields.texts.empty()) return nullptr;
  const TextTask* task = text_task_of(options.task.front());
  for (const auto* files : {&options.task, &options.training.valid})
    for (const fs::path& file : *files)
      if (task != nullptr && text_task_of(file) != nullptr && text_task_of(file) != task)
        throw Error(file.string(), fmt::format("of another task than {}", options.task.front().string()),
                    fmt::format("files of {} alone", task->title));
  return task;
}

/// The metrics with the one that --metric names first.
std::vector<Metric> chosen_metrics(const FinetuneOptions& options, const TaskTexts& texts) {
  std::vector<Metric> metrics = metrics_of(texts.task, texts.labels.size());
  if (options.metric.empty()) return metrics;
  const Metric first = text_metric(options.metric, texts.labels.size(), "--metric");
  std::erase(metrics, first);
  metrics.insert(metrics.begin(), first);
  return metrics;
}

TaskTexts read_task_texts(const FinetuneOptions& options) {
  TaskTexts texts{.task = task_of(options)};
  for (const fs::path& file : options.training.valid)
    if (std::ranges::count(options.task, file) > 0)
      throw Error(file.string(), "stands in --task and in --valid", "held-out texts in --valid alone");
  texts.train = read_texts(options.task, options.fields);
  texts.valid = read_texts(options.training.valid, options.fields);
  texts.labels = labels_of(texts.task, texts.train, options.task.front().string());
  texts.metrics = chosen_metrics(options, texts);
  if (options.limit > 0 && options.limit < std::ssize(texts.train)) {
    std::vector<LabeledText> some;
    for (const int64_t place : train::order_of(std::ssize(texts.train), options.training.shared.seed, -1))
      if (std::ssize(some) < options.limit) some.push_back(std::move(texts.train[place]));
    texts.train = std::move(some);
  }
  return texts;
}

train::LabeledTokens encode(const std::vector<LabeledText>& texts, const TaskTexts& of,
                            const TextEncoder& encoder, bool typed, ThreadPool& pool) {
  train::LabeledTokens tokens;
  tokens.tokens.resize(texts.size());
  tokens.labels.resize(texts.size());
  if (typed) tokens.types.resize(texts.size());
  pool.run(texts.size(), [&](size_t i) {
    tokens.labels[i] = static_cast<int64_t>(label_id(texts[i], of.labels));
    Tokenizer::Framed text = encoder.encode(texts[i]);
    tokens.tokens[i] = std::move(text.tokens);
    if (typed) tokens.types[i] = std::move(text.types);
  });
  return tokens;
}

/// The token that fills up a batch for transformers; nothing in Linnet sees it.
int64_t pad_of(const Model& model, const Tokenizer& tokenizer) {
  if (const auto pad = model.config().pad) return *pad;
  for (const char* name : {"<pad>", "[PAD]", "<|padding|>", "<|pad|>"})
    if (const auto id = tokenizer.special_id_of(name)) return *id;
  if (!model.config().eos.empty()) return model.config().eos.front();
  if (const auto eos = tokenizer.eos()) return *eos;
  throw Error(model.folder().string(),
              "has neither a pad nor an end token, and a classifier's batches need one",
              "pad_token_id in its config.json");
}

struct Encoded {
  train::LabeledTokens train, valid;
  int64_t longest = 1;
  int64_t pad = 0;
  std::string said;  // of the texts, once nothing can be refused any more
};

/// The pool's threads are gone when libtorch's begin.
Encoded encode_texts(const FinetuneOptions& options, const Model& model, const TaskTexts& texts) {
  const Tokenizer tokenizer = Tokenizer::load(model.tokenizer_folder());
  if (tokenizer.vocabulary() > model.config().vocabulary)
    throw Error(model.tokenizer_folder().string(), fmt::format("{} tokens", tokenizer.vocabulary()),
                fmt::format("at most the model's vocabulary of {}", model.config().vocabulary));
  const bool ends = model.family().positions == PositionKind::kLearned;
  const int64_t longest = ends ? model.config().longest() : options.length;
  if (options.length > longest && options.training.shared.app->count("--length") > 0)
    throw Error("--length", fmt::format("{}", options.length),
                fmt::format("at most {}, the model's positions", longest));
  const int64_t length = std::min(options.length, longest);
  const TextEncoder encoder = text_encoder(model, tokenizer, length);
  const bool typed = model.config().token_types > 1;
  ThreadPool pool(options.training.shared.threads);
  Encoded encoded{.train = encode(texts.train, texts, encoder, typed, pool),
                  .valid = encode(texts.valid, texts, encoder, typed, pool),
                  .pad = pad_of(model, tokenizer)};
  int64_t whole = 0;
  for (const auto& tokens : encoded.train.tokens) {
    encoded.longest = std::max(encoded.longest, std::ssize(tokens));
    whole += std::ssize(tokens) == length ? 1 : 0;
  }
  encoded.said = fmt::format(
      "{}, {} held out, {} labels; the longest of {} tokens{}", counted(encoded.train.size(), "text"),
      encoded.valid.size(), texts.labels.size(), encoded.longest,
      whole > 0 ? fmt::format(" ({} fill --length {} or were cut to it)", whole, length) : "");
  return encoded;
}

std::string hash_of(const train::LabeledTokens& texts) {
  train::TokenizedText all;
  for (size_t i = 0; i < texts.tokens.size(); ++i) {
    all.tokens.insert(all.tokens.end(), texts.tokens[i].begin(), texts.tokens[i].end());
    all.tokens.push_back(-1 - static_cast<int32_t>(texts.labels[i]));
  }
  return train::hash_of(all);
}

/// Refuses options that are for text without labels.
void check_task_options(const FinetuneOptions& options) {
  const CLI::App& app = *options.training.shared.app;
  for (const char* name : {"--data", "--tokens", "--field", "--packing", "--repeats", "--context",
                           "--evaluate-every", "--valid-bytes", "--valid-window"})
    if (app.count(name) > 0) throw Error("--task", fmt::format("given with {}", name), "one of the two");
  if (options.fields.texts.empty())
    refuse_given(app, {"--label-field"}, "given without --text-fields", "--text-fields too");
  if (options.fields.texts.size() > 2)
    throw Error("--text-fields", fmt::format("{} fields", options.fields.texts.size()), "one or two");
  if (options.training.valid.empty())
    refuse_given(app, {"--metric"}, "given without --valid", "--valid FILE too");
  if (options.training.numbers.learning_rate == 0)
    throw Error("--lr", "0: nothing can learn", "a rate above 0");
}

/// The module with the attention that was chosen, and nothing trained yet.
train::Module make_module(const FinetuneOptions& options, const std::shared_ptr<const Model>& model,
                          int64_t batch, int64_t longest) {
  const TrainingOptions& training = options.training;
  train::Phase phase{.name = "finetune", .micro_batch = batch};
  phase.rows.context = longest;
  train::Module module(model, module_options(training, model->config(), {phase}));
  const CLI::App& app = *training.shared.app;
  if (app.count("--method") + app.count("--attention") == 0) {
    refuse_given(app, {"--set"}, "given without --method or --attention", "one of them too");
    return module;
  }
  if (model->config().raw.contains("linear_attention") || model->is_sidecar())
    throw Error(app.count("--method") > 0 ? "--method" : "--attention",
                fmt::format("given, and {} is linearized already, or a LoRA", training.shared.model),
                "a softmax model with its own weights");
  const Stages stages = stages_of(app, options.attention, static_cast<int>(model->config().layers), {});
  module.set_attention(attention_of(stages, model->config()), training.shared.seed);
  return module;
}

nlohmann::ordered_json scores_json(const std::vector<std::pair<std::string, double>>& scores) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, value] : scores) json[name] = value;
  return json;
}

nlohmann::ordered_json task_result(const FinetuneOptions& options, const TaskTexts& texts,
                                   const Encoded& encoded, const train::Module& module,
                                   const train::ClassifierResult& result) {
  nlohmann::ordered_json epochs = nlohmann::ordered_json::array();
  for (const auto& scores : result.epochs) epochs.push_back(scores_json(scores));
  return {
      {"out", options.training.out.string()},
      {"task", texts.task == nullptr ? nlohmann::ordered_json() : nlohmann::ordered_json(texts.task->name)},
      {"dtype", train::compute_name(module.options().compute)},
      {"labels", texts.labels},
      {"texts", encoded.train.size()},
      {"held_out", encoded.valid.size()},
      {"steps", result.run.steps},
      {"tokens", result.run.tokens},
      {"trained_parameters", result.run.trained_parameters},
      {"loss", result.run.loss},
      {"epoch", result.epoch},
      {"validation", result.scores.empty() ? nlohmann::ordered_json() : scores_json(result.scores)},
      {"epochs", epochs},
      {"tokens_per_second", result.run.tokens_per_second},
      {"seconds", result.run.seconds},
      {"peak_memory_bytes", result.run.peak_memory},
      {"peak_device_memory_bytes", result.run.peak_device_memory}};
}

std::string task_report(const Encoded& encoded, const train::ClassifierResult& result) {
  std::string text = fmt::format(
      "{} in {}: {} tokens/s; {} parameters trained; loss {:.4f}\n", counted(encoded.train.size(), "text"),
      short_time(result.run.seconds), short_number(result.run.tokens_per_second),
      short_number(static_cast<double>(result.run.trained_parameters)), result.run.loss);
  text += fmt::format("memory: {}\n", memory_of(result.run));
  if (result.scores.empty()) return text;
  text += fmt::format("kept epoch {}: validation", result.epoch);
  for (size_t i = 1; i < result.scores.size(); ++i)
    text += fmt::format("{} {} {:.4f}", i > 1 ? "," : "", result.scores[i].first, result.scores[i].second);
  return text + "\n";
}

train::RunOptions task_run_options(const FinetuneOptions& options, const train::Module& module,
                                   const Model& model, const train::ClassifierRecipe& recipe,
                                   const Encoded& encoded, const std::vector<Metric>& metrics) {
  const TrainingOptions& training = options.training;
  train::RunOptions run{
      .out = training.out,
      .title = fmt::format("linnet finetune {} --train {}", training.shared.model, options.train),
      .resume = training.resume,
      .checkpoint_every = training.checkpoint_every,
      .log_every = module.options().device.is_cuda() ? training.log_every : 1,
      .seed = training.shared.seed};
  run.identity = {{"command", "finetune --task"},
                  {"model", model.weights_hash()},
                  {"attention", attention_object(module.config(), module.all_attention())},
                  {"train", options.train},
                  {"lora_rank", options.trainable.lora_rank},
                  {"lora_alpha", options.trainable.lora_alpha},
                  {"lora_targets", options.trainable.lora_targets},
                  {"seed", training.shared.seed},
                  {"dtype", train::compute_name(module.options().compute)},
                  {"data", hash_of(encoded.train)},
                  {"valid", hash_of(encoded.valid)},
                  {"metric", name_of(metrics.front())}};
  run.identity.update(train::identity_of(recipe));
  return run;
}

}  // namespace

ExitStatus finetune_task(const FinetuneOptions& options) {
  const TrainingOptions& training = options.training;
  check_training(training);
  check_task_options(options);
  const JsonResult json(training.shared);
  train::set_threads(training.shared.threads);
  const TaskTexts texts = read_task_texts(options);
  const auto opened = open_any_model(training.shared, Stacks::kTwo);
  const Encoded encoded = encode_texts(options, *opened, texts);
  stop_if_interrupted();
  check_lora(training, options.train, opened->lora().has_value());
  if (options.train != "head") check_mergeable(*opened, train::parse_train(options.train));
  const auto model = opened->with_labels(texts.labels, encoded.pad, std::ssize(texts.train.front().texts));
  const bool goes_on = opened->config().labels == texts.labels;
  const train::ClassifierRecipe recipe =
      train::classifier_recipe(numbers_of(training), options.epochs, encoded.train.size());
  if (recipe.schedule.decay == train::RateShape::kConstant)
    refuse_given(*training.shared.app, {"--floor"}, "given, and the rate stays constant",
                 "--schedule linear or cosine");
  train::Module module = make_module(options, model, recipe.micro_batch, encoded.longest);
  if (options.train != "head") {
    train::Trainable trainable = options.trainable;
    trainable.what = train::parse_train(options.train);
    trainable.seed = training.shared.seed;
    module.set_trainable(trainable);
  }
  train::TrainedClassifier classifier(module, *model, training.shared.seed, /*fresh=*/!goes_on);
  note(encoded.said);
  if (opened->config().is_classifier() && !goes_on)
    note("the model's labels are others: it gets a fresh head");
  note(fmt::format("training on {} for {} in {}: {} of {}", counted(encoded.train.size(), "text"),
                   counted(recipe.epochs, "epoch"), arithmetic_of(training, module),
                   counted(recipe.schedule.steps, "step"), recipe.batch));
  train::warn_of_slow_products(module.options());
  const train::ClassifierScores scores{encoded.valid.size() > 0 ? &encoded.valid : nullptr, texts.metrics};
  const train::ClassifierResult result =
      train::train_classifier(module, classifier, encoded.train, scores, recipe,
                              task_run_options(options, module, *opened, recipe, encoded, texts.metrics));
  if (result.run.interrupted) {
    note(fmt::format("interrupted after step {}; saved in {}; --resume goes on", result.run.steps,
                     result.run.checkpoint.string()));
    return ExitStatus::kInterrupted;
  }
  const KeepWorking keep;
  try {
    train::write_classifier(training.out, module, classifier.head(), *model,
                            static_cast<size_t>(training.shard_bytes));
  } catch (const Error& error) {
    if (result.run.checkpoint.empty()) throw;
    throw Error(error.what(),
                fmt::format("what was trained is kept in {}; the same command with --resume goes on from it",
                            result.run.checkpoint.string()),
                {}, error.status());
  }
  train::remove_checkpoints(training.out);
  json.write(task_result(options, texts, encoded, module, result));
  print(task_report(encoded, result));
  print(fmt::format("wrote {}\n", training.out.string()));
  return ExitStatus::kDone;
}

void add_task(CLI::App& app, FinetuneOptions& options) {
  constexpr const char* kGroup = "Classifiers (with --task)";
  app.add_option(
         "--task", options.task,
         "Labelled texts, one JSON object a line, plain or packed: a classifier is trained on them. "
         "Fields and labels of sst2, cola, mrpc, rte, qnli, wnli, qqp, mnli and agnews are known by the "
         "beginning of the file's name")
      ->type_name("FILE")
      ->group(kGroup);
  comma_list(
      app.add_option(
          "--text-fields", options.fields.texts,
          "The field with the text, or two of a pair; without --task, of --data: what T5 reads, and what it "
          "is to write, or one with messages"))
      ->type_name("NAME,…")
      ->group(kGroup);
  app.add_option("--label-field", options.fields.label, "The field with the label (default: label)")
      ->type_name("NAME")
      ->check(not_empty())
      ->group(kGroup);
  app.add_option("--epochs", options.epochs, "Times that each text, or pair, is read")
      ->transform(whole(1, 10'000))
      ->group(kGroup)
      ->capture_default_str();
  app.add_option("--length", options.length, "Tokens of a text, or of a pair, at most: longer ones are cut")
      ->transform(count(3, 1 << 20))
      ->type_name("TOKENS")
      ->group(kGroup)
      ->capture_default_str();
  app.add_option("--limit", options.limit, "Train on so many of the texts, drawn by --seed (default: all)")
      ->transform(count(1))
      ->group(kGroup);
  app.add_option("--metric", options.metric,
                 "What chooses the best epoch on --valid: acc, f1, mcc (default: the task's; else acc)")
      ->group(kGroup);
  add_attention_choice(app, options.attention, "with --task: the model's own");
}

}  // namespace linnet::cli
