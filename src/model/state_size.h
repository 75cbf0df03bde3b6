// How a sequence's state grows, from the config alone.
#pragma once

#include <cstdint>

#include "model/model.h"

namespace linnet {

/// Bytes that each token adds to a sequence's state, in float32: keys and values of the layers that keep all
/// of them.
int64_t state_bytes_a_token(const Model& model);

/// Tokens of a sequence whose state this machine's memory holds; INT64_MAX where states do not grow.
int64_t tokens_that_fit(const Model& model);

}  // namespace linnet
