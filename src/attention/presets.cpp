#include "attention/presets.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>

#include "attention/method.h"
#include "base/error.h"

namespace linnet {
namespace {

/// A layer's number that is all of `text`, or −1.
int layer_number(std::string_view text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : -1;
}

/// Whether one layer's object is without a fault.
bool is_attention(const nlohmann::json& object) {
  try {
    parse_layer_attention(object, "");
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::vector<int> parse_layers(std::span<const std::string> items, int layers, const std::string& where) {
  std::set<int> found;
  for (const std::string& item : items) {
    const std::string_view text = item, first = text.substr(0, text.find('-'));
    const int begin = layer_number(first);
    const int last = first.size() == text.size() ? begin : layer_number(text.substr(first.size() + 1));
    if (begin < 0 || last < begin || last >= layers) {
      throw Error(where, fmt::format("layer \"{}\"", printable(item, 60)),
                  fmt::format("layers 0 to {}, such as 0-2,5", layers - 1));
    }
    for (int layer = begin; layer <= last; ++layer) {
      if (!found.insert(layer).second) throw Error(where, fmt::format("layer {} twice", layer), "each once");
    }
  }
  return {found.begin(), found.end()};
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

nlohmann::json with_exact_layers(nlohmann::json object, std::span<const int> layers, int64_t window,
                                 std::span<const int> teacher_windows) {
  nlohmann::json& entries = object["layers"];
  if (!entries.is_object() && !entries.is_null()) return object;  // parse_attention refuses it
  constexpr int kGroups = 16;
  const int64_t group = std::min<int64_t>((window + kGroups - 1) / kGroups, 4096);
  for (const int layer : layers) {
    const int teacher = teacher_windows[static_cast<size_t>(layer)];
    if (teacher > 0 && teacher <= window) {
      entries[std::to_string(layer)] = {{"method", "softmax"}};
      continue;
    }
    entries[std::to_string(layer)] = {{"method", "grouped"},
                                      {"alpha", 1},
                                      {"taps", 0},
                                      {"group", group},
                                      {"local_groups", (window + group - 1) / group},
                                      {"sinks", std::min<int64_t>(4, group)}};
  }
  return object;
}

}  // namespace linnet
