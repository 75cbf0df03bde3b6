// What `linnet bench --training` takes: the runtime's program shows it in --help, the workshop's runs it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cli/options.h"

namespace linnet::cli {

struct BenchTrainingOptions {
  bool training = false;
  std::optional<int64_t> batch, micro_batch, context;  // rows, rows, tokens; absent: the recipe's
  int64_t steps = 8;
  std::optional<bool> activation_checkpointing;
};

/// Ids drawn from the whole vocabulary: speed does not depend on which.
std::vector<int32_t> random_tokens(int64_t count, int64_t vocabulary, uint64_t seed);

void add_bench_training(CLI::App& app, BenchTrainingOptions& options);

}  // namespace linnet::cli
