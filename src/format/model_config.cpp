#include "format/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "format/fields.h"
#include "format/rope.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

// How a family spells what every family has, and what its transformers class takes where a key is absent.
struct Spelling {
  std::string_view model_type;
  std::string_view hidden, layers, heads, kv_heads, intermediate, positions, epsilon, activation;
  std::string_view default_activation;
  int64_t default_positions;
  double default_epsilon;
  bool default_tied;
  int64_t default_kv_heads;  // 0: as many as heads
  bool rotary;
  enum { kByConfig, kAll, kQueryKeyValue } biases;
};

constexpr Spelling kSpellings[] = {
    {"llama", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
     "intermediate_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "silu", 2048, 1e-6, false,
     0, true, Spelling::kByConfig},
    {"mistral", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
     "intermediate_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "silu", 131072, 1e-6,
     false, 8, true, Spelling::kByConfig},
    {"qwen2", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
     "intermediate_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "silu", 32768, 1e-6, false,
     32, true, Spelling::kQueryKeyValue},
    {"gpt2", "n_embd", "n_layer", "n_head", "", "n_inner", "n_positions", "layer_norm_epsilon",
     "activation_function", "gelu_new", 1024, 1e-5, true, 0, false, Spelling::kAll},
};

// Fields whose other values would change what the model computes.
struct Required {
  std::string_view key, value, meaning;  // `value` as JSON
};
constexpr Required kRequired[] = {
    {"scale_attn_weights", "true", "scores divided by the square root of the head size"},
    {"scale_attn_by_inverse_layer_idx", "false", "scores that do not depend on the layer's number"},
    {"add_cross_attention", "false", "a decoder without cross-attention"},
    {"use_sliding_window", "false", "attention over all tokens"},
    {"is_encoder_decoder", "false", "a decoder alone"},
};

const Spelling& spelling_of(const Fields& fields) {
  const std::string type = fields.string("model_type");
  std::string known;
  for (const Spelling& row : kSpellings) {
    if (row.model_type == type) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.model_type);
  }
  fields.refuse("model_type", "one of " + known);
}

Activation activation_of(const Fields& fields, const Spelling& spelling) {
  constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"silu", Activation::kSilu},         {"swish", Activation::kSilu},
      {"gelu_new", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu", Activation::kGelu},         {"relu", Activation::kRelu},
  };
  const std::string name =
      fields.optional_string(spelling.activation).value_or(std::string(spelling.default_activation));
  for (const auto& [known, activation] : kNames) {
    if (known == name) return activation;
  }
  fields.refuse(spelling.activation, "silu, gelu, gelu_new, gelu_pytorch_tanh or relu");
}

void check_supported(const Fields& fields) {
  for (const Required& row : kRequired) {
    const Json* value = fields.find(row.key);
    if (value != nullptr && value->dump() != row.value) fields.refuse(row.key, row.meaning);
  }
  if (fields.find("quantization_config") != nullptr) {
    throw Error(fields.where(), "a quantized model", "weights in F32, F16 or BF16");
  }
  if (const Json* layers = fields.find("layer_types")) {
    for (const Json& type : layers->is_array() ? *layers : Json::array({*layers})) {
      if (!type.is_string() || type.get_ref<const std::string&>() != "full_attention")
        fields.refuse("layer_types", "full_attention in every layer");
    }
  }
}

// A window that no trained position can reach past changes nothing; qwen2 ignores it unless told to use it.
void check_sliding_window(const Fields& fields, const ModelConfig& config) {
  if (config.model_type == "qwen2") return;
  const auto window = fields.optional_integer("sliding_window", 1, INT64_MAX);
  if (window && *window < config.positions)
    fields.refuse("sliding_window", "null (attention over all tokens)");
}

void read_sizes(const Fields& fields, const Spelling& spelling, ModelConfig& config) {
  constexpr int64_t kMaxSize = 1 << 24;
  config.hidden = fields.integer(spelling.hidden, 1, kMaxSize);
  config.layers = fields.integer(spelling.layers, 1, 10'000);
  config.heads = fields.integer(spelling.heads, 1, 1 << 16);
  config.vocabulary = fields.integer("vocab_size", 1, INT32_MAX);
  config.positions =
      fields.optional_integer(spelling.positions, 1, INT32_MAX).value_or(spelling.default_positions);
  config.kv_heads = spelling.default_kv_heads > 0 ? spelling.default_kv_heads : config.heads;
  if (!spelling.kv_heads.empty()) {
    config.kv_heads = fields.optional_integer(spelling.kv_heads, 1, config.heads).value_or(config.kv_heads);
  }
  if (config.heads % config.kv_heads != 0) {
    fields.refuse(spelling.kv_heads, fmt::format("a divisor of the {} heads", config.heads));
  }
  const auto head_size = spelling.rotary ? fields.optional_integer("head_dim", 1, 1 << 16) : std::nullopt;
  if (!head_size && config.hidden % config.heads != 0) {
    fields.refuse(spelling.heads, fmt::format("a divisor of {} {}", spelling.hidden, config.hidden));
  }
  config.head_size = head_size.value_or(config.hidden / config.heads);
  const auto intermediate = fields.optional_integer(spelling.intermediate, 1, kMaxSize);
  if (!intermediate && spelling.rotary) fields.refuse(spelling.intermediate, "the feed-forward's size");
  config.intermediate = intermediate.value_or(4 * config.hidden);
}

void read_biases(const Fields& fields, const Spelling& spelling, ModelConfig& config) {
  const bool all = spelling.biases == Spelling::kAll, by_config = spelling.biases == Spelling::kByConfig;
  const bool attention = by_config && fields.boolean("attention_bias", false);
  config.attention_bias = all || attention || spelling.biases == Spelling::kQueryKeyValue;
  config.attention_output_bias = all || attention;
  config.mlp_bias = all || (by_config && fields.boolean("mlp_bias", false));
}

}  // namespace

ModelConfig ModelConfig::parse(const Json& json, const std::string& where) {
  const Fields fields(json, where);
  const Spelling& spelling = spelling_of(fields);
  check_supported(fields);
  ModelConfig config;
  config.model_type = spelling.model_type;
  read_sizes(fields, spelling, config);
  read_biases(fields, spelling, config);
  check_sliding_window(fields, config);
  config.norm_epsilon =
      fields.optional_number_above(spelling.epsilon, 0, 1).value_or(spelling.default_epsilon);
  config.activation = activation_of(fields, spelling);
  config.tied_embeddings = fields.boolean("tie_word_embeddings", spelling.default_tied);
  if (spelling.rotary) {
    config.rope = parse_rope(fields, config.positions);
    const double rotary = static_cast<double>(config.head_size) * config.rope.partial_rotary_factor;
    if (static_cast<int64_t>(rotary) < 2 || static_cast<int64_t>(rotary) % 2 != 0) {
      throw Error(where, fmt::format("{} rotary numbers a head", static_cast<int64_t>(rotary)),
                  "an even number");
    }
  }
  config.bos = fields.optional_integer("bos_token_id", 0, INT32_MAX);
  config.eos = fields.integers("eos_token_id", 0, INT32_MAX);
  config.raw = json;
  return config;
}

GenerationConfig GenerationConfig::read(const std::filesystem::path& folder) {
  const auto file = folder / "generation_config.json";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return {};
  return parse(read_json(file, {.bytes = 1 << 20, .depth = 16}), file.string());
}

GenerationConfig GenerationConfig::parse(const Json& json, const std::string& where) {
  const Fields fields(json, where);
  GenerationConfig config;
  config.bos = fields.optional_integer("bos_token_id", 0, INT32_MAX);
  config.eos = fields.integers("eos_token_id", 0, INT32_MAX);
  config.do_sample = fields.optional_boolean("do_sample");
  config.temperature = fields.optional_number("temperature", 0, 1e6);
  config.top_p = fields.optional_number("top_p", 0, 1);
  config.min_p = fields.optional_number("min_p", 0, 1);
  config.repetition_penalty = fields.optional_number_above("repetition_penalty", 0, 1e6);
  config.top_k = fields.optional_integer("top_k", 0, INT32_MAX);
  config.max_new_tokens = fields.optional_integer("max_new_tokens", 1, INT32_MAX);
  return config;
}

}  // namespace linnet
