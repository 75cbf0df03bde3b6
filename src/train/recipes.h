// The recipes: which phases, with which numbers. Every number is an option; what is not given takes the
// recipe's own, which docs/training.md lists with where it comes from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/trainer.h"

namespace linnet::train {

/// What a user may say about the optimization. Absent: the recipe's own.
struct Hyperparameters {
  int64_t tokens =
      0;  // of the whole run, split over the phases; steps are rounded down, at least one a phase
  std::optional<int64_t> batch, micro_batch, context;  // rows, rows, tokens
  std::optional<double> learning_rate, transfer_learning_rate, floor, weight_decay, beta1, beta2, epsilon,
      clip;
  std::optional<int64_t> warmup;  // steps
  std::optional<RateShape> decay;
  std::optional<double> transfer_share;  // of the tokens, to attention transfer
  double long_share = 0.0;               // of the tokens, to a last phase on long rows
  std::optional<int64_t> long_context;   // tokens per row there; absent: 8 times the others', in pretraining
                                         // the model's positions where they are more
  double repeats = 0.0;                  // passages repeated in a row, per 1024 tokens; in pretraining in
                                         // the long rows alone
};

/// Where the model runs: micro-batches and, for linearize, the batch depend on it.
struct Place {
  bool cuda = false;
  int64_t positions = 0;  // the model's longest context; 0: unlimited
};

/// --micro-batch, else `otherwise` as far as a step has so many. Throws Error where the first is more rows
/// than a step's `batch`.
int64_t rows_at_once(const Hyperparameters& numbers, int64_t batch, int64_t otherwise);

/// One phase of next-token loss on all parameters: AdamW (0.9, 0.95), weight decay 0.1, lr 1.5e-3 cosine to
/// 10%, 200 steps of warm-up, clip 1, 96 rows of 1024 tokens. Where asked for, the last `long_share` of the
/// tokens come in as many tokens per step but long rows, of long documents, under the same decay.
std::vector<Phase> pretrain_recipe(const Hyperparameters& numbers, const Place& place);

/// The paper's (You et al., arXiv 2406.07368, released code): next-token loss, AdamW
/// (0.9, 0.95), lr 2e-5 constant after 20 steps, weight decay 0.
std::vector<Phase> finetune_recipe(const Hyperparameters& numbers, const Place& place,
                                   const Trainable& trainable);

/// Draft heads on a frozen model: AdamW (0.9, 0.95), weight decay 0, lr 1e-3 cosine to 0, a tenth of the
/// steps of warm-up; 64 rows of 512 tokens a step, 8 on a CPU.
std::vector<Phase> heads_recipe(const Hyperparameters& numbers, const Place& place);

/// Attention transfer on 3/8 of the tokens (new tensors alone, lr 1e-2 cosine to 0), then KL to the teacher's
/// logits (lr 1e-3, 20 steps of warm-up, cosine to 10%); where asked for, a last share of the tokens on long
/// rows with next-token loss (lr a tenth).
std::vector<Phase> transfer_recipe(const Hyperparameters& numbers, const Place& place,
                                   const Trainable& trainable);

/// Bytes that a step of these phases keeps for its backward pass without activation checkpointing, roughly:
/// for each token at once and layer the residual stream, and what norms, projections, attention and the
/// feed-forward part read. Attention transfer keeps nothing of a layer past it.
double kept_for_backward(const ModelConfig& config, const std::vector<Phase>& phases, at::ScalarType compute);
/// More than this is worth computing layers twice for, on a CPU.
constexpr double kMostForBackward = 0.75e9;

/// Every number of the phases, "distill.batch": 48 and so on: what a resumed run must share.
nlohmann::json identity_of(const std::vector<Phase>& phases);

}  // namespace linnet::train
