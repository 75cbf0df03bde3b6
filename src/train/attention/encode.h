// The training forms without a future or a past (docs/attention.md, "Encoders and decoders that read them"):
// whole sequences at once, differentiable, linear in their length by chunks of C tokens as the causal form
// is.
//
//     O_g = mix(L_g, G_g) + taps      L over the own group, G over all other groups: one scan over groups
//     from
//                                     the front, one from the back
//     O = finish(read(Q, A))          cross: A of all of an encoder's tokens
//
// Sequences of a batch have their own lengths. What stands behind a sequence is padding: no output depends on
// it to the bit (NaN neither), none of it gets a gradient, and its own outputs are 0.
#pragma once

#include <ATen/ATen.h>

#include "attention/config.h"
#include "train/attention/rows.h"
#include "train/attention/summary.h"

namespace linnet::train {

/// Outputs [B, n, H, e] of rows [B, H | G, n, ..], in the type of rows.v. `lengths` [B] int64 on the CPU,
/// each 0 … n; undefined: n. Throws Error where they are not.
at::Tensor bidirectional(const Rows& rows, const at::Tensor& lengths, const ParameterMap& parameters,
                         const AttentionConfig& config);

/// Outputs [B, m, H, e] of a decoder's queries, rows.q and rows.summary_q [B, H, m, d], each of which reads
/// all of the encoder's tokens, rows.k, rows.summary_k and rows.v [B, G, n, ..], `lengths` of them; 0 where
/// there are none. Throws Error where the layer has no summary.
at::Tensor cross(const Rows& rows, const at::Tensor& lengths, const ParameterMap& parameters,
                 const AttentionConfig& config);

}  // namespace linnet::train
