// What `linnet attention` says in --json, in the runtime's program and in the workshop's.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "evaluate/attention_file.h"

namespace linnet::cli {

nlohmann::ordered_json attention_result(const AttentionFile& file, const std::string& output,
                                        const std::string& form, const std::string& dtype);

}  // namespace linnet::cli
