// The training loop that all recipes share: phases of steps, each step one AdamW update on a batch of rows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "evaluate/masking.h"
#include "evaluate/spans.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "train/evaluation.h"
#include "train/log.h"
#include "train/module.h"
#include "train/optimizer.h"
#include "train/schedule.h"

namespace linnet::train {

/// What the loss of a phase is computed from, on the module's device.
struct RowBatch {
  Batch batch;         // [rows, context]
  at::Tensor targets;  // [rows, context] int64: the next tokens of the text, or of what was taken from it; of
                       // masked rows [places]: what stood there
  at::Tensor weights;  // of the targets' losses, [rows, context]; undefined: their mean
  at::Tensor masked;   // [places] int64, of rows · context; undefined but under Objective::kMasked
};

enum class Objective {
  kNextToken,  // −ln p(next token)
  kMasked,     // −ln p(token) where tokens were masked: an encoder's
  kTransfer,   // per layer, attention outputs given the teacher's inputs
  kDistill,    // KL(teacher ‖ student)
};

struct Phase {
  std::string name;
  Objective objective = Objective::kNextToken;
  Trainable trainable;
  AdamWOptions adamw;
  Schedule schedule;        // its steps are the phase's
  double clip = 1.0;        // of the gradients' L2 norm; 0: none
  int64_t batch = 1;        // rows a step
  int64_t micro_batch = 1;  // rows at once: their gradients are added up
  RowOptions rows;          // what a row is
  bool goes_on = false;     // with the optimizer of the phase before

  int64_t tokens_a_step() const { return batch * rows.context; }
};

struct TokenPairs;  // train/pairs.h

enum class Packing {
  kStream,     // attention sees across the document boundaries inside a row
  kDocuments,  // it starts anew at each
};

/// What a run trains that is not the module itself: heads on its hidden rows.
struct Learner {
  std::vector<Parameter> parameters;
  std::function<at::Tensor(const RowBatch&)> loss;
  /// How often guesses on held-out text are right, by depth; empty: nothing is held out.
  std::function<std::vector<double>()> acceptance;
};

struct RunOptions {
  std::filesystem::path out;  // training.jsonl, training.svg, checkpoints/; empty: nothing is written
  std::string title;          // of the curves
  bool resume = false;
  int64_t checkpoint_every = 0;  // steps; 0: at Ctrl-C and after the last alone
  int64_t evaluate_every = 0;    // steps; 0: at the end alone
  int64_t log_every = 1;         // steps between looks at the device
  uint64_t seed = 0;
  Packing packing = Packing::kStream;
  std::optional<EncoderTokens> special;  // of an encoder, whose rows are framed by them
  std::optional<SpanTokens>
      spans;  // of a model with an encoder: each row is a text whose spans are taken out
  const TokenPairs* pairs = nullptr;     // of a model with an encoder: what it learns in place of the text
  std::optional<Learner> learner;        // absent: the module's own loss and parameters
  nlohmann::json identity;               // what a resumed run must share with the one before
  std::function<void(int64_t)> on_step;  // called after each step with its number; may be empty
  std::function<void(const LogLine&)> on_line;  // called with each step's numbers, once known; may be empty
};

struct RunResult {
  bool interrupted = false;
  std::filesystem::path checkpoint;  // the newest, where --resume goes on; empty: none was written
  int64_t steps = 0, tokens = 0, trained_parameters = 0;
  double seconds = 0, tokens_per_second = 0;                  // the rate of this process
  int64_t peak_memory = 0, peak_device_memory = 0;            // bytes; the device's: 0 on a CPU
  double loss = 0;                                            // of the last step
  std::optional<double> validation_before, validation_after;  // bits per byte, or nats per token
  std::vector<double> acceptance;                             // a learner's, by depth
};

/// Runs the phases. `validation` may be null. After the last step a checkpoint is saved, so that the model
/// can still be written by --resume; a warning where it cannot. Throws Error, status 1, naming the step,
/// where a loss or gradient norm is not finite (the last checkpoint is from before) or the first gradients of
/// this process are all 0; status 2 where --resume
/// finds no checkpoint, a damaged one or another run's.
RunResult run_phases(Module& module, const TokenizedText& text, const HeldOut* validation,
                     const std::vector<Phase>& phases, const RunOptions& options);

/// Warns where a float32 product runs far below what the machine can (libtorch without a fast BLAS). CPU
/// only.
void warn_of_slow_products(const Module::Options& options);

/// RunOptions::identity of the run whose checkpoints stand in `out`; empty where none do. Throws Error where
/// the newest is damaged.
nlohmann::json identity_of_run(const std::filesystem::path& out);

/// Removes a finished run's checkpoints.
void remove_checkpoints(const std::filesystem::path& out);

}  // namespace linnet::train
