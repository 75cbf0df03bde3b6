// Which tokens a position sees through which branch (docs/mathematics.md section 1), from the config alone:
// of one class of heads (config.h), where nothing else is said. Kept tokens are what no config says: they
// come beside.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/method.h"

namespace linnet {

/// The first position of the local window of `group`; sinks come beside it.
inline int64_t window_begin(const AttentionConfig& config, int64_t group) {
  return std::max<int64_t>(0, (group - config.local_groups.number() + 1) * config.group);
}

/// The first position that readers may see globally: sinks stay local.
inline int64_t first_global(const AttentionConfig& config) { return config.has_local() ? config.sinks : 0; }

/// One past the last position that readers of `group` see globally (sinks excepted). For an inclusive
/// summary without a local branch it is the group's end: each query then sees up to itself.
inline int64_t global_end(const AttentionConfig& config, int64_t group) {
  if (!config.has_local()) return (group + (config.method->inclusive ? 1 : 0)) * config.group;
  return window_begin(config, group);
}

/// The first position from which some token is out of some head's local branch's sight: in the summary, or,
/// where there is none, lost. Of any config.
inline int64_t first_past_local(const AttentionConfig& config) {
  AttentionConfig narrowest = config;
  narrowest.local_groups = config.local_groups.least();
  int64_t group = 0;
  while (global_end(narrowest, group) <= first_global(narrowest)) ++group;
  return group * config.group;
}

}  // namespace linnet
