// What scores take in by distance (attention/distance_bias.h), differentiable.
#pragma once

#include <ATen/ATen.h>

#include "train/attention/rows.h"
#include "train/attention/summary.h"

namespace linnet::train {

/// Among a layer's parameters, of each query head: [H, 2 reach + 1], of distances −reach … reach.
constexpr std::string_view kDistanceBias = "distance_bias";

/// Undefined: none.
at::Tensor bias_of(const ParameterMap& parameters);

/// bias [H, 2 reach + 1] at `distances` [..] int64: [H, ..].
at::Tensor bias_at(const at::Tensor& bias, const at::Tensor& distances);

}  // namespace linnet::train
