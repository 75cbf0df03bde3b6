// Checks that opening a model makes on its tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "format/safetensors.h"

namespace linnet {

/// The tensor, of that shape and a floating type. Throws Error naming it, or `place` if it is missing, and
/// who asks (", for …").
const TensorView& require_tensor(const TensorStore& store, std::string_view name,
                                 const std::vector<int64_t>& shape, const std::filesystem::path& place,
                                 const std::string& asker = "");

/// Whether a tensor is none of a model's weights but something that old releases of transformers saved with
/// them and that the config gives: GPT-2's masks, rotary frequencies.
bool is_buffer(std::string_view name);

}  // namespace linnet
