// Tasks of GLUE by a classifier's own head.
#pragma once

#include <memory>

#include "base/error.h"
#include "cli/evaluate_result.h"
#include "model/model.h"

namespace linnet::cli {

/// Whether a task's name asks for a classifier: "glue_sst2".
bool is_by_head(const std::string& task);
/// Scores a classifier on tasks whose labels are its own; prints and writes what `evaluate` does.
ExitStatus evaluate_classifier(const EvaluateOptions& options, const std::shared_ptr<const Model>& model);

}  // namespace linnet::cli
