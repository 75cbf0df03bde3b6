// Matrices that drafts are made with: copies, in whatever type is read fastest. A guess need not be exact.
#pragma once

#include <cstdint>
#include <span>

#include "model/decoder.h"
#include "model/linear.h"

namespace linnet {

/// The matrix's rows, or those that are listed: in int8 where this machine multiplies integers
/// faster than bf16 and rows divide into groups, else in bf16; in float32 where `compute` is float32 or
/// float64.
Matrix draft_matrix(const Matrix& from, std::span<const int32_t> rows, ComputeType compute);

}  // namespace linnet
