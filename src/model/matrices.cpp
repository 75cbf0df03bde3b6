#include "model/matrices.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

using kernels::WeightType;

/// Numbers of our own as a matrix.
template <class Number>
Matrix owned(std::vector<Number> numbers, int64_t out, int64_t in) {
  auto kept = std::make_shared<std::vector<Number>>(std::move(numbers));
  const auto* data = reinterpret_cast<const std::byte*>(kept->data());
  const WeightType type = sizeof(Number) == 2 ? WeightType::kBFloat16 : WeightType::kFloat32;
  return {{type, out, in, data}, std::move(kept)};
}

/// [rows, columns] as [columns, rows].
template <class Number>
std::vector<Number> transpose(const Number* from, int64_t rows, int64_t columns) {
  std::vector<Number> to(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
  }
  return to;
}

/// W + scale · B A, in float32 (Hu et al. 2021, section 4.1).
Matrix merged_with(const Matrix& matrix, const LoraPair& pair, const std::string& where) {
  const auto a = to_float(*pair.a, where), b = to_float(*pair.b, where);
  const auto rank = static_cast<size_t>(pair.a->shape.front());
  std::vector<float> merged(static_cast<size_t>(matrix.out * matrix.in));
  std::vector<double> row(static_cast<size_t>(matrix.in));
  for (int64_t o = 0; o < matrix.out; ++o) {
    kernels::read_row(matrix, o, row.data());
    add_lora_row(std::span(b).subspan(static_cast<size_t>(o) * rank, rank), a, pair.scale, row);
    std::copy(row.begin(), row.end(), merged.begin() + o * matrix.in);
  }
  return owned(std::move(merged), matrix.out, matrix.in);
}

}  // namespace

Matrix as_float32(const Matrix& matrix) {
  if (matrix.type == WeightType::kFloat32) return matrix;
  std::vector<float> wide(static_cast<size_t>(matrix.out * matrix.in));
  for (int64_t o = 0; o < matrix.out; ++o) kernels::read_row(matrix, o, wide.data() + o * matrix.in);
  return owned(std::move(wide), matrix.out, matrix.in);
}

Matrix as_bfloat16(const Matrix& matrix) {
  if (matrix.type != WeightType::kFloat32) return matrix;
  std::vector<uint16_t> narrow(static_cast<size_t>(matrix.out * matrix.in));
  kernels::to_bfloat16(reinterpret_cast<const float*>(matrix.data), matrix.out * matrix.in, narrow.data());
  return owned(std::move(narrow), matrix.out, matrix.in);
}

Matrix with_rows(const Matrix& matrix, const std::vector<int64_t>& rows) {
  struct Owned {
    std::vector<std::byte> numbers;
    std::vector<uint16_t> scales, offsets;
  };
  auto kept = std::make_shared<Owned>();
  const auto take = [&rows](const auto* from, int64_t size, auto& to) {
    to.resize(rows.size() * static_cast<size_t>(size));
    for (size_t r = 0; r < rows.size(); ++r)
      std::copy_n(from + rows[r] * size, size, to.begin() + static_cast<int64_t>(r) * size);
  };
  Matrix out = matrix;
  out.out = static_cast<int64_t>(rows.size());
  take(matrix.data, matrix.row_bytes(), kept->numbers);
  out.data = kept->numbers.data();
  if (matrix.scales != nullptr) take(matrix.scales, matrix.groups(), kept->scales);
  if (matrix.offsets != nullptr) take(matrix.offsets, matrix.groups(), kept->offsets);
  out.scales = matrix.scales != nullptr ? kept->scales.data() : nullptr;
  out.offsets = matrix.offsets != nullptr ? kept->offsets.data() : nullptr;
  out.owner = std::move(kept);
  return out;
}

Matrix matrix_of(const TensorView& tensor, bool transposed, const std::string& where) {
  if (tensor.shape.size() != 2) throw Error(where, "has shape " + to_string(tensor.shape), "a matrix");
  const int64_t rows = tensor.shape[0], columns = tensor.shape[1];
  const bool narrow = tensor.type == DType::kBF16, wide = tensor.type == DType::kF32;
  const bool aligned = reinterpret_cast<uintptr_t>(tensor.bytes.data()) % (narrow ? 2 : 4) == 0;
  if ((narrow || wide) && aligned && !transposed)
    return {{narrow ? WeightType::kBFloat16 : WeightType::kFloat32, rows, columns, tensor.bytes.data()},
            nullptr};
  if (narrow) {
    std::vector<uint16_t> numbers(static_cast<size_t>(rows * columns));
    std::memcpy(numbers.data(), tensor.bytes.data(), tensor.bytes.size());
    if (!transposed) return owned(std::move(numbers), rows, columns);
    return owned(transpose(numbers.data(), rows, columns), columns, rows);
  }
  auto numbers = to_float(tensor, where);
  if (!transposed) return owned(std::move(numbers), rows, columns);
  return owned(transpose(numbers.data(), rows, columns), columns, rows);
}

Matrix matrix_of(const Model& model, int layer, std::string_view module) {
  if (const auto integers = model.quantized(layer, module)) return {*integers, nullptr};
  const bool outside = layer == kNoLayer;
  const std::string where =
      (outside ? std::string(module) : model.module_name(layer, module)) + std::string(kPlainWeight);
  const TensorView* view =
      outside ? model.tensor(module, "weight") : model.layer_tensor(layer, module, "weight");
  if (view == nullptr) throw Error(where, "tensor is missing", "one in the model's files");
  return matrix_of(*view, !outside && model.family().transposed, where);
}

Matrix merged_matrix_of(const Model& model, int layer, std::string_view module) {
  Matrix matrix = matrix_of(model, layer, module);
  const auto pair = layer == kNoLayer ? std::nullopt : model.lora_of(layer, module);
  return pair ? merged_with(matrix, *pair, model.module_name(layer, module)) : matrix;
}

}  // namespace linnet
