#include "model/family.h"

#include <fmt/format.h>

namespace linnet {
namespace {

/// A norm's numbers: of a head, of all heads' queries or keys, or of a row of the residual stream.
int64_t norm_size(const Family& family, const ModelConfig& config, std::string_view module) {
  if (module != family.q_norm && module != family.k_norm)
    return config.norm == NormKind::kScale ? 1 : config.hidden;
  if (family.qk_norm == QkNorm::kHead) return config.head_size;
  return config.head_size * (module == family.q_norm ? config.heads : config.kv_heads);
}

}  // namespace

std::string layer_prefix(const Family& family, int layer) {
  return fmt::format(fmt::runtime(family.layer), layer);
}

ModuleShape module_shape(const Family& family, const ModelConfig& config, std::string_view module) {
  const int64_t q = config.heads * config.head_size, kv = config.kv_heads * config.head_size;
  if (module == family.affine && family.gated_unit) return {4 * config.head_size, 0, true, false};
  if (module == family.classifier.out)
    return {static_cast<int64_t>(config.labels.size()), config.hidden, family.classifier.biased, false};
  if (module == family.classifier.dense)
    return {config.hidden, config.hidden, family.classifier.biased, false};
  if (module == family.embedding) return {config.vocabulary, config.hidden, false, false};
  if (module == family.head) return {config.vocabulary, config.hidden, !family.head_bias.empty(), false};
  if (module == family.token_type_embedding) return {config.token_types, config.hidden, false, false};
  if (module == family.pooler || module == family.head_dense)
    return {config.hidden, config.hidden, true, false};
  if (module == family.relative_bias) return {config.relative_buckets, config.heads, false, false};
  if (module == family.position_embedding) return {config.positions, config.hidden, false, false};
  if (module == family.q) {
    return {family.qkv == QkvParts::kApart ? q : q + 2 * kv, config.hidden, config.attention_bias,
            family.transposed};
  }
  if (module == family.cross_q) return {q, config.hidden, config.attention_bias, family.transposed};
  if (module == family.k || module == family.cross_k)
    return {kv, config.hidden, config.attention_bias, family.transposed};
  if (module == family.v || module == family.cross_v)
    return {config.kv_heads * config.value_size, config.hidden, config.attention_bias, family.transposed};
  if (module == family.o || module == family.cross_o)
    return {config.hidden, config.heads * config.value_size, config.attention_output_bias, family.transposed};
  if (module == family.gate || module == family.up) {
    return {config.intermediate * (family.is_gate_fused() ? 2 : 1), config.hidden, config.mlp_bias,
            family.transposed};
  }
  if (module == family.down) return {config.hidden, config.intermediate, config.mlp_bias, family.transposed};
  return {norm_size(family, config, module), 0, config.norm == NormKind::kLayer, false};
}

AttentionShape shape_of(const Family& family, const ModelConfig& config) {
  return {.heads = static_cast<int>(config.heads),
          .kv_heads = static_cast<int>(config.kv_heads),
          .head_size = static_cast<int>(config.head_size),
          .value_size = static_cast<int>(config.value_size),
          .own_summary_rows = family.gated_unit};
}

DistanceBuckets distance_buckets(const Family& family, const ModelConfig& config) {
  return {config.relative_buckets, config.relative_distance, family.is_encoder()};
}

Rotation rotation_of(const ModelConfig& config, int layer) {
  if (!config.rotated[static_cast<size_t>(layer)]) return {};
  RopeFrequencies rope = rope_frequencies(config);
  return {std::move(rope.inverse), config.positions, rope.factor};
}

std::vector<int64_t> rows_by_part(const ModelConfig& config) {
  std::vector<int64_t> rows;
  for (int64_t part = 0; part < 3; ++part) {
    for (int64_t head = 0; head < config.heads; ++head) {
      for (int64_t x = 0; x < config.head_size; ++x) rows.push_back((head * 3 + part) * config.head_size + x);
    }
  }
  return rows;
}

namespace {

std::vector<std::string_view> those_there(std::initializer_list<std::string_view> modules) {
  std::vector<std::string_view> out;
  for (std::string_view module : modules) {
    if (!module.empty()) out.push_back(module);
  }
  return out;
}

}  // namespace

std::vector<std::string_view> outer_modules(const Family& family) {
  return those_there({family.embedding, family.position_embedding, family.token_type_embedding,
                      family.embedding_norm, family.final_norm, family.relative_bias});
}

std::vector<std::string_view> head_modules(const Family& family) {
  return those_there({family.head_dense, family.head_norm, family.head});
}

bool is_of_head(const Family& family, std::string_view module) {
  return !module.empty() &&
         (module == family.head || module == family.head_dense || module == family.head_norm ||
          module == family.head_bias || module == family.classifier.dense || module == family.classifier.out);
}

std::vector<std::string_view> layer_modules(const Family& family) {
  return those_there({family.attention_norm, family.q, family.k, family.v, family.q_norm, family.k_norm,
                      family.affine, family.o, family.attention_post_norm, family.cross_norm, family.cross_q,
                      family.cross_k, family.cross_v, family.cross_o, family.feed_forward_norm, family.gate,
                      family.up, family.down, family.feed_forward_post_norm});
}

}  // namespace linnet
