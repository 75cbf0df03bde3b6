// What `linnet finetune` takes: text to go on with, or labelled texts (--task) to classify.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/attention_choice.h"
#include "cli/training.h"
#include "evaluate/text_tasks.h"
#include "train/pairs.h"

namespace linnet::cli {

struct FinetuneOptions {
  TrainingOptions training;
  std::string train = "all";
  train::Trainable trainable;

  std::vector<std::filesystem::path> task;  // empty: next-token loss
  TextFields fields;                        // of --task; without it the two of pairs
  AttentionChoice attention;
  int64_t epochs = 3, length = 256, limit = 0;
  std::string metric;  // that chooses the epoch; empty: the task's first
};

/// What is learned with --text-fields and without --task.
struct FinetunePairs {
  train::TokenPairs train;
  std::unique_ptr<train::HeldOut> held_out;  // null: none
};
bool has_pairs(const FinetuneOptions& options);
/// Throws Error where the model or another option does not go with pairs.
FinetunePairs read_pairs(const FinetuneOptions& options, const Model& model);

/// --task and what belongs to it.
void add_task(CLI::App& app, FinetuneOptions& options);
/// Trains a classifier.
ExitStatus finetune_task(const FinetuneOptions& options);

}  // namespace linnet::cli
