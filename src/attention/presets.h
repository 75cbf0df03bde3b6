// Changes to a `linear_attention` object that have a name: what a front end offers in one word.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace linnet {

/// Layers named one by one ("5") or from first to last ("0-2"), in order and once each. Throws Error (where:
/// `where`) on what is neither, or outside of a model of `layers` layers.
std::vector<int> parse_layers(std::span<const std::string> items, int layers, const std::string& where);

/// `object` with exact attention in some layers: their local branch alone, over the last `window` tokens, for
/// which nothing is learned.
nlohmann::json with_exact_layers(nlohmann::json object, std::span<const int> layers, int64_t window);

}  // namespace linnet
