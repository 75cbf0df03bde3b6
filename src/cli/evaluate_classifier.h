// Tasks of GLUE by a classifier's own head.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/evaluate_result.h"
#include "evaluate/classify.h"
#include "model/model.h"

namespace linnet::cli {

/// What a classifier takes texts for, under a progress bar called `title`. Nothing after Ctrl-C, which is
/// said.
std::optional<std::vector<Classified>> classify_all(TextClassifier& classifier,
                                                    std::span<const LabeledText> texts,
                                                    const std::string& title);
/// Whether a task's name asks for a classifier: "glue_sst2".
bool is_by_head(const std::string& task);
/// Scores a classifier on tasks whose labels are its own; prints and writes what `evaluate` does.
ExitStatus evaluate_classifier(const EvaluateOptions& options, const std::shared_ptr<const Model>& model);

}  // namespace linnet::cli
