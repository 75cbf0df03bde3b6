// Losses of hidden rows through the vocabulary matrix, by chunks of rows: all logits of a batch never stand
// in memory. Gradients are computed in the forward pass, chunk by chunk while its logits are there (three
// matrix products in all, none done twice), and scaled by the incoming one in the backward pass. `chunk` is
// in rows; 0: as many as keep a chunk's logits small. `cap`: c of logits that are c·tanh(x / c); 0: none is.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace linnet::train {

/// Σ weights · −ln softmax(hidden·headᵀ)[target]. hidden [rows, size] and head [vocabulary, size] in the
/// compute type, targets [rows] int64, weights [rows] in the sums' type. A scalar in the sums' type.
at::Tensor cross_entropy(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                         const at::Tensor& weights, int64_t chunk = 0, double cap = 0);

/// Σ weights · KL(softmax(teacher·teacher_headᵀ) ‖ softmax(hidden·headᵀ)). No gradient reaches the teacher.
at::Tensor kl_divergence(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& teacher,
                         const at::Tensor& teacher_head, const at::Tensor& weights, int64_t chunk = 0,
                         double cap = 0);

/// −ln softmax(hidden·headᵀ)[target] of each row, without gradients: [rows] in the sums' type.
at::Tensor row_losses(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                      int64_t chunk = 0, double cap = 0);

}  // namespace linnet::train
