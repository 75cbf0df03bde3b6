// The module's operations that are worth more than a chain of libtorch's: fewer passes over memory, and less
// kept for the backward pass. All are differentiable, in any floating type; sums are in float32 (float64).
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <vector>

#include "train/attention/rows.h"

namespace linnet::train {

using Tensors = std::vector<at::Tensor>;

/// The type of sums and of trained weights beside a compute type: float64 for float64, else float32.
at::ScalarType sum_type(at::ScalarType compute);

/// f(inputs), keeping nothing but the inputs: the backward pass computes f again. Gradients reach `inputs`
/// and nothing else that f may hold. Without gradients it is f(inputs).
at::Tensor checkpoint(std::function<at::Tensor(const Tensors&)> f, const Tensors& inputs);

/// `count` places of x's dimension `dim`, from `first` on; x itself where that is all. narrow's gradient is
/// x's size of zeros into which the part's is copied, of the whole x too; this one's is joined.
at::Tensor part_of(const at::Tensor& x, int64_t dim, int64_t first, int64_t count);

/// The scalar `value`, with its gradients in `inputs` computed at once: nothing else that it came from is
/// kept for the backward pass. Gradients reach `inputs` alone.
at::Tensor with_gradients(const at::Tensor& value, const Tensors& inputs);

/// Products of x [..., in] with frozen matrices [out, in] of any floating types (each with its bias [out], or
/// none with any), side by side: [..., Σ out]. Keeps nothing for the backward pass but the matrices as they
/// are: each is converted to x's type where it is multiplied, and what it became is gone after.
at::Tensor frozen_products(const at::Tensor& x, const Tensors& matrices, const Tensors& biases);

/// gain ⊙ x / √(mean x² + ε) over the last dimension, as `type`. x in the sums' type.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon, at::ScalarType type);

/// c·tanh(x / c); c = 0: x.
at::Tensor capped(const at::Tensor& x, double c);

/// x / max(‖x‖, ε) over the last dimension, in x's type.
at::Tensor unit(const at::Tensor& x);

/// silu(gate) ⊙ up; gate_up [..., 2·size] holds both side by side.
at::Tensor silu_gate(const at::Tensor& gate_up);

/// Angles' cosines and sines [rows or 1, length, size/2] in the sums' type; size: the rotated part of a head.
struct RotaryTable {
  at::Tensor cos, sin;
};

/// Splits qkv [B, n, (H + 2G)·d] into heads, with q and k rotated (halves paired; `table` null: not rotated).
/// summary_q and summary_k are set where `unrotated`. Stored with heads outermost where `heads_first`, else
/// tokens.
Rows split_heads(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, const RotaryTable* table,
                 bool unrotated, bool heads_first);

/// x [..., d] with its first 2·m numbers turned by the angles of cos, sin [..., m] (halves paired), or back.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool back = false);

}  // namespace linnet::train
