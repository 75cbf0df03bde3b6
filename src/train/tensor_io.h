// Between libtorch's tensors and the ones that stand in files.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "format/tensor.h"

namespace linnet::train {

/// The file type of a torch type (float64, float32, bfloat16, float16, int64, int32).
DType dtype_of(at::ScalarType type);

/// And the other way round. Throws Error (where: `where`) on what is no floating type.
at::ScalarType floating_type(const TensorView& view, const std::string& where);

/// `tensor` as a file holds it. It must be contiguous and on the CPU, and outlive the view.
TensorView view_of(const at::Tensor& tensor);

/// On the CPU, contiguous, in `type`: what view_of() needs. Copies only where it must.
at::Tensor for_file(const at::Tensor& tensor, at::ScalarType type);

}  // namespace linnet::train
