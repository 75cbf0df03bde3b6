// JSON from files that nobody vouches for: strict, bounded, errors that name the place.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace linnet {

struct JsonLimits {
  size_t bytes = size_t{1} << 30;
  int depth = 64;
};

/// Throws Error (where: `where`) on anything but one JSON document in UTF-8 without a byte-order mark, deeper
/// or longer than the limits, or with a key twice in one object.
nlohmann::json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits = {});
nlohmann::json read_json(const std::filesystem::path& file, const JsonLimits& limits = {});

}  // namespace linnet
