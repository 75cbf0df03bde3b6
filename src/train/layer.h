// One layer of the module: norm, q k v, attention, output projection, norm, feed-forward; the residual stream
// in the sums' type. What differs between families is read from their row.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>

#include "attention/attention.h"
#include "format/model_config.h"
#include "model/family.h"
#include "train/attention/documents.h"
#include "train/ops.h"
#include "train/weights.h"

namespace linnet::train {

/// What all layers of a forward pass share.
struct Pass {
  const ModelConfig* config;
  const Family* family;
  std::shared_ptr<const Documents> documents;
  std::optional<RotaryTable> rotary;
  const Rotation* sinks;  // null: keys as they stand
  at::ScalarType compute;
  at::Tensor lengths;               // of an encoder's sequences, as in Batch
  at::Tensor encoded = {};          // [B, m, hidden] of an encoder, which cross-attention reads
  at::Tensor encoded_lengths = {};  // of these rows, as `lengths`
};

at::Tensor activate(const at::Tensor& x, Activation activation);

/// norm(x) in the compute type; x itself where `gain` is undefined.
at::Tensor apply_norm(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias, const Pass& pass);

/// How a layer's sinks turn; null: they stand.
inline const Rotation* sinks_of(const LayerTensors& w, const Pass& pass) {
  return w.rotated ? pass.sinks : nullptr;
}

/// The layer's queries, keys and values of the residual stream x [B, n, hidden].
Rows attention_rows(const at::Tensor& x, const LayerTensors& w, const Pass& pass, bool unrotated,
                    bool heads_first);

/// Attention outputs [B, n, H, e] of a layer's rows, by the parameters `added`: of a decoder the causal form,
/// of an encoder the bidirectional one.
at::Tensor attend(const Rows& rows, const ParameterMap& added, const AttentionConfig& attention,
                  const LayerTensors& w, const Pass& pass);

/// Queries of the residual stream y [B, n, hidden], keys and values of pass.encoded.
Rows cross_rows(const at::Tensor& y, const LayerTensors& w, const Pass& pass);

/// The rest of the layer, in three parts: y, x after its attention's outputs [B, n, H, e]; y after what its
/// cross-attention read; the layer's output.
at::Tensor after_attention(const at::Tensor& x, const at::Tensor& attended, const LayerTensors& w,
                           const Pass& pass);
at::Tensor after_cross(const at::Tensor& y, const at::Tensor& read, const LayerTensors& w, const Pass& pass);
at::Tensor after_feed_forward(const at::Tensor& x, const at::Tensor& y, const LayerTensors& w,
                              const Pass& pass);

/// The whole layer. `cross` of a stack with an encoder, null in others.
at::Tensor run_layer(const at::Tensor& x, const LayerTensors& w, const AttentionConfig& attention,
                     const AttentionConfig* cross, const Pass& pass);

}  // namespace linnet::train
