// Model families as data: where norms sit, which activation, biases, positions, names of tensors. The
// runtime's Decoder and the workshop's module both read these rows; neither knows a family by name.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "format/model_config.h"

namespace linnet {

enum class NormKind { kRms, kLayer };
enum class PositionKind { kRotary, kLearned };

struct Family {
  std::string_view model_type;    // config.json's `model_type`
  std::string_view architecture;  // its `architectures` entry
  NormKind norm;
  PositionKind positions;
  bool gated;               // feed-forward is down(act(gate(x)) * up(x)), else down(act(up(x)))
  bool fused_qkv;           // one matrix [q; k; v], name in `q`
  bool transposed;          // matrices stand as [in, out] (GPT-2's Conv1D)
  bool always_biased;       // every matrix has a bias whatever the config says
  std::string_view prefix;  // of every name but the head's; folders without it are read too ("transformer.")
  // Names of modules after the prefix; `{}` is the layer. A module has `.weight` and, where biased, `.bias`.
  std::string_view embedding, position_embedding, final_norm, head;
  std::string_view layer;                                                          // "layers.{}."
  std::string_view attention_norm, q, k, v, o, feed_forward_norm, gate, up, down;  // after the layer's
  std::string_view attention;  // prefix of the attention: `linear_attention.` tensors stand below it
};

std::span<const Family> families();

/// Throws Error listing the known types.
const Family& family_of(const ModelConfig& config, const std::string& where);

}  // namespace linnet
