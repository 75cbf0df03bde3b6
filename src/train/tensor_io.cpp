#include "train/tensor_io.h"

#include <fmt/format.h>

#include "base/error.h"

namespace linnet::train {

namespace {

/// What a file and libtorch call the same type.
struct SameType {
  at::ScalarType tensor;
  DType file;
};

constexpr SameType kSameTypes[] = {{at::kDouble, DType::kF64},    {at::kFloat, DType::kF32},
                                   {at::kBFloat16, DType::kBF16}, {at::kHalf, DType::kF16},
                                   {at::kLong, DType::kI64},      {at::kInt, DType::kI32}};

}  // namespace

DType dtype_of(at::ScalarType type) {
  for (const SameType& same : kSameTypes) {
    if (same.tensor == type) return same.file;
  }
  throw Error("tensor", at::toString(type), "a type that safetensors files hold");
}

at::ScalarType floating_type(const TensorView& view, const std::string& where) {
  for (const SameType& same : kSameTypes) {
    if (same.file == view.type && at::isFloatingType(same.tensor)) return same.tensor;
  }
  throw Error(where, fmt::format("stored as {}", name_of(view.type)), "F64, F32, F16 or BF16");
}

TensorView view_of(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_contiguous() && tensor.device().is_cpu(), "view_of: call for_file() first");
  return {.type = dtype_of(tensor.scalar_type()),
          .shape = tensor.sizes().vec(),
          .bytes = {static_cast<const std::byte*>(tensor.data_ptr()), static_cast<size_t>(tensor.nbytes())}};
}

at::Tensor for_file(const at::Tensor& tensor, at::ScalarType type) {
  return tensor.detach().to(at::kCPU, type).contiguous();
}

}  // namespace linnet::train
