// Matrices that drafts are made with: copies, in whatever type is read fastest. A guess need not be exact.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "format/tensor.h"
#include "model/decoder.h"
#include "model/linear.h"

namespace linnet {

/// The tensor's rows [out, in], or those that are listed: in int8 where this machine multiplies integers
/// faster than bf16 and rows divide into groups, else in bf16; in float32 where `compute` is float32 or
/// float64. Throws Error naming `where` on what is no matrix of floating numbers.
Matrix draft_matrix(const TensorView& tensor, std::span<const int32_t> rows, ComputeType compute,
                    const std::string& where);

}  // namespace linnet
