// config.json and generation_config.json of a Hugging Face folder, checked. Both spellings are read:
// rope_theta/rope_scaling/torch_dtype and transformers 5's rope_parameters/dtype.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "format/family.h"

namespace linnet {

enum class Activation { kSilu, kGeluTanh, kGelu, kRelu };

enum class RopeScaling { kNone, kLinear, kLlama3, kYarn, kLongRope };

struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;                                   // linear, llama3, yarn, longrope
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  // yarn, longrope: multiplies cos and sin; absent: 0.1 ln(factor) + 1, √(1 + ln factor / ln original)
  std::optional<double> attention_factor;
  std::optional<double> mscale, mscale_all_dim;  // yarn
  bool truncate = true;                          // yarn
  int64_t original_positions = 0;                // llama3, yarn, longrope
  std::vector<double> divisors;                  // longrope: of each pair's frequency
  bool long_factors = false;                     // longrope: whether they are its long ones
  double partial_rotary_factor = 1.0;
};

/// What every family has, under one name each.
struct ModelConfig {
  std::string model_type;  // of its family's row (format/family.h)
  const Family* family = nullptr;
  int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_size = 0, intermediate = 0, vocabulary = 0;
  int64_t value_size = 0;      // of a head's values: head_size but in a gated unit
  int64_t positions = 0;       // max_position_embeddings (n_positions)
  int64_t first_position = 0;  // the row of learned positions that a sequence's first token takes
  int64_t token_types = 0;     // kinds of tokens that have an embedding; 0: the family has none
  // Of each layer's softmax: the last tokens that it sees, the own one included; 0: all.
  std::vector<int> windows;
  NormKind norm = NormKind::kRms;
  double norm_epsilon = 1e-5;
  Activation activation = Activation::kSilu;
  bool tied_embeddings = false;
  bool attention_bias = false;         // of q, k, v
  bool attention_output_bias = false;  // of o
  bool mlp_bias = false;
  RopeConfig rope;            // unused where positions are learned
  std::vector<bool> rotated;  // of each layer, whether its queries and keys are; all or none but in SmolLM3
  bool parallel = false;      // attention and feed-forward both read the layer's input
  double embedding_scale = 1;
  double head_scale = 1;                // of final rows, where the head reads them
  double query_scale = 1;               // of queries, so that scores are τ q·k, τ = 1/√head_size
  double score_cap = 0, logit_cap = 0;  // c: scores and logits x are c·tanh(x / c); 0: as they are
  // Of a model with an encoder: its layers, and the token from which the decoder writes on.
  int64_t encoder_layers = 0, start = 0;
  int64_t relative_buckets = 0, relative_distance = 0;  // of T5's bias (attention/distance_bias.h)
  std::optional<int64_t> bos, pad;
  std::vector<int64_t> eos;
  std::vector<std::string> labels;  // of a classifier, by id; it has no head over the vocabulary
  nlohmann::json raw;               // every field as it stood, `linear_attention` and `base` included

  int64_t texts = 0;  // of a classifier's example: 1, or 2 of a pair; 0: not said, as in others' folders

  bool is_classifier() const { return !labels.empty(); }

  /// Tokens of the longest sequence that learned positions reach.
  int64_t longest() const { return positions - first_position; }

  /// Of the encoder's stack, as that of a model of its own.
  ModelConfig of_encoder() const;

  /// Throws Error: where is the file, what names the key. `json` is the parsed config.json of a base or full
  /// folder (a sidecar's has only `linear_attention`, `base`, `base_hash`: model/model.h resolves it first).
  static ModelConfig parse(const nlohmann::json& json, const std::string& where);
};

struct GenerationConfig {
  std::optional<int64_t> bos;
  std::vector<int64_t> eos;
  std::optional<bool> do_sample;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k, max_new_tokens;

  static GenerationConfig parse(const nlohmann::json& json, const std::string& where);
  /// An absent file is an empty config.
  static GenerationConfig read(const std::filesystem::path& folder, int64_t vocabulary);
};

/// The inverse frequencies [head_size/2] (of the rotary part) and the factor on cos and sin, in float64.
struct RopeFrequencies {
  std::vector<double> inverse;
  double factor = 1.0;
};
RopeFrequencies rope_frequencies(const ModelConfig& config);

}  // namespace linnet
