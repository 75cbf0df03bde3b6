// What `linnet bench` prints.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace linnet::cli {

/// "94%": a part of what the machine can do at best. More than all of it is an error of the ruler, and says
/// so.
std::string percent_of_limit(double fraction);

/// The whole result, which --json has too.
std::string bench_text(const nlohmann::ordered_json& result);
/// That of `bench --training`, but for the memory.
std::string bench_training_text(const nlohmann::ordered_json& result);
/// Decode by context, beside what reading alone would allow, and the bytes that a token reads: SVG.
std::string bench_picture(const nlohmann::ordered_json& result);

}  // namespace linnet::cli
