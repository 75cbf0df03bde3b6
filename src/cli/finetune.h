// What `linnet finetune` takes: text to go on with, or labelled texts (--task) to classify.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/attention_choice.h"
#include "cli/training.h"
#include "evaluate/text_tasks.h"

namespace linnet::cli {

struct FinetuneOptions {
  TrainingOptions training;
  std::string train = "all";
  train::Trainable trainable;

  std::vector<std::filesystem::path> task;  // empty: next-token loss
  TextFields fields;
  AttentionChoice attention;
  int64_t epochs = 3, length = 256, limit = 0;
  std::string metric;  // that chooses the epoch; empty: the task's first
};

/// --task and what belongs to it.
void add_task(CLI::App& app, FinetuneOptions& options);
/// Trains a classifier.
ExitStatus finetune_task(const FinetuneOptions& options);

}  // namespace linnet::cli
