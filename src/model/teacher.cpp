#include "model/teacher.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "attention/attention.h"
#include "base/error.h"

namespace linnet {

std::vector<AttentionConfig> teacher_attention(const ModelConfig& config) {
  return attention_over(config, nullptr, config.model_type);
}

namespace {

// The three attentions of a model with an encoder, by their keys of `linear_attention`.
constexpr std::string_view kDecoder = "decoder", kCross = "cross", kEncoder = "encoder";

std::vector<AttentionConfig> attention_of_stacks(const ModelConfig& config, const nlohmann::json& object,
                                                 const std::string& where) {
  const std::string place = where + ": linear_attention";
  if (!object.is_null() && !object.is_object())
    throw Error(place, "not an object", "one of decoder, cross and encoder");
  if (object.is_object()) {
    for (const auto& [key, value] : object.items()) {
      if (key != kDecoder && key != kCross && key != kEncoder)
        throw Error(place, fmt::format("\"{}\", and the model has an encoder", printable(key, 60)),
                    "decoder, cross and encoder, an object each");
    }
  }
  ModelConfig stack = config;
  stack.encoder_layers = 0;
  std::vector<AttentionConfig> all;
  for (const std::string_view key : {kDecoder, kCross, kEncoder}) {
    const ModelConfig own = key == kEncoder ? config.of_encoder() : stack;
    const auto found = object.is_object() ? object.find(std::string(key)) : object.end();
    const bool there = object.is_object() && found != object.end();
    auto layers = attention_over(own, there ? *found : nlohmann::json(), fmt::format("{}: {}", where, key));
    if (key == kCross) std::ranges::for_each(layers, check_cross);
    all.insert(all.end(), layers.begin(), layers.end());
  }
  return all;
}

}  // namespace

std::vector<AttentionConfig> attention_over(const ModelConfig& config, const nlohmann::json& object,
                                            const std::string& where) {
  if (config.encoder_layers > 0) return attention_of_stacks(config, object, where);
  std::vector<AttentionConfig> layers = parse_attention(object, static_cast<int>(config.layers), where);
  for (size_t i = 0; i < layers.size(); ++i) {
    check_heads(layers[i], config.kv_heads, fmt::format("{}: linear_attention, layer {}", where, i));
    layers[i].score_cap = config.score_cap;
    if (layers[i].grows() && layers[i].window == 0) layers[i].window = config.windows[i];
  }
  return layers;
}

nlohmann::json attention_object(const ModelConfig& config, const std::vector<AttentionConfig>& layers) {
  if (layers == teacher_attention(config)) return {};
  if (config.encoder_layers == 0) return to_json(layers);
  const auto part = [&](int64_t first, int64_t count) {
    return to_json({layers.begin() + first, layers.begin() + first + count});
  };
  nlohmann::json object;
  for (const auto& [key, first, count] :
       {std::tuple(kDecoder, int64_t{0}, config.layers), std::tuple(kCross, config.layers, config.layers),
        std::tuple(kEncoder, 2 * config.layers, config.encoder_layers)}) {
    nlohmann::json own = part(first, count);
    if (!own.is_null()) object[std::string(key)] = std::move(own);
  }
  return object;
}

}  // namespace linnet
