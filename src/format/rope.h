// The rotary part of config.json. Internal to format/: the results stand in ModelConfig.
#pragma once

#include "format/fields.h"
#include "format/model_config.h"

namespace linnet {

/// How many of a head's numbers are rotated.
int64_t rotary_numbers(const ModelConfig& config, const RopeConfig& rope);

/// Reads rope_parameters, or rope_theta (as the family calls it) and rope_scaling. Of `sizes` it reads the
/// positions and the heads' size.
/// Throws Error on a scaling that is not computed (by name) or a number out of range.
RopeConfig parse_rope(const Fields& config, const ModelConfig& sizes, const Family& family);

}  // namespace linnet
