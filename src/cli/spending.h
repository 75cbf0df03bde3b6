// A state's bytes spent on windows, as `linearize --state` asks.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/training.h"
#include "evaluate/budgets.h"

namespace linnet::cli {

constexpr const char* kRecommendedState = "5%";

struct Spending {
  std::string state;  // --state: bytes, or a share of the softmax cache; empty: none
  double recall_weight = kRecallWeight;
  std::string reach;  // --reach: a file that `linnet reach --json` wrote; empty: measured on --data
};

void add_spending(CLI::App& app, Spending& spending);

/// The layers with what is bought, of the group size that leaves least lost. `layers_of` gives them for one
/// of `groups`, or throws Error where it cannot be. Prints what was chosen. Nothing after Ctrl-C.
std::optional<std::vector<AttentionConfig>> spend(
    const Spending& spending, const TrainingOptions& training, const std::shared_ptr<const Model>& model,
    const std::vector<int>& groups, const std::function<std::vector<AttentionConfig>(int)>& layers_of);

}  // namespace linnet::cli
