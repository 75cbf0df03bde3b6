// Whether a training can learn anything, told from the configs and the phases before it is begun.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/trainer.h"

namespace linnet::train {

/// Whether a layer has tensors of its own to train.
bool learns_tensors(const AttentionConfig& config, const AttentionShape& shape);

/// Throws Error where no phase can learn anything, naming what to change: `option` is the one that set the
/// module's attention in this command, empty where none did. Warns where only the summaries cannot.
/// `longest_document`: tokens of the longest one, where documents of a row do not see each other.
void check_learning(const Module& module, std::vector<Phase> phases, const std::string& option,
                    std::optional<int64_t> longest_document = {});

}  // namespace linnet::train
