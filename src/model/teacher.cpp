#include "model/teacher.h"

#include <fmt/format.h>

namespace linnet {

std::vector<AttentionConfig> teacher_attention(const ModelConfig& config) {
  return attention_over(config, nullptr, config.model_type);
}

std::vector<AttentionConfig> attention_over(const ModelConfig& config, const nlohmann::json& object,
                                            const std::string& where) {
  std::vector<AttentionConfig> layers = parse_attention(object, static_cast<int>(config.layers), where);
  for (size_t i = 0; i < layers.size(); ++i) {
    check_heads(layers[i], config.kv_heads, fmt::format("{}: linear_attention, layer {}", where, i));
    layers[i].score_cap = config.score_cap;
    if (layers[i].grows() && layers[i].window == 0) layers[i].window = config.windows[i];
  }
  return layers;
}

nlohmann::json attention_object(const ModelConfig& config, const std::vector<AttentionConfig>& layers) {
  return layers == teacher_attention(config) ? nlohmann::json() : to_json(layers);
}

}  // namespace linnet
