// How large a sequence's state is, and how it grows, from the config alone.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "model/model.h"

namespace linnet {

// Numbers of keys and values have the model's (or the shape's) StateType; all others are float32.

/// Bytes that each token adds to a sequence's state: keys and values of the layers that keep all of them.
int64_t state_bytes_a_token(const Model& model);

/// Bytes of a sequence's state after `tokens` tokens under the softmax that a model was trained with: its
/// cache, of layers with a window as far as that.
int64_t softmax_state_bytes(const ModelConfig& config, const AttentionShape& shape, int64_t tokens);

/// Bytes of a sequence's state that are there before its first token: all of it in layers whose state does
/// not grow.
int64_t constant_state_bytes(std::span<const AttentionConfig> layers, const AttentionShape& shape);

/// Throws Error (where: `where`) where these bytes, of `sequences` sequences, are more than `memory` bytes;
/// warns where they are more than a quarter of it.
void check_state_fits(int64_t bytes, int64_t sequences, int64_t memory, const std::string& where);

/// Tokens of a sequence whose state this machine's memory holds; INT64_MAX where states do not grow.
int64_t tokens_that_fit(const Model& model);

}  // namespace linnet
