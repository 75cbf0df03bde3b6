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

// Fields whose other values would change what the model computes.
struct Required {
  std::string_view key, value, meaning;  // `value` as JSON
};
constexpr Required kRequired[] = {
    {"scale_attn_weights", "true", "scores divided by the square root of the head size"},
    {"scale_attn_by_inverse_layer_idx", "false", "scores that do not depend on the layer's number"},
    {"add_cross_attention", "false", "a decoder without cross-attention"},
    {"is_encoder_decoder", "false", "a decoder alone"},
    {"use_bidirectional_attention", "false", "tokens that see those before them"},
};

// How many feed-forwards a layer has, by the names that families give it: one is an ordinary layer.
constexpr std::string_view kExperts[] = {"num_local_experts", "num_experts", "n_routed_experts",
                                         "moe_num_experts"};

const Family& family_in(const Fields& fields) {
  const Family& named = family_of(fields.string("model_type"), fields.where());
  const Family* other = named.variant != nullptr ? named.variant(fields) : nullptr;
  const Family& family = other != nullptr ? *other : named;
  for (const std::string_view key : kExperts) {
    if (fields.optional_integer(key, 0, INT32_MAX).value_or(0) > 1)
      fields.refuse(key, "one feed-forward a layer (a mixture of experts is not computed)");
  }
  return family;
}

Activation activation_of(const Fields& fields, const Family& family) {
  constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"silu", Activation::kSilu},           {"swish", Activation::kSilu},
      {"gelu_new", Activation::kGeluTanh},   {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu", Activation::kGelu},           {"relu", Activation::kRelu},
      {"gated-gelu", Activation::kGeluTanh}, {"gated-silu", Activation::kSilu},
  };
  const std::string name =
      fields.optional_string(family.keys.activation).value_or(std::string(family.defaults.activation));
  for (const auto& [known, activation] : kNames) {
    if (known == name && (family.encoder != nullptr || !known.starts_with("gated-"))) return activation;
  }
  fields.refuse(family.keys.activation, family.encoder == nullptr
                                            ? "silu, gelu, gelu_new, gelu_pytorch_tanh or relu"
                                            : "relu, gelu, silu, gelu_new, gated-gelu or gated-silu");
}

void check_supported(const Fields& fields, const Family& family) {
  for (const Required& row : kRequired) {
    if (family.encoder != nullptr && row.key == "is_encoder_decoder") continue;
    const Json* value = fields.find(row.key);
    if (value != nullptr && value->dump() != row.value) fields.refuse(row.key, row.meaning);
  }
  if (const Json* quantized = fields.find("quantization_config"))
    check_quantization_config(*quantized, fields.where());
}

constexpr int64_t kDefaultMaxWindowLayers = 28;  // qwen2, qwen3

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

/// Which layers slide where no `layer_types` say it.
std::vector<bool> slides_unless_told(const Fields& fields, const ModelConfig& config, Sliding rule) {
  const int64_t first =
      fields.optional_integer("max_window_layers", 0, INT64_MAX).value_or(kDefaultMaxWindowLayers);
  std::vector<bool> slides;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    slides.push_back((rule == Sliding::kFromMaxWindowLayers && layer >= first) ||
                     (rule == Sliding::kEven && layer % 2 == 0) ||
                     (rule == Sliding::kWithoutRotary && !config.rotated[static_cast<size_t>(layer)]));
  }
  return slides;
}

/// Of a family whose layers may differ: `layer_types` names those that slide.
std::vector<int> windows_of_some(const Fields& fields, const Json& json, const ModelConfig& config,
                                 const Windows& rule) {
  const bool used = !rule.switched || fields.boolean("use_sliding_window", false);
  const int window = used ? window_of(fields, json, rule.absent) : 0;
  const auto told = sliding_layers(fields, config.layers);
  const std::vector<bool> slides = told ? *told : slides_unless_told(fields, config, rule.layers);
  if (told && window == 0 && std::ranges::count(slides, true) > 0) {
    fields.refuse("layer_types", fmt::format("full_attention in every layer, or {}sliding_window",
                                             rule.switched ? "use_sliding_window and " : ""));
  }
  std::vector<int> windows;
  for (const bool slide : slides) windows.push_back(slide ? window : 0);
  return windows;
}

/// The windows that the family's transformers class computes with. A family that knows none has no use for
/// these keys: what they would change is refused, so that nobody believes it was heeded.
std::vector<int> windows_of(const Fields& fields, const Json& json, const Family& family,
                            const ModelConfig& config) {
  const bool every = family.windows.layers == Sliding::kEvery;
  if (!every && family.windows.layers != Sliding::kNone)
    return windows_of_some(fields, json, config, family.windows);
  const int window = window_of(fields, json, family.windows.absent);
  const auto sliding = sliding_layers(fields, config.layers);
  if (!every) {
    if (window > 0 && window < config.positions)
      fields.refuse("sliding_window", fmt::format("null ({} has no window)", family.model_type));
    if (fields.boolean("use_sliding_window", false))
      fields.refuse("use_sliding_window", fmt::format("false ({} has no window)", family.model_type));
  }
  const bool slides = every && window > 0;
  if (sliding && std::count(sliding->begin(), sliding->end(), !slides) > 0) {
    fields.refuse("layer_types",
                  fmt::format("{} in every layer, as {} computes",
                              slides ? "sliding_attention" : "full_attention", family.model_type));
  }
  return std::vector<int>(static_cast<size_t>(config.layers), slides ? window : 0);
}

void read_sizes(const Fields& fields, const Family& family, ModelConfig& config) {
  constexpr int64_t kMaxSize = 1 << 24;
  const ConfigKeys& keys = family.keys;
  const ConfigDefaults& defaults = family.defaults;
  config.hidden = fields.integer(keys.hidden, 1, kMaxSize);
  config.layers = fields.integer(keys.layers, 1, 10'000);
  config.heads = keys.heads.empty() ? 1 : fields.integer(keys.heads, 1, 1 << 16);
  config.vocabulary = fields.integer("vocab_size", 1, INT32_MAX);
  config.positions = fields.optional_integer(keys.positions, 1, INT32_MAX).value_or(defaults.positions);
  config.kv_heads = defaults.kv_heads > 0 ? defaults.kv_heads : config.heads;
  if (!keys.kv_heads.empty())
    config.kv_heads = fields.optional_integer(keys.kv_heads, 1, config.heads).value_or(config.kv_heads);
  if (config.heads % config.kv_heads != 0)
    fields.refuse(keys.kv_heads, fmt::format("a divisor of the {} heads", config.heads));
  const bool learned = family.positions == PositionKind::kLearned;
  auto head_size = !learned ? fields.optional_integer(keys.head_size, 1, 1 << 16) : std::nullopt;
  if (!head_size && defaults.head_size > 0) head_size = defaults.head_size;
  if (!head_size && config.hidden % config.heads != 0)
    fields.refuse(keys.heads, fmt::format("a divisor of {} {}", keys.hidden, config.hidden));
  config.head_size = config.value_size = head_size.value_or(config.hidden / config.heads);
  const auto intermediate = fields.optional_integer(keys.intermediate, 1, kMaxSize);
  if (!intermediate && !learned)
    fields.refuse(keys.intermediate, family.gated_unit ? "the size of values" : "the feed-forward's size");
  config.intermediate = intermediate.value_or(4 * config.hidden);
}

bool has_bias(const Fields& fields, Bias rule, std::string_view key) {
  if (rule == Bias::kNever || rule == Bias::kAlways) return rule == Bias::kAlways;
  return fields.boolean(key, rule == Bias::kUnlessDeclined);
}

void read_biases(const Fields& fields, const Family& family, ModelConfig& config) {
  config.attention_bias = has_bias(fields, family.attention_bias, "attention_bias");
  config.attention_output_bias = has_bias(fields, family.attention_output_bias, "attention_bias");
  config.mlp_bias = has_bias(fields, family.mlp_bias, "mlp_bias");
}

void read_rotary(const Fields& fields, const Family& family, ModelConfig& config) {
  config.rope = parse_rope(fields, config, family);
  const int64_t rotary = rotary_numbers(config, config.rope);
  if (rotary < 2 || rotary % 2 != 0)
    throw Error(fields.where(), fmt::format("{} rotary numbers a head", rotary), "an even number");
}

constexpr size_t kMostLabels = 10'000;  // of our own choice

/// A classifier's labels by id: transformers has two, LABEL_0 and LABEL_1, where config.json names none.
std::vector<std::string> labels_of(const Fields& fields) {
  const auto kind = fields.optional_string("problem_type").value_or("single_label_classification");
  if (kind != "single_label_classification")
    fields.refuse("problem_type", "single_label_classification, one label per text");
  std::vector<std::string> labels;
  const Json* names = fields.find("id2label");
  if (names == nullptr) {
    const int64_t count = fields.optional_integer("num_labels", 2, kMostLabels).value_or(2);
    for (int64_t id = 0; id < count; ++id) labels.push_back(fmt::format("LABEL_{}", id));
    return labels;
  }
  if (!names->is_object() || names->size() < 2 || names->size() > kMostLabels)
    fields.refuse("id2label", fmt::format("names of 2 to {} labels", kMostLabels));
  for (size_t id = 0; id < names->size(); ++id) {
    const auto name = names->find(std::to_string(id));
    if (name == names->end() || !name->is_string() ||
        std::ranges::count(labels, name->get<std::string>()) > 0)
      fields.refuse("id2label", fmt::format("a name of its own for each of 0 to {}", names->size() - 1));
    labels.push_back(name->get<std::string>());
  }
  return labels;
}

/// Special tokens are tokens: an id past the vocabulary would be met, or written, by nobody.
void check_tokens(const Fields& fields, const std::optional<int64_t>& bos, const std::optional<int64_t>& pad,
                  const std::vector<int64_t>& eos, int64_t vocabulary) {
  const auto check = [&](const char* key, int64_t id) {
    if (id >= vocabulary) fields.refuse(key, fmt::format("a token of its {}", vocabulary));
  };
  if (bos) check("bos_token_id", *bos);
  if (pad) check("pad_token_id", *pad);
  for (const int64_t id : eos) check("eos_token_id", id);
}

bool names_a_classifier(const Fields& fields, const Family& family) {
  const Json* names = fields.find("architectures");
  return !family.classifier.out.empty() && names != nullptr && names->is_array() && names->size() == 1 &&
         names->front() == family.classifier_architecture();
}

}  // namespace

ModelConfig ModelConfig::parse(const Json& json, const std::string& where) {
  const Fields fields(json, where);
  const Family& family = family_in(fields);
  check_supported(fields, family);
  ModelConfig config;
  config.family = &family;
  config.model_type = family.model_type;
  config.raw = json;
  read_sizes(fields, family, config);
  read_biases(fields, family, config);
  config.norm = family.norm;
  constexpr double kLeastEpsilon =
      1e-38;  // float32 has nothing below it, and rows of zeros would divide by 0
  config.norm_epsilon =
      fields.optional_number_above(family.keys.epsilon, kLeastEpsilon, 1).value_or(family.defaults.epsilon);
  config.activation = activation_of(fields, family);
  config.tied_embeddings = fields.boolean("tie_word_embeddings", family.defaults.tied);
  const bool rotary = family.positions == PositionKind::kRotary;
  config.rotated.assign(static_cast<size_t>(config.layers), rotary);
  if (rotary) read_rotary(fields, family, config);
  if (family.read_more != nullptr) family.read_more(fields, config);
  config.windows = windows_of(fields, json, family, config);
  config.bos = fields.optional_integer("bos_token_id", 0, INT32_MAX);
  config.pad = fields.optional_integer("pad_token_id", -1, INT32_MAX);
  if (config.pad && *config.pad < 0) config.pad.reset();  // old configs' "none"
  config.eos = fields.integers("eos_token_id", 0, INT32_MAX);
  check_tokens(fields, config.bos, config.pad, config.eos, config.vocabulary);
  if (names_a_classifier(fields, family)) {
    config.labels = labels_of(fields);
    config.texts = fields.optional_integer("texts_per_example", 1, 2).value_or(0);
    config.tied_embeddings = true;  // no head over the vocabulary stands in its folder
    config.head_scale = 1;
  }
  return config;
}

ModelConfig ModelConfig::of_encoder() const {
  ModelConfig config = *this;
  config.family = family->encoder;
  config.layers = encoder_layers;
  config.encoder_layers = 0;
  config.head_scale = 1;
  config.rotated.assign(static_cast<size_t>(config.layers), false);
  config.windows.assign(static_cast<size_t>(config.layers), 0);
  return config;
}

GenerationConfig GenerationConfig::read(const std::filesystem::path& folder, int64_t vocabulary) {
  const auto file = folder / "generation_config.json";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return {};
  const Json json = read_json(file, {.bytes = 1 << 20, .depth = 16});
  GenerationConfig config = parse(json, file.string());
  check_tokens(Fields(json, file.string()), config.bos, {}, config.eos, vocabulary);
  return config;
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
