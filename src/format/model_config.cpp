#include "format/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "format/fields.h"
#include "format/quantization_config.h"
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
  enum { kNoWindow, kEveryLayer, kSomeLayers } windows;
};

constexpr Spelling kSpellings[] = {
    {"llama", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
     "intermediate_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "silu", 2048, 1e-6, false,
     0, true, Spelling::kByConfig, Spelling::kNoWindow},
    {"mistral", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
     "intermediate_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "silu", 131072, 1e-6,
     false, 8, true, Spelling::kByConfig, Spelling::kEveryLayer},
    {"qwen2", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
     "intermediate_size", "max_position_embeddings", "rms_norm_eps", "hidden_act", "silu", 32768, 1e-6, false,
     32, true, Spelling::kQueryKeyValue, Spelling::kSomeLayers},
    {"gpt2", "n_embd", "n_layer", "n_head", "", "n_inner", "n_positions", "layer_norm_epsilon",
     "activation_function", "gelu_new", 1024, 1e-5, true, 0, false, Spelling::kAll, Spelling::kNoWindow},
};

// Fields whose other values would change what the model computes.
struct Required {
  std::string_view key, value, meaning;  // `value` as JSON
};
constexpr Required kRequired[] = {
    {"scale_attn_weights", "true", "scores divided by the square root of the head size"},
    {"scale_attn_by_inverse_layer_idx", "false", "scores that do not depend on the layer's number"},
    {"add_cross_attention", "false", "a decoder without cross-attention"},
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
  if (const Json* quantized = fields.find("quantization_config"))
    check_quantization_config(*quantized, fields.where());
}

// What transformers' classes take where a key is absent.
constexpr int kDefaultWindow = 4096;
constexpr int64_t kDefaultMaxWindowLayers = 28;  // qwen2

/// `layer_types`: of each layer, whether it slides. Nothing where the key is absent.
std::optional<std::vector<bool>> sliding_layers(const Fields& fields, int64_t layers) {
  const Json* types = fields.find("layer_types");
  if (types == nullptr) return std::nullopt;
  if (!types->is_array() || types->size() != static_cast<size_t>(layers))
    fields.refuse("layer_types", fmt::format("an array of {}, one a layer", layers));
  std::vector<bool> sliding;
  for (const Json& type : *types) {
    if (type != "full_attention" && type != "sliding_attention")
      fields.refuse("layer_types", "full_attention or sliding_attention for each layer");
    sliding.push_back(type == "sliding_attention");
  }
  return sliding;
}

/// `sliding_window`: 0 where it is null. No sequence reaches past 2³⁰ tokens.
int window_of(const Fields& fields, const Json& json, int absent) {
  if (!json.contains("sliding_window")) return absent;
  const auto window = fields.optional_integer("sliding_window", 1, INT64_MAX);
  return static_cast<int>(std::min<int64_t>(window.value_or(0), 1 << 30));
}

/// Qwen2: `layer_types` names the layers that slide; without it, it is those from `max_window_layers` on.
std::vector<int> windows_of_some(const Fields& fields, const Json& json, int64_t layers) {
  const bool used = fields.boolean("use_sliding_window", false);
  const int window = used ? window_of(fields, json, kDefaultWindow) : 0;
  const int64_t first =
      fields.optional_integer("max_window_layers", 0, INT64_MAX).value_or(kDefaultMaxWindowLayers);
  const auto sliding = sliding_layers(fields, layers);
  std::vector<int> windows;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const bool slides = sliding ? (*sliding)[static_cast<size_t>(layer)] : layer >= first;
    if (sliding && slides && window == 0)
      fields.refuse("layer_types", "full_attention in every layer, or use_sliding_window and sliding_window");
    windows.push_back(slides ? window : 0);
  }
  return windows;
}

/// The windows that the family's transformers class computes with. A family that knows none has no use for
/// these keys: what they would change is refused, so that nobody believes it was heeded.
std::vector<int> windows_of(const Fields& fields, const Json& json, const Spelling& spelling,
                            const ModelConfig& config) {
  if (spelling.windows == Spelling::kSomeLayers) return windows_of_some(fields, json, config.layers);
  const bool every = spelling.windows == Spelling::kEveryLayer;
  const int window = window_of(fields, json, every ? kDefaultWindow : 0);
  const auto sliding = sliding_layers(fields, config.layers);
  if (!every) {
    if (window > 0 && window < config.positions)
      fields.refuse("sliding_window", fmt::format("null ({} has no window)", spelling.model_type));
    if (fields.boolean("use_sliding_window", false))
      fields.refuse("use_sliding_window", fmt::format("false ({} has no window)", spelling.model_type));
  }
  const bool slides = every && window > 0;
  if (sliding && std::count(sliding->begin(), sliding->end(), !slides) > 0) {
    fields.refuse("layer_types",
                  fmt::format("{} in every layer, as {} computes",
                              slides ? "sliding_attention" : "full_attention", spelling.model_type));
  }
  return std::vector<int>(static_cast<size_t>(config.layers), slides ? window : 0);
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
  config.windows = windows_of(fields, json, spelling, config);
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
