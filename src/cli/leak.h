// What the two halves of `linnet leak` share: a small model from nothing whose training form may look ahead.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/statistics.h"
#include "cli/training.h"

namespace linnet::cli {

struct LeakOptions {
  TrainingOptions training;  // judge (as MODEL), data, valid, out, numbers, seed, threads
  std::optional<int64_t> random;
  std::vector<std::string> methods;
  std::vector<int> future;  // empty: 0,1 on random tokens, 0,1,2,31 on text
  std::string plot;
  int64_t layers = 2, hidden = 128;
  int64_t windows = 64, prompts = 32, prompt_tokens = 32, new_tokens = 128, samples = 1;
};

/// config.json of the small model: LLaMA's shape with heads of 32.
nlohmann::json small_config(const LeakOptions& options, int64_t vocabulary);

/// A layer's attention as the experiment trains it: the method's own, in groups of 16, with a local branch
/// and taps where the method has none by itself, and `future` taps that look ahead.
AttentionConfig leaking(const std::string& method, int future);

/// Throws Error on fewer steps than their losses can be judged by.
void check_steps(const train::Hyperparameters& numbers);

struct LeakRun {
  train::Module module;
  Mean loss;  // nats per token in training, over the last quarter of the steps
};
/// Trains the model of `config` from nothing by the recipe of `linnet pretrain`.
LeakRun train_small(const LeakOptions& options, const nlohmann::json& config,
                    const AttentionConfig& attention, const train::TokenizedText& text);

ExitStatus leak_on_random_tokens(const LeakOptions& options);
ExitStatus leak_on_text(const LeakOptions& options);

}  // namespace linnet::cli
