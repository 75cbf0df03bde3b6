// Training forms of the registry's attentions: whole sequences at once, differentiable, linear in their
// length by chunks (mathematics.md sections 1 and 3). With groups of C tokens, [.] running over groups:
//
//     S[g]  = Σ_{j ≤ g−W} λ^(g−W−j) φ(K_j)ᵀ V_j          a scan over groups, by blocks
//     G_g   = φ(Q_g) S[g] / φ(Q_g) z[g]                   matrix products of C rows
//     L_g   = softmax(τ Q_g [K_sinks; K_{g−W+1..g}]ᵀ ⊙ mask) V
//
// What a method is of its own is its form (attention/summary.h), in the file of its name in forms/. All else
// is shared.
#pragma once

#include <ATen/ATen.h>

#include "attention/attention.h"
#include "attention/config.h"
#include "attention/rotation.h"
#include "train/attention/documents.h"
#include "train/attention/rows.h"
#include "train/attention/summary.h"

namespace linnet::train {

/// The training form of a row that has a summary.
const Form& form_of(const Method& method);

/// Outputs [B, n, H, e] of rows [B, H | G, n, ...], in the type of rows.v. `sinks` as in the runtime: null,
/// keys of sinks as they stand.
at::Tensor parallel(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                    const AttentionConfig& config, const Rotation* sinks);

/// Whether the form wants rows stored with heads outermost (all but softmax).
bool heads_first(const AttentionConfig& config);

}  // namespace linnet::train
