#include "train/layer.h"

#include <algorithm>

#include "train/attention/parallel.h"

namespace linnet::train {
namespace {

/// [out, in] of a matrix, however the family stores it.
at::Tensor matrix(const LayerTensors& w, Slot slot, const Pass& pass) {
  return pass.family->transposed ? w.weight[slot].t() : w.weight[slot];
}

/// Products of x with trained matrices side by side: one product.
at::Tensor trained_products(const at::Tensor& x, Tensors matrices, Tensors biases) {
  const auto joined = [&x](Tensors& parts) {
    for (at::Tensor& part : parts) part = part.to(x.scalar_type());
    return parts.size() == 1 ? parts[0] : at::cat(parts, 0);
  };
  return biases.empty() ? at::linear(x, joined(matrices)) : at::linear(x, joined(matrices), joined(biases));
}

at::Tensor lora_of(const at::Tensor& x, const LayerTensors& w, Slot slot) {
  const at::Tensor low = at::linear(x, w.lora_a[slot].to(x.scalar_type()));
  return at::linear(low, w.lora_b[slot].to(x.scalar_type())) * w.lora_scale[slot];
}

/// Products of x with several matrices side by side, [.., Σ out].
at::Tensor products(const at::Tensor& x, const LayerTensors& w, std::initializer_list<Slot> slots,
                    const Pass& pass) {
  Tensors matrices, biases, low_rank;
  bool any_lora = false;
  for (const Slot slot : slots) {
    if (!w.weight[slot].defined()) continue;
    matrices.push_back(matrix(w, slot, pass));
    if (w.bias[slot].defined()) biases.push_back(w.bias[slot]);
    any_lora |= w.lora_a[slot].defined();
  }
  const auto is_trained = [](const at::Tensor& tensor) { return tensor.requires_grad(); };
  const bool trained = std::any_of(matrices.begin(), matrices.end(), is_trained) ||
                       std::any_of(biases.begin(), biases.end(), is_trained);
  const at::Tensor y = trained ? trained_products(x, matrices, biases) : frozen_products(x, matrices, biases);
  if (!any_lora) return y;
  size_t next = 0;
  for (const Slot slot : slots) {
    if (!w.weight[slot].defined()) continue;
    const int64_t out = matrices[next++].size(0);
    if (w.lora_a[slot].defined()) {
      low_rank.push_back(lora_of(x, w, slot));
    } else {
      auto shape = x.sizes().vec();
      shape.back() = out;
      low_rank.push_back(at::zeros(shape, y.options()));
    }
  }
  return y + (low_rank.size() == 1 ? low_rank[0] : at::cat(low_rank, -1));
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kRelu:
      break;
  }
  return at::relu(x);
}

at::Tensor feed_forward(const at::Tensor& x, const LayerTensors& w, const Pass& pass) {
  at::Tensor inner = products(x, w, {kGate, kUp}, pass);
  if (!pass.family->gated) {
    inner = activate(inner, pass.config->activation);
  } else if (pass.config->activation == Activation::kSilu) {
    inner = silu_gate(inner);
  } else {
    const int64_t size = inner.size(-1) / 2;
    inner = activate(inner.narrow(-1, 0, size), pass.config->activation) * inner.narrow(-1, size, size);
  }
  return products(inner, w, {kDown}, pass);
}

}  // namespace

at::Tensor apply_norm(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, const Pass& pass) {
  if (pass.family->norm == NormKind::kRms) return rms_norm(x, gain, pass.config->norm_epsilon, pass.compute);
  return at::layer_norm(x, {x.size(-1)}, gain, bias, pass.config->norm_epsilon).to(pass.compute);
}

Rows attention_rows(const at::Tensor& x, const LayerTensors& w, const Pass& pass, bool unrotated,
                    bool heads_first) {
  const at::Tensor normed = apply_norm(x, w.weight[kAttentionNorm], w.bias[kAttentionNorm], pass);
  return split_heads(products(normed, w, {kQ, kK, kV}, pass), pass.config->heads, pass.config->kv_heads,
                     pass.rotary ? &*pass.rotary : nullptr, unrotated, heads_first);
}

at::Tensor finish_layer(const at::Tensor& x, const at::Tensor& attended, const LayerTensors& w,
                        const Pass& pass) {
  const at::Tensor y = x + products(attended.flatten(2, 3), w, {kO}, pass);
  const at::Tensor normed = apply_norm(y, w.weight[kFeedForwardNorm], w.bias[kFeedForwardNorm], pass);
  return y + feed_forward(normed, w, pass);
}

at::Tensor run_layer(const at::Tensor& x, const LayerTensors& w, const AttentionConfig& attention,
                     const Pass& pass) {
  const bool unrotated = attention.feature_position == FeaturePosition::kNone;
  const Rows rows = attention_rows(x, w, pass, unrotated, heads_first(attention));
  return finish_layer(x, parallel(rows, *pass.documents, w.added, attention, pass.sinks), w, pass);
}

}  // namespace linnet::train
