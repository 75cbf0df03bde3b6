// The training of a classifier: epochs over labelled texts, each scored, the best one kept.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "base/error.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/timing.h"
#include "format/safetensors.h"
#include "train/classifier.h"
#include "train/compat.h"
#include "train/pending_steps.h"
#include "train/recipes.h"
#include "train/tensor_io.h"

namespace linnet::train {
namespace {

namespace fs = std::filesystem;
using Scores = std::vector<std::pair<std::string, double>>;

constexpr const char* kBest = "best.safetensors";  // beside the checkpoints, with the scores of all epochs

/// Of a best epoch's tensors and all that is said of them.
std::string hash_of(std::span<const NamedTensor> tensors, std::string_view scores) {
  Hash hash;
  hash.add(scores);
  for (const NamedTensor& one : tensors) {
    hash.add(one.name);
    hash.add(one.tensor.bytes);
  }
  return hash.text();
}

class ClassifierRun {
 public:
  ClassifierRun(Module& module, TrainedClassifier& classifier, const LabeledTokens& texts,
                const ClassifierScores& scores, const ClassifierRecipe& recipe, const RunOptions& options)
      : module_(module),
        classifier_(classifier),
        texts_(texts),
        scores_(scores),
        recipe_(recipe),
        options_(options),
        optimizer_(classifier.parameters(), recipe.adamw),
        checkpoints_(options.out / "checkpoints", options.identity),
        steps_an_epoch_(recipe.steps_an_epoch(texts.size())) {}

  ClassifierResult run();

 private:
  struct Best {
    double value = -std::numeric_limits<double>::infinity();
    int64_t epoch = 0;  // 0: none
    Scores scores;
    std::vector<at::Tensor> parameters;
  };

  void begin();
  void step();
  void flush(const Scores& scores);
  /// Scores the epoch that ends here. False: interrupted.
  bool score(int64_t epoch, Scores& scores);
  void finish_score();
  void save();
  void save_best() const;
  void read_best();
  void keep_best();
  int64_t last_step() const { return recipe_.epochs * steps_an_epoch_; }
  int64_t texts_done() const;
  /// A GPU is kept busy by more texts than fit a processor's cache.
  int64_t judged_at_once() const { return module_.options().device.is_cuda() ? 512 : 64; }

  Module& module_;
  TrainedClassifier& classifier_;
  const LabeledTokens& texts_;
  const ClassifierScores& scores_;
  const ClassifierRecipe& recipe_;
  const RunOptions& options_;
  AdamW optimizer_;
  Checkpoints checkpoints_;
  int64_t steps_an_epoch_;
  RunProgress progress_;
  std::unique_ptr<TrainingLog> log_;
  std::unique_ptr<Progress> bar_;
  PendingSteps pending_;
  std::vector<int64_t> order_;
  int64_t order_epoch_ = -1, process_begin_ = 0, process_tokens_ = 0;
  Stopwatch steps_, unsaved_;
  double step_seconds_ = 0;
  Best best_;
  ClassifierResult result_;
};

int64_t ClassifierRun::texts_done() const {
  const int64_t epoch = progress_.step / steps_an_epoch_, within = progress_.step % steps_an_epoch_;
  return epoch * texts_.size() + std::min(within * recipe_.batch, texts_.size());
}

void ClassifierRun::begin() {
  if (options_.resume) {
    const fs::path saved = checkpoints_.to_resume();
    progress_ = checkpoints_.read_progress(saved);
    checkpoints_.load(saved, optimizer_, progress_.step);
    result_.run.checkpoint = saved;
    read_best();
    note(fmt::format("resuming after step {}", progress_.step));
  }
  process_begin_ = progress_.step;
  for (const Parameter& parameter : optimizer_.parameters())
    result_.run.trained_parameters += parameter.tensor.numel();
  if (options_.out.empty()) return;
  fs::create_directories(options_.out);
  log_ = std::make_unique<TrainingLog>(options_.out, options_.title,
                                       options_.resume ? std::optional(progress_.step) : std::nullopt);
  if (log_->last()) result_.run.loss = log_->last()->loss;  // of an earlier process's last step
}

void ClassifierRun::step() {
  const int64_t epoch = progress_.step / steps_an_epoch_,
                first = progress_.step % steps_an_epoch_ * recipe_.batch;
  if (epoch != order_epoch_) order_ = order_of(texts_.size(), options_.seed, epoch);
  order_epoch_ = epoch;
  const double rate = recipe_.schedule.at(progress_.step);
  const int64_t count = std::min(recipe_.batch, texts_.size() - first);
  at::Tensor total;
  for (int64_t done = 0; done < count; done += recipe_.micro_batch) {
    const auto places = std::span(order_).subspan(
        static_cast<size_t>(first + done), static_cast<size_t>(std::min(recipe_.micro_batch, count - done)));
    const at::Tensor share = classifier_.loss(texts_, places) / static_cast<double>(count);
    share.backward();
    total = total.defined() ? total + share.detach() : share.detach();
    for (const int64_t place : places) progress_.tokens += std::ssize(texts_.tokens[place]);
  }
  const at::Tensor norm = optimizer_.clip_gradients(recipe_.clip);
  optimizer_.step(rate);
  ++progress_.step;
  pending_.add(
      {.step = progress_.step, .tokens = progress_.tokens, .phase = "finetune", .learning_rate = rate}, total,
      norm);
}

void ClassifierRun::flush(const Scores& scores) {
  if (pending_.empty()) return;
  std::vector<LogLine> lines = pending_.take(checkpoints_);
  step_seconds_ += steps_.restart();
  progress_.seconds += unsaved_.restart();
  result_.run.loss = lines.back().loss;
  result_.run.tokens_per_second =
      static_cast<double>(progress_.tokens - process_tokens_) / std::max(step_seconds_, 1e-9);
  for (LogLine& line : lines) {
    line.tokens_per_second = result_.run.tokens_per_second;
    line.seconds = progress_.seconds;
    if (options_.on_line) options_.on_line(line);
  }
  lines.back().scores = scores;
  if (log_ && progress_.step == last_step()) {
    attempt([&] { log_->write(lines); });
  } else if (log_) {
    log_->write(lines);
  }
  bar_->update(static_cast<double>(texts_done()), fmt::format("loss {:.4f}", result_.run.loss));
  steps_.restart();
}

bool ClassifierRun::score(int64_t epoch, Scores& scores) {
  if (scores_.texts == nullptr) return true;
  const auto judged = classifier_.judge(*scores_.texts, std::max(judged_at_once(), recipe_.micro_batch));
  if (!judged) return false;
  ThreadPool alone(1);
  scores = {{"epoch", static_cast<double>(epoch)}, {"loss", judged->loss}};
  for (const Metric metric : scores_.metrics)
    scores.emplace_back(name_of(metric), value_of(metric, judged->answers, 0, alone).value);
  result_.epochs.push_back(scores);
  std::string shown;
  for (size_t i = 1; i < scores.size(); ++i)
    shown += fmt::format("{}{} {:.4f}", i > 1 ? ", " : "", scores[i].first, scores[i].second);
  note(fmt::format("epoch {} of {}: validation {}", epoch, recipe_.epochs, shown));
  const double value = scores[2].second;
  if (value <= best_.value) return true;
  best_ = {value, epoch, scores, {}};
  for (const Parameter& parameter : optimizer_.parameters())
    best_.parameters.push_back(parameter.tensor.detach().clone());
  return true;
}

/// Of an epoch whose score Ctrl-C cut off.
void ClassifierRun::finish_score() {
  const int64_t done = progress_.step / steps_an_epoch_;
  if (done == 0 || progress_.step % steps_an_epoch_ != 0 || std::ssize(result_.epochs) == done) return;
  Scores scores;
  result_.run.interrupted = !score(done, scores);
  if (scores.empty() || !log_ || !log_->last() || log_->last()->step != progress_.step) return;
  LogLine line = *log_->last();
  line.scores = scores;
  log_->score_last(line);
}

void ClassifierRun::save_best() const {
  if (best_.epoch == 0) return;
  std::vector<at::Tensor> held;
  std::vector<NamedTensor> tensors;
  for (size_t i = 0; i < best_.parameters.size(); ++i) {
    held.push_back(for_file(best_.parameters[i], best_.parameters[i].scalar_type()));
    tensors.push_back({optimizer_.parameters()[i].name, view_of(held.back())});
  }
  const std::string scores = nlohmann::json{{"best", best_.epoch}, {"epochs", result_.epochs}}.dump();
  fs::create_directories(options_.out / "checkpoints");
  write_safetensors(options_.out / "checkpoints" / kBest, tensors,
                    {{"hash", hash_of(tensors, scores)}, {"scores", scores}});
}

void ClassifierRun::read_best() {
  const fs::path file = options_.out / "checkpoints" / kBest;
  if (!fs::exists(file)) return;
  const SafetensorsFile saved = SafetensorsFile::open(file);
  const auto damaged = [&] {
    return Error(file.string(), "not the best epoch of this run", "the file as it was written");
  };
  for (const Parameter& parameter : optimizer_.parameters()) {
    const auto found = saved.tensors().find(parameter.name);
    if (found == saved.tensors().end() || found->second.shape != parameter.tensor.sizes().vec() ||
        found->second.type != dtype_of(parameter.tensor.scalar_type()))
      throw damaged();
    at::Tensor copy =
        at::empty(found->second.shape, at::TensorOptions().dtype(parameter.tensor.scalar_type()));
    std::memcpy(copy.data_ptr(), found->second.bytes.data(), found->second.bytes.size());
    best_.parameters.push_back(copy.to(parameter.tensor.device()));
  }
  const auto said = [&](const char* key) {
    const auto found = saved.metadata().find(key);
    if (found == saved.metadata().end()) throw damaged();
    return found->second;
  };
  const std::string scores = said("scores");
  std::vector<NamedTensor> tensors;
  for (const Parameter& parameter : optimizer_.parameters())
    tensors.push_back({parameter.name, saved.tensors().find(parameter.name)->second});
  if (said("hash") != hash_of(tensors, scores)) throw damaged();
  try {
    const nlohmann::json json = parse_json(scores, file.string());
    json.at("epochs").get_to(result_.epochs);
    json.at("best").get_to(best_.epoch);
    best_.scores = result_.epochs.at(static_cast<size_t>(best_.epoch) - 1);
    best_.value = best_.scores.at(2).second;
  } catch (const std::exception&) {
    throw damaged();
  }
  // Of a run that ended between this file and its checkpoint.
  const auto done = static_cast<size_t>(progress_.step / steps_an_epoch_);
  if (result_.epochs.size() > done) result_.epochs.resize(done);
}

void ClassifierRun::save() {
  save_best();
  result_.run.checkpoint = checkpoints_.save(progress_, optimizer_);
  log_->plot();
  steps_.restart();
}

void ClassifierRun::keep_best() {
  result_.epoch = recipe_.epochs;
  if (best_.epoch == 0) return;
  result_.epoch = best_.epoch;
  result_.scores = best_.scores;
  at::NoGradGuard no_gradients;
  for (size_t i = 0; i < best_.parameters.size(); ++i) {
    at::Tensor target = optimizer_.parameters()[i].tensor;
    target.copy_(best_.parameters[i]);
  }
}

ClassifierResult ClassifierRun::run() {
  catch_interrupts();
  begin();
  std::optional<KeepWorking> keep;
  if (log_) keep.emplace();
  process_tokens_ = progress_.tokens;
  bar_ = std::make_unique<Progress>("finetune", "texts", static_cast<double>(recipe_.epochs * texts_.size()),
                                    static_cast<double>(texts_done()));
  finish_score();
  Scores scores;
  steps_.restart();
  unsaved_.restart();
  while (progress_.step < last_step() && !result_.run.interrupted) {
    step();
    const int64_t done = progress_.step;
    if (options_.on_step) options_.on_step(done);
    const bool ends = done % steps_an_epoch_ == 0;
    scores.clear();
    if (ends) result_.run.interrupted = !score(done / steps_an_epoch_, scores);
    result_.run.interrupted |= interrupted() && done < last_step();
    const auto due = [done](int64_t every) { return every > 0 && done % every == 0; };
    const bool save_now = log_ && (due(options_.checkpoint_every) || result_.run.interrupted ||
                                   (ends && options_.checkpoint_every > 0) || done == last_step());
    if (ends || save_now || due(options_.log_every)) flush(scores);
    if (save_now && done == last_step()) {
      attempt([this] { save(); });
    } else if (save_now) {
      save();
    }
  }
  bar_->finish();
  if (!result_.run.interrupted) keep_best();
  result_.run.steps = progress_.step;
  result_.run.tokens = progress_.tokens;
  result_.run.seconds = progress_.seconds;
  result_.run.peak_memory = peak_memory();
  result_.run.peak_device_memory = compat::peak_device_memory(module_.options().device);
  return result_;
}

}  // namespace

ClassifierRecipe classifier_recipe(const Hyperparameters& numbers, int64_t epochs, int64_t texts) {
  ClassifierRecipe recipe;
  recipe.epochs = epochs;
  recipe.batch = numbers.batch.value_or(recipe.batch);
  recipe.micro_batch = rows_at_once(numbers, recipe.batch, recipe.batch);
  recipe.adamw = {.beta1 = numbers.beta1.value_or(recipe.adamw.beta1),
                  .beta2 = numbers.beta2.value_or(recipe.adamw.beta2),
                  .epsilon = numbers.epsilon.value_or(recipe.adamw.epsilon),
                  .weight_decay = numbers.weight_decay.value_or(recipe.adamw.weight_decay)};
  recipe.schedule.decay = numbers.decay.value_or(recipe.schedule.decay);
  recipe.schedule.peak = numbers.learning_rate.value_or(recipe.schedule.peak);
  recipe.schedule.floor = numbers.floor.value_or(recipe.schedule.floor);
  recipe.schedule.warmup = numbers.warmup.value_or(recipe.schedule.warmup);
  recipe.schedule.steps = epochs * recipe.steps_an_epoch(texts);
  recipe.clip = numbers.clip.value_or(recipe.clip);
  return recipe;
}

nlohmann::json identity_of(const ClassifierRecipe& recipe) {
  return {{"epochs", recipe.epochs},
          {"batch", recipe.batch},
          {"micro_batch", recipe.micro_batch},
          {"beta1", recipe.adamw.beta1},
          {"beta2", recipe.adamw.beta2},
          {"epsilon", recipe.adamw.epsilon},
          {"weight_decay", recipe.adamw.weight_decay},
          {"schedule", name_of(recipe.schedule.decay)},
          {"lr", recipe.schedule.peak},
          {"floor", recipe.schedule.floor},
          {"warmup", recipe.schedule.warmup},
          {"steps", recipe.schedule.steps},
          {"clip", recipe.clip}};
}

ClassifierResult train_classifier(Module& module, TrainedClassifier& classifier, const LabeledTokens& texts,
                                  const ClassifierScores& scores, const ClassifierRecipe& recipe,
                                  const RunOptions& options) {
  return ClassifierRun(module, classifier, texts, scores, recipe, options).run();
}

}  // namespace linnet::train
