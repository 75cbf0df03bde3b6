// A causal summary of features beside a local branch, in as few passes over memory as there can be:
// numerators and denominators come from the same products (values carry a one behind them), groups are all
// computed, and those that see nothing masked, so that nothing is cut, padded or joined; the division, the
// mix and the way back to tokens are one kernel.
//
//     [N D] = φ(Q) S,   S[g] = Σ_{j ≤ g − W} λ^(g − W − j) φ(K_j)ᵀ [V_j 1 0…],   O = α L + (1 − α) N/max(D,
//     ε)
//
// It computes what read_features, finish_features and mix compute, which are the reference.
#pragma once

#include <ATen/ATen.h>

#include "train/attention/summary.h"

namespace linnet::train {

/// Whether the layer is of that kind: a convex mix of softmax or other local outputs, separately divided,
/// with a summary that divides by its sum, a learned α and no taps.
bool is_fused(const SummaryRows& rows, const SummaryPass& pass);

/// Outputs [B, n, H, e] of local outputs [G, B, groups, R · C, e], in the type of rows.v.
at::Tensor fused_mix(const at::Tensor& local, const SummaryRows& rows, const SummaryPass& pass,
                     int64_t length);

}  // namespace linnet::train
