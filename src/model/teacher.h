// The softmax attention that a model was trained with: over all tokens, or over the windows of its
// config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attention/config.h"
#include "format/model_config.h"

namespace linnet {

/// One config a layer. Of a model with an encoder here and below: the decoder's, those of its
/// cross-attention, the encoder's, one after the other.
std::vector<AttentionConfig> teacher_attention(const ModelConfig& config);

/// One config a layer from a `linear_attention` object, or the teacher's where it is null. A softmax layer
/// that names no window has the teacher's. Throws as parse_attention does.
std::vector<AttentionConfig> attention_over(const ModelConfig& config, const nlohmann::json& object,
                                            const std::string& where);

/// The object for config.json that attention_over() reads as `layers`: null where all are the teacher's.
nlohmann::json attention_object(const ModelConfig& config, const std::vector<AttentionConfig>& layers);

}  // namespace linnet
