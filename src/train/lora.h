// LoRA (Hu et al. 2021) on the module's matrices, as PEFT names and starts it: y += (alpha / rank) · B(A x),
// A uniform in ±1/√in, B zero.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "train/weights.h"

namespace linnet::train {

/// PEFT's names of the family's q, k, v, o: the last parts of the modules' names.
std::vector<std::string> attention_targets(const Family& family);
bool is_target(std::string_view module, const std::vector<std::string>& targets);
/// Throws Error (where: --lora-targets) naming a target that no matrix of a layer has.
void check_targets(const Family& family, const std::vector<std::string>& targets);

LoraWeights fresh_lora(const Family& family, const ModelConfig& config, int layer, std::string_view module,
                       int rank, double scale, uint64_t seed, at::Device device, at::ScalarType type);

}  // namespace linnet::train
