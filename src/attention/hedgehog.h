// The learned feature map that `hedgehog` and `grouped` share.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/config.h"

namespace linnet {

std::vector<ParameterSpec> hedgehog_parameters(const AttentionConfig& config, const AttentionShape& shape);
std::vector<float> hedgehog_initial(const ParameterSpec& spec, const AttentionConfig& config, uint64_t seed,
                                    int layer);

}  // namespace linnet
