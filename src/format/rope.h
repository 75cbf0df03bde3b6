// The rotary part of config.json. Internal to format/: the results stand in ModelConfig.
#pragma once

#include "format/fields.h"
#include "format/model_config.h"

namespace linnet {

/// Reads rope_parameters, or rope_theta (as the family calls it) and rope_scaling. `positions` is
/// max_position_embeddings.
/// Throws Error on a scaling that is not computed (by name) or a number out of range.
RopeConfig parse_rope(const Fields& config, int64_t positions, const Family& family);

}  // namespace linnet
