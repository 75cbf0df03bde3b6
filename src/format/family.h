// Model families as data: one row each. What config.json calls things and means where it is silent, which
// norms stand where, how parts are fused, the names of the tensors. The runtime's Decoder and the workshop's
// module both read these rows; nothing else knows a family by name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace linnet {

struct ModelConfig;
class Fields;

enum class NormKind {
  kRms,
  kRmsPlusOne,  // the gain is 1 + w
  kLayer,
  kScale,  // kRms with one gain for all numbers
};
enum class PositionKind {
  kRotary,
  kLearned,
  kRelative,  // a bias by distance, added to scores (attention/distance_bias.h)
};

/// What a token sees: those before it, or its whole sequence.
enum class Stack { kDecoder, kEncoder };

/// Where the queries', keys' and values' matrices stand.
enum class QkvParts {
  kApart,
  kStacked,  // one matrix [q; k; v], named by `q`
  kByHead,   // one matrix, of each head [q; k; v] after the other's, named by `q`
};

/// What the RMS norms of queries and keys, before they are rotated, run over.
enum class QkNorm { kNone, kHead, kAll };

/// Whether matrices have biases: as the row says, or as `attention_bias` and `mlp_bias` do.
enum class Bias { kNever, kAlways, kIfAsked, kUnlessDeclined };

/// Which layers' softmax sees `sliding_window` tokens where no `layer_types` say it.
enum class Sliding {
  kNone,
  kEvery,
  kFromMaxWindowLayers,  // of `max_window_layers` on
  kEven,                 // layers 0, 2, 4, …
  kWithoutRotary,        // those whose keys are not rotated
};

struct Windows {
  Sliding layers = Sliding::kNone;
  int absent = 0;         // `sliding_window` where it is absent; 0: none
  bool switched = false;  // there is none without `use_sliding_window`
};

/// The keys of config.json; "": the family has none.
struct ConfigKeys {
  std::string_view hidden = "hidden_size", layers = "num_hidden_layers", heads = "num_attention_heads",
                   kv_heads = "num_key_value_heads", intermediate = "intermediate_size",
                   positions = "max_position_embeddings", epsilon = "rms_norm_eps", activation = "hidden_act",
                   theta = "rope_theta", rotary_part = "partial_rotary_factor", head_size = "head_dim";
};

/// What transformers' class takes where a key is absent.
struct ConfigDefaults {
  std::string_view activation = "silu";
  int64_t positions = 2048;
  double epsilon = 1e-6;
  bool tied = false;
  int64_t kv_heads = 0;   // 0: as many as heads
  int64_t head_size = 0;  // 0: hidden / heads
  double theta = 10000, rotary_part = 1;
  int64_t original_positions = 0;  // of a rope scaling; 0: as rope_parameters say, else the positions
};

/// Of a classifier's final normed rows, the one that its head reads. A model with an encoder has both stacks
/// read the text, the decoder shifted by its start token.
enum class ReadRow { kLast, kFirst };

/// A classifier's head: logits = out(tanh(dense(row))), without `dense` out(row). Modules by their full
/// names; transformers' NAMEForSequenceClassification.
struct ClassifierHead {
  ReadRow row = ReadRow::kLast;
  std::string_view dense;          // "": none
  std::string_view out = "score";  // "": the family has no classifiers
  bool biased = false;             // both
  /// What transformers has before all names but the head's, where that is not Family::prefix: folders with it
  /// are read too.
  std::string_view prefix = {};
};

struct Family {
  std::string_view model_type;    // config.json's `model_type`
  std::string_view architecture;  // its `architectures` entry

  ConfigKeys keys;
  ConfigDefaults defaults;
  Bias attention_bias = Bias::kNever;         // of q, k, v
  Bias attention_output_bias = Bias::kNever;  // of o
  Bias mlp_bias = Bias::kNever;
  Windows windows;
  /// Another row that this config.json means: of a type whose models are not all alike.
  const Family* (*variant)(const Fields& fields) = nullptr;
  /// Reads what only this family's config.json has.
  void (*read_more)(const Fields& fields, ModelConfig& config) = nullptr;

  Stack stack = Stack::kDecoder;
  NormKind norm = NormKind::kRms;  // unless config.json says another (ModelConfig::norm)
  bool norm_after_sum = false;  // post norms run over the residual stream with the block's output added to it
  QkNorm qk_norm = QkNorm::kNone;
  PositionKind positions = PositionKind::kRotary;
  QkvParts qkv = QkvParts::kApart;
  bool gated = true;        // feed-forward is down(act(gate(x)) * up(x)), else down(act(up(x)))
  bool transposed = false;  // matrices stand as [in, out] (GPT-2's Conv1D)
  /// A layer is one gated attention unit (docs/flash.md): of x = norm(stream), z = act(q(x)), value =
  /// act(v(x)), stream += o(act(gate(x)) ⊙ attention). Queries and keys are `affine` maps of z. No
  /// feed-forward.
  bool gated_unit = false;
  /// The row of the stack whose rows its cross-attention reads; null: a stack alone.
  const Family* encoder = nullptr;

  // Names of modules; "": the family has none. A module has `.weight` and, where biased, `.bias`: layer norms
  // always, matrices by ModelConfig's attention_bias, attention_output_bias and mlp_bias.
  std::string_view prefix;  // of every name but the head's; folders without it are read too ("transformer.")
  std::string_view embedding, position_embedding, final_norm, head;
  std::string_view relative_bias;  // [buckets, heads], of all layers
  // Of encoders: of the kind of a token, added to the embeddings, and the norm of their sum.
  std::string_view token_type_embedding, embedding_norm;
  // What a folder may go without: the first token's row made one of a sequence; the language model's head,
  // which is head(head_norm(act(head_dense(x)))), with the bias of `head_bias`.
  std::string_view pooler, head_dense, head_norm, head_bias;
  bool gelu_head = false;  // its activation is GELU whatever the layers' is
  std::string_view layer;  // what stands before those below, `{}` being the layer: "layers.{}."
  // A block is norm → … → post_norm, added to the residual stream. Without `gate` a gated feed-forward has
  // one matrix [gate; up], named by `up`.
  std::string_view attention_norm, q, k, v, q_norm, k_norm, o, attention_post_norm;
  std::string_view feed_forward_norm, gate, up, down, feed_forward_post_norm;
  /// Of a gated unit [4, head_size]: what z is multiplied with (weight) and added to it (bias) to give the
  /// local branch's queries and keys, then the summary's.
  std::string_view affine;
  std::string_view attention;  // prefix of the attention: `linear_attention.` tensors stand below it
  // Of a stack with an encoder, between the two: norm → q of its own rows, k and v of the encoder's.
  std::string_view cross_norm, cross_q, cross_k, cross_v, cross_o, cross_attention;

  ClassifierHead classifier;

  bool is_gate_fused() const { return gated && gate.empty(); }
  bool is_encoder() const { return stack == Stack::kEncoder; }
  /// The `architectures` entry of a classifier: "LlamaForSequenceClassification".
  std::string classifier_architecture() const;
};

std::span<const Family> families();

/// Throws Error listing the known types.
const Family& family_of(std::string_view model_type, const std::string& where);

}  // namespace linnet
