#include "format/family.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "format/fields.h"
#include "format/model_config.h"

namespace linnet {
namespace {

// ---------------------------------------------------------------- what only one config.json has

/// A cap c of numbers x, c·tanh(x / c); none where it is null.
double cap_of(const Fields& fields, const nlohmann::json& json, const char* key, double absent) {
  if (!json.contains(key)) return absent;
  return fields.optional_number_above(key, 1e-6, 1e6).value_or(0);
}

/// √hidden, which multiplies embeddings, in the type of the numbers that it multiplies.
double embedding_scale(const ModelConfig& config) {
  const double scale = std::sqrt(static_cast<double>(config.hidden));
  const char* const key = config.raw.contains("dtype") ? "dtype" : "torch_dtype";
  const nlohmann::json type = config.raw.value(key, nlohmann::json());
  // To 8 bits in bfloat16, 11 in float16, 24 in float32.
  const int bits = type == "bfloat16" ? 8 : type == "float16" ? 11 : 24;
  int exponent = 0;
  const double fraction = std::frexp(scale, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, bits)), exponent - bits);
}

void read_gemma(const Fields&, ModelConfig& config) {
  config.embedding_scale = embedding_scale(config);
  // The first configs say "gelu" and mean its approximation.
  if (config.activation == Activation::kGelu) config.activation = Activation::kGeluTanh;
}

void read_gemma2(const Fields& fields, ModelConfig& config) {
  config.embedding_scale = embedding_scale(config);
  config.score_cap = cap_of(fields, config.raw, "attn_logit_softcapping", 50);
  config.logit_cap = cap_of(fields, config.raw, "final_logit_softcapping", 30);
  const double size = fields.optional_number_above("query_pre_attn_scalar", 0, 1e6).value_or(256);
  config.query_scale = std::sqrt(static_cast<double>(config.head_size) / size);
}

void read_phi3(const Fields& fields, ModelConfig& config) {
  // Its class takes even "yarn" for longrope.
  if (config.rope.scaling != RopeScaling::kNone && config.rope.scaling != RopeScaling::kLongRope)
    throw Error(fields.where(), "phi3 with another rope scaling", "longrope, or none");
}

void read_gpt_neox(const Fields& fields, ModelConfig& config) {
  config.parallel = fields.boolean("use_parallel_residual", true);
}

/// `no_rope_layers`: of each layer 1 where its keys are rotated; absent: all but each fourth's.
void read_smollm3(const Fields& fields, ModelConfig& config) {
  const auto layers = static_cast<size_t>(config.layers);
  if (const nlohmann::json* rotated = fields.find("no_rope_layers")) {
    if (!rotated->is_array() || rotated->size() < layers)
      fields.refuse("no_rope_layers", fmt::format("an array of {}, one a layer", layers));
    for (size_t i = 0; i < layers; ++i) {
      const nlohmann::json& one = (*rotated)[i];
      if (one != 0 && one != 1) fields.refuse("no_rope_layers", "0 or 1 for each layer");
      config.rotated[i] = one == 1;
    }
    return;
  }
  const auto interval =
      static_cast<size_t>(fields.optional_integer("no_rope_layer_interval", 1, INT32_MAX).value_or(4));
  for (size_t i = 0; i < layers; ++i) config.rotated[i] = (i + 1) % interval != 0;
}

/// FLASH's one head, the size of its values, its norm.
void read_flash(const Fields& fields, ModelConfig& config) {
  for (const char* key : {"num_attention_heads", "num_key_value_heads"}) {
    if (fields.optional_integer(key, 1, 1 << 16).value_or(1) > 1)
      fields.refuse(key, "1: a gated attention unit has one head");
  }
  config.value_size = config.intermediate;
  constexpr std::pair<std::string_view, NormKind> kNorms[] = {
      {"scale_norm", NormKind::kScale}, {"rms_norm", NormKind::kRms}, {"layer_norm", NormKind::kLayer}};
  const std::string name = fields.optional_string("norm_type").value_or("scale_norm");
  const auto* const norm =
      std::ranges::find(kNorms, std::string_view(name), [](const auto& row) { return row.first; });
  if (norm == std::end(kNorms)) fields.refuse("norm_type", "scale_norm, rms_norm or layer_norm");
  config.norm = norm->second;
}

/// "relu", or "gated-gelu", under which transformers computes gelu_new.
bool is_gated(const Fields& fields) {
  return fields.optional_string("feed_forward_proj").value_or("relu").starts_with("gated-");
}

/// Two stacks: `num_layers` is the encoder's.
void read_t5(const Fields& fields, ModelConfig& config) {
  config.encoder_layers = config.layers;
  config.layers = fields.optional_integer("num_decoder_layers", 1, 10'000).value_or(config.layers);
  config.rotated.assign(static_cast<size_t>(config.layers), false);
  if (!fields.boolean("is_encoder_decoder", true))
    fields.refuse("is_encoder_decoder", "true (an encoder alone is not computed)");
  config.start = fields.integer("decoder_start_token_id", 0, config.vocabulary - 1);
  config.query_scale = std::sqrt(static_cast<double>(config.head_size));  // scores are q·k
  const int64_t buckets = fields.optional_integer("relative_attention_num_buckets", 4, 1 << 16).value_or(32);
  const int64_t most = fields.optional_integer("relative_attention_max_distance", 2, 1 << 20).value_or(128);
  if (most <= buckets / 2)
    fields.refuse("relative_attention_max_distance",
                  fmt::format("more than {}, half of the buckets", buckets / 2));
  config.relative_buckets = buckets, config.relative_distance = most;
  // A head of its own is not scaled. What transformers 5 writes says so by another key, and ties it in name.
  const bool scaled = fields.optional_boolean("scale_decoder_outputs").value_or(config.tied_embeddings);
  config.tied_embeddings = config.tied_embeddings && scaled;
  if (scaled) config.head_scale = 1 / std::sqrt(static_cast<double>(config.hidden));
}

void read_bert(const Fields& fields, ModelConfig& config) {
  constexpr int64_t kMostTypes = 1 << 16;
  config.token_types = fields.optional_integer("type_vocab_size", 1, kMostTypes).value_or(2);
  if (fields.optional_string("position_embedding_type").value_or("absolute") != "absolute")
    fields.refuse("position_embedding_type", "absolute (learned positions)");
  if (fields.boolean("is_decoder", false)) fields.refuse("is_decoder", "false (an encoder)");
}

/// Its positions count on from behind the padding's.
void read_roberta(const Fields& fields, ModelConfig& config) {
  read_bert(fields, config);
  config.first_position = fields.optional_integer("pad_token_id", 0, INT32_MAX).value_or(1) + 1;
  if (config.first_position >= config.positions)
    fields.refuse(family_of(config.model_type, fields.where()).keys.positions,
                  fmt::format("more than {}, which positions begin with", config.first_position));
}

// ---------------------------------------------------------------- rows

/// LLaMA, whose names and order of things most decoders have taken over.
constexpr Family llama_like(std::string_view model_type, std::string_view architecture) {
  Family row;
  row.model_type = model_type;
  row.architecture = architecture;
  row.prefix = "model.";
  row.embedding = "embed_tokens";
  row.final_norm = "norm";
  row.head = "lm_head";
  row.layer = "layers.{}.";
  row.attention_norm = "input_layernorm";
  row.q = "self_attn.q_proj";
  row.k = "self_attn.k_proj";
  row.v = "self_attn.v_proj";
  row.o = "self_attn.o_proj";
  row.feed_forward_norm = "post_attention_layernorm";
  row.gate = "mlp.gate_proj";
  row.up = "mlp.up_proj";
  row.down = "mlp.down_proj";
  row.attention = "self_attn.";
  return row;
}

constexpr Family biased_by_config(Family row) {
  row.attention_bias = row.attention_output_bias = Bias::kIfAsked;
  return row;
}

constexpr Family llama() {
  Family row = biased_by_config(llama_like("llama", "LlamaForCausalLM"));
  row.mlp_bias = Bias::kIfAsked;
  return row;
}

constexpr Family mistral() {
  Family row = llama();
  row.model_type = "mistral";
  row.architecture = "MistralForCausalLM";
  row.defaults.positions = 131072;
  row.defaults.kv_heads = 8;
  row.windows = {Sliding::kEvery, 4096};
  return row;
}

constexpr Family qwen2() {
  Family row = llama_like("qwen2", "Qwen2ForCausalLM");
  row.defaults.positions = 32768;
  row.defaults.kv_heads = 32;
  row.attention_bias = Bias::kAlways;
  row.windows = {Sliding::kFromMaxWindowLayers, 4096, true};
  return row;
}

constexpr Family with_qk_norms(Family row, QkNorm over) {
  row.qk_norm = over;
  row.q_norm = "self_attn.q_norm";
  row.k_norm = "self_attn.k_norm";
  return row;
}

constexpr Family qwen3() {
  Family row = with_qk_norms(biased_by_config(qwen2()), QkNorm::kHead);
  row.model_type = "qwen3";
  row.architecture = "Qwen3ForCausalLM";
  row.defaults.head_size = 128;
  return row;
}

constexpr Family smollm3() {
  Family row = llama();
  row.model_type = "smollm3";
  row.architecture = "SmolLM3ForCausalLM";
  row.defaults.positions = 32768;
  row.defaults.kv_heads = 4;
  row.defaults.tied = true;
  row.defaults.theta = 2e6;
  row.windows = {Sliding::kWithoutRotary, 0, true};
  row.read_more = read_smollm3;
  return row;
}

constexpr Family phi3() {
  Family row = llama_like("phi3", "Phi3ForCausalLM");
  row.defaults.positions = row.defaults.original_positions = 4096;
  row.defaults.epsilon = 1e-5;
  row.windows = {Sliding::kEvery, 0};
  row.read_more = read_phi3;
  row.qkv = QkvParts::kStacked;
  row.q = "self_attn.qkv_proj";
  row.k = row.v = "";
  row.gate = "";
  row.up = "mlp.gate_up_proj";
  return row;
}

constexpr Family olmo2() {
  Family row = with_qk_norms(biased_by_config(llama_like("olmo2", "Olmo2ForCausalLM")), QkNorm::kAll);
  row.defaults.epsilon = 1e-5;
  row.attention_norm = row.feed_forward_norm = "";
  row.attention_post_norm = "post_attention_layernorm";
  row.feed_forward_post_norm = "post_feedforward_layernorm";
  return row;
}

constexpr Family gemma() {
  Family row = biased_by_config(llama_like("gemma", "GemmaForCausalLM"));
  row.defaults = {
      .activation = "gelu_pytorch_tanh", .positions = 8192, .tied = true, .kv_heads = 16, .head_size = 256};
  row.norm = NormKind::kRmsPlusOne;
  row.read_more = read_gemma;
  return row;
}

constexpr Family gemma2() {
  Family row = gemma();
  row.model_type = "gemma2";
  row.architecture = "Gemma2ForCausalLM";
  row.keys.activation = "hidden_activation";
  row.defaults.kv_heads = 4;
  row.windows = {Sliding::kEven, 4096};
  row.attention_post_norm = "post_attention_layernorm";
  row.feed_forward_norm = "pre_feedforward_layernorm";
  row.feed_forward_post_norm = "post_feedforward_layernorm";
  row.read_more = read_gemma2;
  return row;
}

constexpr Family gpt_neox() {
  Family row;
  row.model_type = "gpt_neox";
  row.architecture = "GPTNeoXForCausalLM";
  row.keys.kv_heads = "";
  row.keys.epsilon = "layer_norm_eps";
  row.keys.theta = "rotary_emb_base";
  row.keys.rotary_part = "rotary_pct";
  row.defaults.activation = "gelu";
  row.defaults.epsilon = 1e-5;
  row.defaults.rotary_part = 0.25;
  row.attention_bias = row.attention_output_bias = Bias::kUnlessDeclined;
  row.mlp_bias = Bias::kAlways;
  row.read_more = read_gpt_neox;
  row.norm = NormKind::kLayer;
  row.qkv = QkvParts::kByHead;
  row.gated = false;
  row.prefix = "gpt_neox.";
  row.embedding = "embed_in";
  row.final_norm = "final_layer_norm";
  row.head = "embed_out";
  row.layer = "layers.{}.";
  row.attention_norm = "input_layernorm";
  row.q = "attention.query_key_value";
  row.o = "attention.dense";
  row.feed_forward_norm = "post_attention_layernorm";
  row.up = "mlp.dense_h_to_4h";
  row.down = "mlp.dense_4h_to_h";
  row.attention = "attention.";
  return row;
}

constexpr Family gpt2() {
  Family row;
  row.model_type = "gpt2";
  row.architecture = "GPT2LMHeadModel";
  row.keys = {.hidden = "n_embd",
              .layers = "n_layer",
              .heads = "n_head",
              .kv_heads = "",
              .intermediate = "n_inner",
              .positions = "n_positions",
              .epsilon = "layer_norm_epsilon",
              .activation = "activation_function"};
  row.defaults = {.activation = "gelu_new", .positions = 1024, .epsilon = 1e-5, .tied = true};
  row.attention_bias = row.attention_output_bias = row.mlp_bias = Bias::kAlways;
  row.norm = NormKind::kLayer;
  row.positions = PositionKind::kLearned;
  row.qkv = QkvParts::kStacked;
  row.gated = false;
  row.transposed = true;
  row.prefix = "transformer.";
  row.embedding = "wte";
  row.position_embedding = "wpe";
  row.final_norm = "ln_f";
  row.head = "lm_head";
  row.layer = "h.{}.";
  row.attention_norm = "ln_1";
  row.q = "attn.c_attn";
  row.o = "attn.c_proj";
  row.feed_forward_norm = "ln_2";
  row.up = "mlp.c_fc";
  row.down = "mlp.c_proj";
  row.attention = "attn.";
  return row;
}

/// Linnet's own folder of it: nobody ships one.
constexpr Family flash() {
  Family row;
  row.model_type = "flash";
  row.architecture = "FlashForCausalLM";
  row.keys.heads = row.keys.kv_heads = "";
  row.keys.epsilon = "norm_eps";
  row.defaults = {.positions = 1024, .epsilon = 1e-5, .head_size = 128};
  row.read_more = read_flash;
  row.norm = NormKind::kScale;
  row.gated = false;
  row.gated_unit = true;
  row.prefix = "model.";
  row.embedding = "embed_tokens";
  row.final_norm = "norm";
  row.head = "lm_head";
  row.layer = "layers.{}.";
  row.attention_norm = "input_norm";
  row.q = "gau.z_proj";
  row.v = "gau.v_proj";
  row.gate = "gau.u_proj";
  row.o = "gau.o_proj";
  row.affine = "gau.affine";
  row.attention = "gau.";
  return row;
}

/// T5 (v1.0), its encoder's part; `gated`: v1.1.
constexpr Family t5_encoder(bool gated) {
  Family row;
  row.model_type = "t5";
  row.architecture = "T5ForConditionalGeneration";
  row.keys = {.hidden = "d_model",
              .layers = "num_layers",
              .heads = "num_heads",
              .kv_heads = "",
              .intermediate = "d_ff",
              .positions = "n_positions",
              .epsilon = "layer_norm_epsilon",
              .activation = "feed_forward_proj",
              .head_size = "d_kv"};
  row.defaults = {.activation = "relu", .positions = 512, .tied = true, .head_size = 64};
  row.read_more = read_t5;
  row.stack = Stack::kEncoder;
  row.positions = PositionKind::kRelative;
  row.gated = gated;
  row.embedding = "shared";
  row.final_norm = "encoder.final_layer_norm";
  row.relative_bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias";
  row.layer = "encoder.block.{}.";
  row.attention_norm = "layer.0.layer_norm";
  row.q = "layer.0.SelfAttention.q";
  row.k = "layer.0.SelfAttention.k";
  row.v = "layer.0.SelfAttention.v";
  row.o = "layer.0.SelfAttention.o";
  row.attention = "layer.0.SelfAttention.";
  row.feed_forward_norm = "layer.1.layer_norm";
  row.gate = gated ? "layer.1.DenseReluDense.wi_0" : "";
  row.up = gated ? "layer.1.DenseReluDense.wi_1" : "layer.1.DenseReluDense.wi";
  row.down = "layer.1.DenseReluDense.wo";
  row.classifier.prefix = "transformer.";
  return row;
}
constexpr Family kT5Encoder = t5_encoder(false), kGatedT5Encoder = t5_encoder(true);

/// The whole model: the decoder's part, and the encoder that it reads.
constexpr Family t5(bool gated) {
  Family row = gated ? kGatedT5Encoder : kT5Encoder;
  row.stack = Stack::kDecoder;
  row.encoder = gated ? &kGatedT5Encoder : &kT5Encoder;
  row.final_norm = "decoder.final_layer_norm";
  row.relative_bias = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias";
  row.head = "lm_head";
  row.layer = "decoder.block.{}.";
  row.cross_norm = "layer.1.layer_norm";
  row.cross_q = "layer.1.EncDecAttention.q";
  row.cross_k = "layer.1.EncDecAttention.k";
  row.cross_v = "layer.1.EncDecAttention.v";
  row.cross_o = "layer.1.EncDecAttention.o";
  row.cross_attention = "layer.1.EncDecAttention.";
  row.classifier = {ReadRow::kLast, "classification_head.dense", "classification_head.out_proj", true,
                    row.classifier.prefix};
  row.feed_forward_norm = "layer.2.layer_norm";
  row.gate = gated ? "layer.2.DenseReluDense.wi_0" : "";
  row.up = gated ? "layer.2.DenseReluDense.wi_1" : "layer.2.DenseReluDense.wi";
  row.down = "layer.2.DenseReluDense.wo";
  return row;
}
constexpr Family kGatedT5 = t5(true);

constexpr Family t5() {
  Family row = t5(false);
  row.variant = [](const Fields& fields) { return is_gated(fields) ? &kGatedT5 : nullptr; };
  return row;
}

constexpr Family bert() {
  Family row;
  row.model_type = "bert";
  row.architecture = "BertForMaskedLM";
  row.keys.kv_heads = "";
  row.keys.epsilon = "layer_norm_eps";
  row.defaults = {.activation = "gelu", .positions = 512, .epsilon = 1e-12, .tied = true};
  row.attention_bias = row.attention_output_bias = row.mlp_bias = Bias::kAlways;
  row.read_more = read_bert;
  row.stack = Stack::kEncoder;
  row.norm = NormKind::kLayer;
  row.norm_after_sum = true;
  row.positions = PositionKind::kLearned;
  row.gated = false;
  row.prefix = "bert.";
  row.embedding = "embeddings.word_embeddings";
  row.position_embedding = "embeddings.position_embeddings";
  row.token_type_embedding = "embeddings.token_type_embeddings";
  row.embedding_norm = "embeddings.LayerNorm";
  row.pooler = "pooler.dense";
  row.head = "cls.predictions.decoder";
  row.head_dense = "cls.predictions.transform.dense";
  row.head_norm = "cls.predictions.transform.LayerNorm";
  row.classifier = {ReadRow::kFirst, "bert.pooler.dense", "classifier", true};
  row.head_bias = "cls.predictions";
  row.layer = "encoder.layer.{}.";
  row.q = "attention.self.query";
  row.k = "attention.self.key";
  row.v = "attention.self.value";
  row.o = "attention.output.dense";
  row.attention_post_norm = "attention.output.LayerNorm";
  row.up = "intermediate.dense";
  row.down = "output.dense";
  row.feed_forward_post_norm = "output.LayerNorm";
  row.attention = "attention.self.";
  return row;
}

constexpr Family roberta() {
  Family row = bert();
  row.model_type = "roberta";
  row.architecture = "RobertaForMaskedLM";
  row.read_more = read_roberta;
  row.prefix = "roberta.";
  row.gelu_head = true;
  row.head = "lm_head.decoder";
  row.head_dense = "lm_head.dense";
  row.head_norm = "lm_head.layer_norm";
  row.classifier = {ReadRow::kFirst, "classifier.dense", "classifier.out_proj", true};
  row.head_bias = "lm_head";
  return row;
}

constexpr Family xlm_roberta() {
  Family row = roberta();
  row.model_type = "xlm-roberta";
  row.architecture = "XLMRobertaForMaskedLM";
  return row;
}

constexpr Family kFamilies[] = {llama(), mistral(), qwen2(),       qwen3(),    smollm3(), phi3(),
                                olmo2(), gemma(),   gemma2(),      gpt_neox(), gpt2(),    flash(),
                                bert(),  roberta(), xlm_roberta(), t5()};

// Decoders whose feed-forwards are many, of which a token takes some.
constexpr std::string_view kMixtures[] = {
    "mixtral",  "qwen2_moe",   "qwen3_moe",    "qwen3_next",     "olmoe",       "phimoe", "granitemoe",
    "deepseek", "deepseek_v2", "deepseek_v3",  "gpt_oss",        "jetmoe",      "dbrx",   "glm4_moe",
    "minimax",  "llama4",      "ernie4_5_moe", "hunyuan_v1_moe", "bailing_moe", "jamba"};

}  // namespace

std::string Family::classifier_architecture() const {
  const size_t name = std::min(architecture.find("For"), architecture.find("LMHead"));
  return std::string(architecture.substr(0, name)) + "ForSequenceClassification";
}

std::span<const Family> families() { return kFamilies; }

const Family& family_of(std::string_view model_type, const std::string& where) {
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  const bool mixture = std::ranges::count(kMixtures, model_type) > 0;
  throw Error(where,
              fmt::format("\"model_type\" is \"{}\"{}", printable(model_type),
                          mixture ? ", a mixture of experts" : ""),
              "one of " + known);
}

}  // namespace linnet
