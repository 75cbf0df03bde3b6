// Model families as data: which norm and activation, biases, positions, names of tensors. The
// runtime's Decoder and the workshop's module both read these rows; neither knows a family by name.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attention/rotation.h"
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
  std::string_view prefix;  // of every name but the head's; folders without it are read too ("transformer.")
  // Names of modules after the prefix; `{}` is the layer. A module has `.weight` and, where biased, `.bias`:
  // layer norms always, matrices by ModelConfig's attention_bias, attention_output_bias and mlp_bias.
  std::string_view embedding, position_embedding, final_norm, head;
  std::string_view layer;                                                          // "layers.{}."
  std::string_view attention_norm, q, k, v, o, feed_forward_norm, gate, up, down;  // after the layer's
  std::string_view attention;  // prefix of the attention: `linear_attention.` tensors stand below it
};

std::span<const Family> families();

/// Throws Error listing the known types.
const Family& family_of(const ModelConfig& config, const std::string& where);

/// "layers.3.": what stands between the family's prefix and a layer's module.
std::string layer_prefix(const Family& family, int layer);

/// A module's numbers: a matrix of `out` rows and `in` columns (a file of a transposed family has it as
/// [in, out]), or, where `in` is 0, a norm's vector.
struct ModuleShape {
  int64_t out, in;
  bool biased;
  bool transposed;

  /// Of the weight as it stands in the file.
  std::vector<int64_t> weight() const {
    if (in == 0) return {out};
    return transposed ? std::vector{in, out} : std::vector{out, in};
  }
};
ModuleShape module_shape(const Family& family, const ModelConfig& config, std::string_view module);

/// What a model's keys do with their positions: nothing where the family has learned ones.
Rotation rotation_of(const Family& family, const ModelConfig& config);

/// The modules of one layer that the family has, in the order in which they act.
std::vector<std::string_view> layer_modules(const Family& family);

}  // namespace linnet
