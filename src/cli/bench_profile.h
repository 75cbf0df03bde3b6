// Where the time of a decode step goes: `linnet bench --profile`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/thread_pool.h"
#include "model/profile.h"

namespace linnet::cli {

/// What `steps` decode steps took, `seconds` together, beside what is told of them. `state_bytes`: the state
/// that attention reads a step.
nlohmann::ordered_json profile_json(const Profile& profile, const ThreadPool::Watched& pool, int64_t steps,
                                    double seconds, size_t state_bytes);

/// As a table; JSON of profile_json().
std::string profile_text(const nlohmann::ordered_json& profile);

}  // namespace linnet::cli
