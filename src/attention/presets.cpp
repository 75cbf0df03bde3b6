#include "attention/presets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "attention/method.h"
#include "base/error.h"

namespace linnet {
namespace {

constexpr std::array<std::string_view, 5> kBudgetKeys{"group", "local_groups", "kept", "keep", "sinks"};

void check_budget_keys(const nlohmann::json& object, const std::string& where, bool has_layers) {
  if (!object.is_object()) throw Error(where, object.type_name(), "an object");
  for (const auto& [key, value] : object.items()) {
    if (value.is_null())
      throw Error(where, fmt::format("{}: null", printable(key, 60)), "a value, or no such key");
    if (has_layers && key == "layers") continue;
    if (std::find(kBudgetKeys.begin(), kBudgetKeys.end(), key) == kBudgetKeys.end())
      throw Error(where, fmt::format("key \"{}\"", printable(key, 60)),
                  fmt::format("{}{}", fmt::join(kBudgetKeys, ", "), has_layers ? ", layers" : ""));
  }
}

}  // namespace

bool is_attention(const nlohmann::json& object) {
  try {
    parse_layer_attention(object, "");
    return true;
  } catch (const Error&) {
    return false;
  }
}

nlohmann::json method_attention(const std::string& name, int layers) {
  nlohmann::json object{{"method", name}};
  for (const Method* method : methods()) {
    if (method->name != name || method->first_half.empty()) continue;
    for (int layer = 0; layer < layers / 2; ++layer) {
      object["layers"][std::to_string(layer)] = {{"method", method->first_half}};
    }
  }
  return object;
}

nlohmann::json attention_to_spend_on() {
  return {{"method", "t2r"}, {"local", "softmax"}, {"local_groups", 2},         {"sinks", 4},
          {"gate", true},    {"decay", "learned"}, {"feature_position", "none"}};
}

nlohmann::json with_changes(nlohmann::json object, const nlohmann::json& changes) {
  nlohmann::json entries = object.value("layers", nlohmann::json::object());
  for (auto& entry : entries) {
    for (const auto& [key, value] : changes.items()) {
      nlohmann::json changed = entry;
      changed[key] = value;
      if (key != "local" && is_attention(changed)) entry = changed;
    }
  }
  object.update(changes);
  if (!entries.empty() && !changes.contains("layers")) object["layers"] = entries;
  return object;
}

nlohmann::json with_budgets(nlohmann::json object, const nlohmann::json& budgets, const std::string& where) {
  check_budget_keys(budgets, where, /*has_layers=*/true);
  nlohmann::json shared = budgets;
  shared.erase("layers");
  object = with_changes(object, shared);
  const auto layers = budgets.find("layers");
  if (layers == budgets.end()) return object;
  if (!layers->is_object()) throw Error(where + ": layers", layers->type_name(), "an object");
  nlohmann::json entries = object.value("layers", nlohmann::json());
  if (!entries.is_object() && !entries.is_null()) return object;  // parse_attention refuses it
  for (const auto& [layer, own] : layers->items()) {
    check_budget_keys(own, fmt::format("{}: layers.{}", where, printable(layer, 60)), /*has_layers=*/false);
    if (nlohmann::json& entry = entries[layer]; entry.is_object() || entry.is_null()) entry.update(own);
  }
  object["layers"] = std::move(entries);
  return object;
}

}  // namespace linnet
