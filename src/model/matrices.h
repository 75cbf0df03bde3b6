// A model's matrices as products read them, one at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/linear.h"
#include "model/model.h"
#include "model/quantized.h"

namespace linnet {

inline constexpr int kNoLayer = -1;

/// A module's matrix [out, in], a LoRA not applied: in the mapped file where its type, order and place allow,
/// which `model` keeps; else a copy. Throws Error if it is missing or not of floats or integers.
Matrix matrix_of(const Model& model, int layer, std::string_view module);
/// The same with its LoRA merged, which makes a copy in float32.
Matrix merged_matrix_of(const Model& model, int layer, std::string_view module);

/// A tensor [out, in] (`transposed`: [in, out]); `owner` is what keeps a copy, and null where there is none.
Matrix matrix_of(const TensorView& tensor, bool transposed, const std::string& where);

/// A copy of these rows, in this order.
Matrix with_rows(const Matrix& matrix, const std::vector<int64_t>& rows);

Matrix as_float32(const Matrix& matrix);
/// Of float32; others stay what they are.
Matrix as_bfloat16(const Matrix& matrix);

}  // namespace linnet
