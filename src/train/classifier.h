// Classifiers as libtorch trains them: a module and the head on one of its hidden rows (format/family.h).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "evaluate/task_scores.h"
#include "train/module.h"
#include "train/recipes.h"
#include "train/schedule.h"
#include "train/trainer.h"

namespace linnet::train {

/// Texts as tokens, each with the id of its label.
struct LabeledTokens {
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<int32_t>> types;  // of an encoder's tokens; empty: all are of kind 0
  std::vector<int64_t> labels;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

class TrainedClassifier {
 public:
  /// `model` is the module's, as a classifier (Model::with_labels). Its head, where its folder has one,
  /// else, and where it is to be `fresh`, one of normal numbers times 0.02, a function of the seed; biases 0.
  TrainedClassifier(const Module& module, const Model& model, uint64_t seed, bool fresh);

  /// What is trained: the module's own parameters, then the head's.
  std::vector<Parameter> parameters() const;
  const std::vector<Parameter>& head() const { return head_; }

  /// Logits [texts, labels] in the sums' type of the texts at these places.
  at::Tensor logits(const LabeledTokens& texts, std::span<const int64_t> places) const;
  /// Cross-entropy of those logits, summed over the texts: a scalar.
  at::Tensor loss(const LabeledTokens& texts, std::span<const int64_t> places) const;

  /// The mean loss, and what each text is taken for. Nothing once interrupted().
  struct Judged {
    double loss = 0;
    std::vector<TaskAnswer> answers;
  };
  std::optional<Judged> judge(const LabeledTokens& texts, int64_t batch) const;

 private:
  at::Tensor value(std::string_view name) const;

  const Module& module_;
  std::vector<Parameter> head_;
  int32_t filler_;  // of short rows: nothing sees it
};

/// The paper's protocol (arXiv 2406.07368, and the defaults of the script that it ran, transformers'
/// run_glue): 3 epochs in batches of 32, AdamW (0.9, 0.999) without weight decay, 2e-5 linear to 0, no
/// warm-up, clip 1.
struct ClassifierRecipe {
  int64_t epochs = 3, batch = 32, micro_batch = 32;
  AdamWOptions adamw{.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0};
  Schedule schedule{.decay = RateShape::kLinear, .peak = 2e-5, .floor = 0, .warmup = 0};
  double clip = 1.0;

  /// The last batch of an epoch is what is left.
  int64_t steps_an_epoch(int64_t texts) const { return (texts + batch - 1) / batch; }
};
ClassifierRecipe classifier_recipe(const Hyperparameters& numbers, int64_t epochs, int64_t texts);
nlohmann::json identity_of(const ClassifierRecipe& recipe);

/// The order of an epoch's texts: a function of the seed and the epoch.
std::vector<int64_t> order_of(int64_t texts, uint64_t seed, int64_t epoch);

/// What a run is scored by, after each epoch.
struct ClassifierScores {
  const LabeledTokens* texts = nullptr;  // null: nothing; the last epoch is kept
  std::vector<Metric> metrics;           // the best epoch is that of the first; of equals the first epoch
};

struct ClassifierResult {
  RunResult run;
  int64_t epoch = 0;                                   // whose parameters stand in the module and the head
  std::vector<std::pair<std::string, double>> scores;  // of it; empty: nothing was scored
  std::vector<std::vector<std::pair<std::string, double>>> epochs;  // of each
};

/// Trains, with a log, checkpoints and --resume as run_phases() does; leaves the best epoch's parameters.
ClassifierResult train_classifier(Module& module, TrainedClassifier& classifier, const LabeledTokens& texts,
                                  const ClassifierScores& scores, const ClassifierRecipe& recipe,
                                  const RunOptions& options);

}  // namespace linnet::train
