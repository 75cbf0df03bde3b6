// Feature maps φ (mathematics.md section 1) and the summary of features: sums over groups with decay, and
// reading them.
#pragma once

#include <ATen/ATen.h>

#include "attention/config.h"
#include "train/attention/documents.h"
#include "train/attention/parallel.h"

namespace linnet::train {

/// [heads, tokens, d] -> [heads, tokens, f].
at::Tensor relu_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view side);
at::Tensor elu1_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view side);
at::Tensor hedgehog_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view side);

/// What queries read: numerator [G, B, groups, R · C, e] and denominator [.., 1], in the sums' type.
struct SummaryRead {
  at::Tensor numerator, denominator;
};

struct SummaryRows {
  at::Tensor q;  // [H, B, groups, C, d]
  at::Tensor k;  // [G, B, groups, C, d]
  at::Tensor v;  // [G, B, groups, C, e]
};

/// With a local branch: the reads of groups W and on, groups − W of them (0: nothing to read, undefined).
/// Without: of all groups, their own tokens up to each query included.
SummaryRead read_summary(const SummaryRows& rows, const GroupLayout& layout, const ParameterMap& parameters,
                         const AttentionConfig& config, FeatureMap features);

/// Σ_{j ≤ g, same document} λ^(g−j) x[j] over the layout's first groups: x [G, B, groups, X]; log_decay [G],
/// undefined: λ = 1.
at::Tensor scan_groups(const at::Tensor& x, const GroupLayout& layout, const at::Tensor& log_decay);

}  // namespace linnet::train
