#include "base/json.h"

#include <fmt/format.h>

#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace linnet {

nlohmann::json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  using Json = nlohmann::json;
  if (text.empty()) throw Error(where, "empty file", "a JSON document");
  if (text.size() > limits.bytes) {
    throw Error(where, fmt::format("JSON of {} bytes", text.size()), fmt::format("at most {}", limits.bytes));
  }
  if (text.substr(0, 3) == "\xEF\xBB\xBF") throw Error(where, "begins with a byte-order mark", "plain UTF-8");
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      if (depth >= limits.depth) {
        throw Error(where, "JSON nested too deeply", fmt::format("at most {} levels", limits.depth));
      }
    }
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty()) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second)
        throw Error(where, fmt::format("key \"{}\" stands twice", key), "it once");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::parse_error& error) {
    throw Error(where, fmt::format("not JSON at byte {}", error.byte), "one JSON document in UTF-8");
  } catch (const Json::exception& error) {
    throw Error(where, fmt::format("unusable JSON ({})", error.what()), "numbers within range");
  }
}

nlohmann::json read_json(const std::filesystem::path& file, const JsonLimits& limits) {
  const MappedFile mapped(file);
  return parse_json(mapped.text(), file.string(), limits);
}

}  // namespace linnet
