// Training forms of the registry's attentions: whole sequences at once, differentiable, linear in their
// length by chunks (mathematics.md sections 1 and 3). With groups of C tokens, [.] running over groups:
//
//     S[g]  = Σ_{j ≤ g−W} λ^(g−W−j) φ(K_j)ᵀ V_j          a scan over groups, by blocks
//     G_g   = φ(Q_g) S[g] / φ(Q_g) z[g]                   matrix products of C rows
//     L_g   = softmax(τ Q_g [K_sinks; K_{g−W+1..g}]ᵀ ⊙ mask) V
//
// What a method is of its own is its row in forms(): how its summary adds and reads. All else is shared.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "attention/attention.h"
#include "attention/config.h"
#include "train/attention/documents.h"
#include "train/attention/rows.h"

namespace linnet::train {

/// Learned tensors by their name after `linear_attention.`, in the sums' type.
using ParameterMap = std::map<std::string, at::Tensor, std::less<>>;

/// φ of one side: x [heads, tokens, d] -> [heads, tokens, f]. `side` is "q." or "k.".
using FeatureMap = at::Tensor (*)(const at::Tensor& x, const ParameterMap& parameters, std::string_view side);

/// A row: the same names in the same order as the runtime's registry.
struct Form {
  std::string_view name;
  FeatureMap features;  // null: no summary of features
};
std::span<const Form> forms();

/// Throws Error on an unknown name.
const Form& form_of(const AttentionConfig& config, const std::string& where);

/// Outputs [B, n, H, e] of rows [B, H | G, n, ...], in the type of rows.v. `sinks` as in the runtime: null,
/// keys of sinks as they stand.
at::Tensor parallel(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                    const AttentionConfig& config, const SinkRotation* sinks);

/// Whether the form wants rows stored with heads outermost (all but softmax).
bool heads_first(const AttentionConfig& config);

}  // namespace linnet::train
