#include "train/tensor_io.h"

#include "base/error.h"

namespace linnet::train {

DType dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return DType::kF64;
    case at::kFloat:
      return DType::kF32;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kHalf:
      return DType::kF16;
    case at::kLong:
      return DType::kI64;
    case at::kInt:
      return DType::kI32;
    default:
      throw Error("tensor", at::toString(type), "a type that safetensors files hold");
  }
}

at::ScalarType floating_type(const TensorView& view, const std::string& where) {
  switch (view.type) {
    case DType::kF64:
      return at::kDouble;
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    default:
      throw Error(where, std::string("stored as ") + std::string(name_of(view.type)),
                  "F64, F32, F16 or BF16");
  }
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
