// What `linnet bench --training` takes, in the runtime's program, which describes it and passes it on, and in
// the workshop's, which runs it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"

namespace linnet::cli {

struct BenchTrainingOptions {
  bool training = false;
  std::optional<int64_t> batch, micro_batch, context;  // rows, rows, tokens; absent: the recipe's
  int64_t steps = 8;
  bool activation_checkpointing = false;
};

/// Ids drawn from the whole vocabulary: speed does not depend on which.
std::vector<int32_t> random_tokens(int64_t count, int64_t vocabulary, uint64_t seed);

void add_bench_training(CLI::App& app, BenchTrainingOptions& options);
/// The command line that add_bench_training and add_runtime read back.
std::vector<std::string> arguments_of(const BenchTrainingOptions& options, const SharedOptions& shared);

}  // namespace linnet::cli
