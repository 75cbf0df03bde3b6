// Our own CUDA kernels as operations of tensors, differentiable, each beside the chain of libtorch's
// operators that it stands for: has_kernels() says which of the two runs.
#pragma once

#include <ATen/ATen.h>

#include "train/attention/documents.h"
#include "train/attention/local.h"
#include "train/ops.h"

namespace linnet::train {

/// Whether x is what kernels take: bfloat16 on a CUDA device, in a build that has them.
bool has_kernels(const at::Tensor& x);

/// Sums over earlier groups, as SummaryPass::seen_sums: y[g] = Σ λ^(g − lag − j) x[j] over the groups j ≤ g −
/// lag of g's document; 0 where there is none. x [G, B, groups, X], X even, log_decay [G] in float32.
at::Tensor scan_kernel(const at::Tensor& x, const GroupLayout& layout, int64_t lag,
                       const at::Tensor& log_decay);

/// The local branch of softmax without turned sinks, [G, B, groups, R · C, e]; undefined where the kernel
/// does not fit.
at::Tensor window_kernel(const LocalRows& rows, const GroupLayout& layout, int64_t window, int64_t sinks);

/// Where the queries of a mix stand, and what they see.
struct MixPlace {
  const GroupLayout& layout;
  int64_t length, lag, sinks;
};

/// Outputs [B, n, H, e]: α L + (1 − α) N/max(D, ε), α = σ(alpha + q·gate), 1 where a query sees no summary.
/// `read` [G, B, groups, R · C, e + 8] holds N, D and seven zeros, `local` [G, B, groups, R · C, e] L, q [H,
/// B, groups, C, d]; alpha [H] and gate [H, d] (undefined: none) in float32.
at::Tensor mix_kernel(const at::Tensor& read, const at::Tensor& local, const at::Tensor& q,
                      const at::Tensor& alpha, const at::Tensor& gate, const MixPlace& place);

/// Whether split_kernel and join_kernel take heads of d numbers, of which cos turns 2 · its last size.
bool splits_heads(const at::Tensor& qkv, int64_t d, const at::Tensor* cos);
/// qkv [B, n, (H + 2G) · d] into heads [B, H | G, n, d] of any strides: q, k, v and, where they are defined,
/// unrotated q and k. cos, sin [B or 1, n, m], null: not turned. No gradients.
void split_kernel(const at::Tensor& qkv, const Tensors& heads, const at::Tensor* cos, const at::Tensor* sin);
/// The gradient of qkv from those of the heads, undefined ones 0.
void join_kernel(const at::Tensor& dqkv, const Tensors& given, int64_t heads, int64_t kv_heads,
                 const at::Tensor* cos, const at::Tensor* sin);

/// Whether the losses' kernels take these logits [rows, vocabulary].
bool has_loss_kernels(const at::Tensor& logits);
/// Each row's weighted divergence or loss [rows]; `gradient`: the logits become their gradient.
at::Tensor divergence_kernel(const at::Tensor& logits, const at::Tensor& teacher, const at::Tensor& weights,
                             bool gradient);
at::Tensor cross_entropy_kernel(const at::Tensor& logits, const at::Tensor& targets,
                                const at::Tensor& weights, bool gradient);

}  // namespace linnet::train
