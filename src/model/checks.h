// Checks that opening a model makes on its tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "format/safetensors.h"

namespace linnet {

/// The tensor, of that shape and a floating type. Throws Error naming it, or `place` if it is missing.
const TensorView& require_tensor(const TensorStore& store, std::string_view name,
                                 const std::vector<int64_t>& shape, const std::filesystem::path& place);

/// Whether every number of a floating tensor is finite. One pass at the speed of memory. Other types: true.
bool is_finite(const TensorView& tensor);

}  // namespace linnet
