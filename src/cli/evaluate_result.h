// The result of `linnet evaluate` as JSON, in the common harness's schema, and as a table.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options.h"
#include "evaluate/likelihood.h"
#include "evaluate/task_records.h"
#include "evaluate/task_scores.h"

namespace linnet::cli {

struct EvaluateOptions : SharedOptions {
  std::vector<std::string> tasks;  // --tasks
  TaskOptions how;                 // --data, --shots, --limit
  int64_t bootstrap = 100000;      // --bootstrap
  std::string samples;             // --samples; empty: none
  std::string html;                // --html; empty: none
  bool alone = false;              // --alone
  bool chat = false;               // --apply-chat-template
};

/// What came out for one set.
struct SetResult {
  const TaskSet* set;
  std::vector<MetricValue> values;  // of the task's metrics, in their order
};

nlohmann::ordered_json evaluation_json(const EvaluateOptions& options, const std::vector<SetResult>& results,
                                       const LikelihoodReader::Counts& counts, double seconds);

/// A line of --samples; `text`: what was written where the answer is.
nlohmann::ordered_json sample_json(const TaskSet& set, size_t index, std::string_view text,
                                   const TaskAnswer& answer);
nlohmann::ordered_json sample_json(const TaskSet& set, size_t index, const std::vector<Likelihood>& choices,
                                   const TaskAnswer& answer);

/// Of what evaluation_json() made.
std::string evaluation_table(const nlohmann::ordered_json& result);

/// The same as a page of its own, with a bar for each task's first metric.
std::string evaluation_page(const nlohmann::ordered_json& result);

}  // namespace linnet::cli
