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

/// What `--method NAME` stands for: the row in every layer but for the first half, rounded down, where it has
/// a row for those (Method::first_half). An unknown name is left to parse_attention.
nlohmann::json method_attention(const std::string& name, int layers);

/// `object` with `changes`, which also go to entries of `layers` that method_attention made, where the
/// entry's row takes them: the local branch is what a row without a summary is, so `local` does not.
nlohmann::json with_changes(nlohmann::json object, const nlohmann::json& changes);

/// `object` with exact attention in some layers, for which nothing is learned: their local branch alone, over
/// the last `window` tokens, or the teacher's own softmax where that sees no more. `teacher_windows`: of
/// every layer, 0 where it sees all.
nlohmann::json with_exact_layers(nlohmann::json object, std::span<const int> layers, int64_t window,
                                 std::span<const int> teacher_windows);

}  // namespace linnet
