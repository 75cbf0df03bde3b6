// What every form of training makes of its two branches, whatever tokens they read: mix, convolution, layout.
#pragma once

#include <ATen/ATen.h>

#include "attention/config.h"
#include "train/attention/documents.h"
#include "train/attention/local.h"
#include "train/attention/rows.h"
#include "train/attention/summary.h"

namespace linnet::train {

constexpr int64_t kFreeChunk = 64;  // where groups mean nothing, chunks that suit the matrix units

/// Rows as the summary and the branch take them: the summary's own set, all of unit length where the row of
/// the registry wants that.
Rows entered(Rows rows, const AttentionConfig& config);

/// α [G, B or 1, groups or 1, R · C or R, 1] of the groups of q [H, B, groups, C, d].
at::Tensor mixing(const at::Tensor& q, const ParameterMap& parameters, const AttentionConfig& config,
                  int64_t kv_heads);

/// Both branches of the pass's reading groups mixed, [G, B, readers, R · C, e]; L alone where a query sees no
/// global token.
at::Tensor mix(const LocalOutput& local, const SummaryRead& read, const at::Tensor& alpha, const Form& form,
               const SummaryPass& pass);

/// out + Σ_j w_j ⊙ v_{t+ahead−j}. out [G, B, groups, R · C, e], v [G, B, groups, C, e], taps [H, K, e]; v is
/// 0 before the document's start and behind the row's end. Documents only where nothing is ahead.
at::Tensor convolve(at::Tensor out, const at::Tensor& v, const at::Tensor& taps, const GroupLayout& layout,
                    int64_t ahead = 0);

/// Both ways in which convolve() does it: out [G, B, groups, R, C, e], w [G, 1, 1, R, 1, K, e] and values
/// padded [G, B, groups · C + K − 1, e]. `place` [B or 1, groups, C]: in the documents; undefined: there is
/// one.
at::Tensor convolve_by_taps(const at::Tensor& out, const at::Tensor& padded, const at::Tensor& w,
                            const at::Tensor& place);
/// A dozen operations however many taps: what a GPU waits for in short rows.
at::Tensor convolve_at_once(const at::Tensor& out, const at::Tensor& padded, const at::Tensor& w);

/// [G, B, groups, R · C, e] -> [B, n, H, e] as `type`.
at::Tensor restore(const at::Tensor& out, const GroupLayout& layout, int64_t length, int64_t heads,
                   at::ScalarType type);

}  // namespace linnet::train
