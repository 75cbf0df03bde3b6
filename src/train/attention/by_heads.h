// A causal summary of features beside a softmax branch on a CPU, a head at a time (kernels/cpu/
// head_attention.h): heads of unequal windows run beside one another as they are, and nothing between the
// features and the outputs goes through memory. It computes what local_branch, read_features, finish_features
// and mix compute, which do so for every other layer, type and device.
#pragma once

#include <ATen/ATen.h>

#include "attention/config.h"
#include "attention/rotation.h"
#include "train/attention/documents.h"
#include "train/attention/rows.h"
#include "train/attention/summary.h"

namespace linnet::train {

/// Whether the layer is of that kind, all of its heads: softmax as the branch, a summary that divides by its
/// sum, both mixed by a share and divided apart, no taps, no kept tokens, no sink turned.
bool goes_by_heads(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                   const AttentionConfig& config, const Rotation* sinks);

/// Outputs [B, n, H, e] of such a layer, in the type of rows.v.
at::Tensor attend_by_heads(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                           const AttentionConfig& config);

}  // namespace linnet::train
