// Changes to a `linear_attention` object that have a name: what a front end offers in one word.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace linnet {

/// Whether one layer's object is without a fault.
bool is_attention(const nlohmann::json& object);

/// What `--method NAME` stands for: the row in every layer but for the first half, rounded down, where it has
/// a row for those (Method::first_half). An unknown name is left to parse_attention.
nlohmann::json method_attention(const std::string& name, int layers);

/// What windows that are bought one by one are best set beside, by our own runs (docs/results/recall.md): the
/// smallest summary that learns, softmax over the window and four sinks. Its group and windows are open.
nlohmann::json attention_to_spend_on();

/// `object` with `changes`, which also go to entries of `layers` that method_attention made, where the
/// entry's row takes them: the local branch is what a row without a summary is, so `local` does not.
nlohmann::json with_changes(nlohmann::json object, const nlohmann::json& changes);

/// `object` with the budgets in `budgets`: numbers and arrays of group, local_groups, kept and sinks, the
/// rule keep, and of the same keys in entries of its `layers`. Throws Error (where: `where`) on any other
/// key.
nlohmann::json with_budgets(nlohmann::json object, const nlohmann::json& budgets, const std::string& where);

}  // namespace linnet
