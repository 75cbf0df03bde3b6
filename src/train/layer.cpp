#include "train/layer.h"

#include <algorithm>

#include "train/attention/encode.h"
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

}  // namespace

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

namespace {

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
  if (!gain.defined()) return x.to(pass.compute);
  const double epsilon = pass.config->norm_epsilon;
  switch (pass.config->norm) {
    case NormKind::kLayer:
      return at::layer_norm(x, {x.size(-1)}, gain, bias, epsilon).to(pass.compute);
    case NormKind::kRmsPlusOne:
      return rms_norm(x, gain + 1, epsilon, pass.compute);
    case NormKind::kScale:
      return rms_norm(x, gain.expand({x.size(-1)}).contiguous(), epsilon, pass.compute);
    case NormKind::kRms:
      break;
  }
  return rms_norm(x, gain, epsilon, pass.compute);
}

namespace {

at::Tensor normed(const at::Tensor& x, const LayerTensors& w, Slot slot, const Pass& pass) {
  return apply_norm(x, w.weight[slot], w.bias[slot], pass);
}

/// The residual stream x with what a block gave added to it.
at::Tensor add_block(const at::Tensor& x, const at::Tensor& out, const LayerTensors& w, Slot slot,
                     const Pass& pass) {
  if (!w.weight[slot].defined()) return x + out;
  if (pass.family->norm_after_sum)
    return at::layer_norm(x + out, {x.size(-1)}, w.weight[slot], w.bias[slot], pass.config->norm_epsilon);
  return x + normed(out.to(sum_type(pass.compute)), w, slot, pass);
}

/// [.., (H + 2G) d], however the family stores queries, keys and values; normed and scaled where they are.
at::Tensor prepared_heads(at::Tensor qkv, const LayerTensors& w, const Pass& pass) {
  const ModelConfig& config = *pass.config;
  const int64_t d = config.head_size, q_size = config.heads * d, kv_size = config.kv_heads * d;
  if (pass.family->qkv == QkvParts::kByHead) {
    auto by_head = qkv.sizes().vec();
    by_head.back() = config.heads;
    by_head.insert(by_head.end(), {3, d});
    qkv = qkv.view(by_head).transpose(-3, -2).reshape(qkv.sizes());
  }
  if (!w.weight[kQNorm].defined() && config.query_scale == 1) return qkv;
  const auto part = [&](int64_t first, int64_t size, Slot slot) {
    const at::Tensor x = qkv.narrow(-1, first, size);
    if (!w.weight[slot].defined()) return x;
    auto together = qkv.sizes().vec();
    together.back() = -1;
    together.push_back(w.weight[slot].numel());
    return normed(x.reshape(together).to(sum_type(pass.compute)), w, slot, pass).view(x.sizes());
  };
  at::Tensor q = part(0, q_size, kQNorm);
  if (config.query_scale != 1) q = q * config.query_scale;
  return at::cat({q, part(q_size, kv_size, kKNorm), qkv.narrow(-1, q_size + kv_size, kv_size)}, -1);
}

/// A gated unit's: four affine maps of one shared vector z.
Rows unit_rows(const at::Tensor& x, const LayerTensors& w, const Pass& pass, bool unrotated) {
  const at::Tensor zv =
      activate(products(normed(x, w, kAttentionNorm, pass), w, {kQ, kV}, pass), pass.config->activation);
  const int64_t size = pass.config->head_size;
  const at::Tensor z = zv.narrow(-1, 0, size);
  const at::Tensor gains = w.weight[kAffine].to(pass.compute).view({4, size}),
                   more = w.bias[kAffine].to(pass.compute).view({4, size});
  const auto map = [&](int64_t i, bool turns) {
    const at::Tensor made = at::addcmul(more[i], z, gains[i]);  // [B, n, d]
    return (turns && w.rotated ? rotate(made, pass.rotary->cos, pass.rotary->sin) : made).unsqueeze(1);
  };
  return {.q = map(0, true),
          .k = map(1, true),
          .v = zv.narrow(-1, size, pass.config->value_size).unsqueeze(1),
          .summary_q = map(2, !unrotated),
          .summary_k = map(3, !unrotated),
          .own_summary_rows = true};
}

/// x after a gated unit.
at::Tensor finish_unit(const at::Tensor& x, const at::Tensor& attended, const LayerTensors& w,
                       const Pass& pass) {
  const at::Tensor gate =
      activate(products(normed(x, w, kAttentionNorm, pass), w, {kGate}, pass), pass.config->activation);
  return x + products(gate * attended.flatten(2, 3), w, {kO}, pass);
}

}  // namespace

Rows attention_rows(const at::Tensor& x, const LayerTensors& w, const Pass& pass, bool unrotated,
                    bool heads_first) {
  if (pass.family->gated_unit) return unit_rows(x, w, pass, unrotated);
  const at::Tensor qkv = products(normed(x, w, kAttentionNorm, pass), w, {kQ, kK, kV}, pass);
  return split_heads(prepared_heads(qkv, w, pass), pass.config->heads, pass.config->kv_heads,
                     w.rotated && pass.rotary ? &*pass.rotary : nullptr, unrotated, heads_first);
}

at::Tensor attend(const Rows& rows, const ParameterMap& added, const AttentionConfig& attention,
                  const LayerTensors& w, const Pass& pass) {
  if (pass.family->is_encoder()) return bidirectional(rows, pass.lengths, added, attention);
  return parallel(rows, *pass.documents, added, attention, sinks_of(w, pass));
}

Rows cross_rows(const at::Tensor& y, const LayerTensors& w, const Pass& pass) {
  const auto heads = [&](const at::Tensor& x, int64_t count) {
    return x.unflatten(-1, {count, pass.config->head_size}).transpose(1, 2);
  };
  const at::Tensor q =
      products(normed(y, w, kCrossNorm, pass), w, {kCrossQ}, pass) * pass.config->query_scale;
  const Tensors kv = products(pass.encoded, w, {kCrossK, kCrossV}, pass).chunk(2, -1);
  Rows rows{heads(q, pass.config->heads),
            heads(kv[0], pass.config->kv_heads),
            heads(kv[1], pass.config->kv_heads),
            {},
            {}};
  rows.summary_q = rows.q, rows.summary_k = rows.k;
  return rows;
}

at::Tensor after_attention(const at::Tensor& x, const at::Tensor& attended, const LayerTensors& w,
                           const Pass& pass) {
  if (pass.family->gated_unit) return finish_unit(x, attended, w, pass);
  return add_block(x, products(attended.flatten(2, 3), w, {kO}, pass), w, kAttentionPostNorm, pass);
}

at::Tensor after_cross(const at::Tensor& y, const at::Tensor& read, const LayerTensors& w, const Pass& pass) {
  return y + products(read.flatten(2, 3), w, {kCrossO}, pass);
}

at::Tensor after_feed_forward(const at::Tensor& x, const at::Tensor& y, const LayerTensors& w,
                              const Pass& pass) {
  if (pass.family->gated_unit) return y;
  const at::Tensor inner =
      feed_forward(normed(pass.config->parallel ? x : y, w, kFeedForwardNorm, pass), w, pass);
  return add_block(y, inner, w, kFeedForwardPostNorm, pass);
}

at::Tensor run_layer(const at::Tensor& x, const LayerTensors& w, const AttentionConfig& attention,
                     const AttentionConfig* read, const Pass& pass) {
  const bool unrotated = attention.feature_position == FeaturePosition::kNone;
  const Rows rows = attention_rows(x, w, pass, unrotated, heads_first(attention));
  at::Tensor y = after_attention(x, attend(rows, w.added, attention, w, pass), w, pass);
  if (read != nullptr) {
    const Rows both = cross_rows(y, w, pass);
    y = after_cross(y, cross(both, pass.encoded_lengths, w.cross_added, *read), w, pass);
  }
  return after_feed_forward(x, y, w, pass);
}

}  // namespace linnet::train
