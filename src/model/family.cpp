#include "model/family.h"

#include <fmt/format.h>

#include "base/error.h"

namespace linnet {
namespace {

// LLaMA and the families that differ from it in config.json alone.
constexpr Family llama_like(std::string_view model_type, std::string_view architecture) {
  return {.model_type = model_type,
          .architecture = architecture,
          .norm = NormKind::kRms,
          .positions = PositionKind::kRotary,
          .gated = true,
          .fused_qkv = false,
          .transposed = false,
          .prefix = "model.",
          .embedding = "embed_tokens",
          .position_embedding = "",
          .final_norm = "norm",
          .head = "lm_head",
          .layer = "layers.{}.",
          .attention_norm = "input_layernorm",
          .q = "self_attn.q_proj",
          .k = "self_attn.k_proj",
          .v = "self_attn.v_proj",
          .o = "self_attn.o_proj",
          .feed_forward_norm = "post_attention_layernorm",
          .gate = "mlp.gate_proj",
          .up = "mlp.up_proj",
          .down = "mlp.down_proj",
          .attention = "self_attn."};
}

constexpr Family kFamilies[] = {
    llama_like("llama", "LlamaForCausalLM"),
    llama_like("mistral", "MistralForCausalLM"),
    llama_like("qwen2", "Qwen2ForCausalLM"),
    {.model_type = "gpt2",
     .architecture = "GPT2LMHeadModel",
     .norm = NormKind::kLayer,
     .positions = PositionKind::kLearned,
     .gated = false,
     .fused_qkv = true,
     .transposed = true,
     .prefix = "transformer.",
     .embedding = "wte",
     .position_embedding = "wpe",
     .final_norm = "ln_f",
     .head = "lm_head",
     .layer = "h.{}.",
     .attention_norm = "ln_1",
     .q = "attn.c_attn",
     .k = "",
     .v = "",
     .o = "attn.c_proj",
     .feed_forward_norm = "ln_2",
     .gate = "",
     .up = "mlp.c_fc",
     .down = "mlp.c_proj",
     .attention = "attn."},
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

const Family& family_of(const ModelConfig& config, const std::string& where) {
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.model_type == config.model_type) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  throw Error(where, fmt::format("\"model_type\" is \"{}\"", printable(config.model_type)),
              "one of " + known);
}

std::string layer_prefix(const Family& family, int layer) {
  return fmt::format(fmt::runtime(family.layer), layer);
}

ModuleShape module_shape(const Family& family, const ModelConfig& config, std::string_view module) {
  const int64_t q = config.heads * config.head_size, kv = config.kv_heads * config.head_size;
  if (module == family.embedding || module == family.head)
    return {config.vocabulary, config.hidden, false, false};
  if (module == family.position_embedding) return {config.positions, config.hidden, false, false};
  if (module == family.q) {
    return {family.fused_qkv ? q + 2 * kv : q, config.hidden, config.attention_bias, family.transposed};
  }
  if (module == family.k || module == family.v)
    return {kv, config.hidden, config.attention_bias, family.transposed};
  if (module == family.o) return {config.hidden, q, config.attention_output_bias, family.transposed};
  if (module == family.gate || module == family.up) {
    return {config.intermediate, config.hidden, config.mlp_bias, family.transposed};
  }
  if (module == family.down) return {config.hidden, config.intermediate, config.mlp_bias, family.transposed};
  return {config.hidden, 0, family.norm == NormKind::kLayer, false};
}

Rotation rotation_of(const Family& family, const ModelConfig& config) {
  if (family.positions == PositionKind::kLearned) return {};
  RopeFrequencies rope = rope_frequencies(config);
  return {std::move(rope.inverse), config.positions, rope.factor};
}

std::vector<std::string_view> layer_modules(const Family& family) {
  std::vector<std::string_view> out;
  for (std::string_view module : {family.attention_norm, family.q, family.k, family.v, family.o,
                                  family.feed_forward_norm, family.gate, family.up, family.down}) {
    if (!module.empty()) out.push_back(module);
  }
  return out;
}

}  // namespace linnet
