// Rows of texts drawn and a model's reach measured on them: what `reach` shows and `linearize` spends by.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "evaluate/reach.h"

namespace linnet::cli {

struct ReachRun {
  ReachOptions how;                // its windows and near are set from what follows
  std::vector<int64_t> windows;    // none: powers of 4 from 32 on, as far as a row goes
  std::optional<int64_t> near;     // absent: 256, or a quarter of a short row
  std::optional<int64_t> context;  // tokens of a row; absent: what model and texts allow
  int64_t tokens = 65536;          // of all rows, about
};
struct MeasuredReach {
  Reach reach;
  ReachOptions how;
  int64_t context = 0;
};

/// Measures, with a progress line. Nothing after Ctrl-C. Throws Error (--near, --windows, or `where`) where
/// texts or numbers do not fit.
std::optional<MeasuredReach> run_reach(const ReachRun& run, const std::vector<std::filesystem::path>& files,
                                       const SharedOptions& options,
                                       const std::shared_ptr<const Model>& model, const std::string& where);

/// Tells what is measured on one model from what is on another: of its weights, and of all in its config that
/// changes rows.
std::string measured_hash(const Model& model);
/// Refuses what `linnet reach --json` wrote (read from `where`) of another model than this.
void check_measured(const nlohmann::json& reach, const Model& model, const std::string& where);

}  // namespace linnet::cli
