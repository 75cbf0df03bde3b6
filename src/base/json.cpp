#include "base/json.h"

#include <fmt/format.h>

#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace linnet {

namespace {

using Json = nlohmann::json;

/// The first key that stands twice in an object of `text`, which is JSON.
std::string repeated_key(std::string_view text) {
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  std::string repeated;
  const auto look = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      if (repeated.empty()) repeated = parsed.get<std::string>();
    }
    return true;
  };
  [[maybe_unused]] const Json json = Json::parse(text.begin(), text.end(), look);
  return repeated;
}

/// The number in the parser's words "number overflow parsing '1e999'".
std::string quoted(std::string_view words) {
  const size_t begin = words.find('\'') + 1, end = words.rfind('\'');
  return begin > 0 && end > begin ? printable(words.substr(begin, end - begin), 40) : "a number";
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  if (text.empty()) throw Error(where, "empty file", "a JSON document");
  if (text.size() > limits.bytes) {
    throw Error(where, fmt::format("JSON of {} bytes", text.size()), fmt::format("at most {}", limits.bytes));
  }
  if (text.substr(0, 3) == "\xEF\xBB\xBF") throw Error(where, "begins with a byte-order mark", "plain UTF-8");
  // The parser takes NUL for the end of its input, whatever comes behind it.
  if (const size_t nul = text.find('\0'); nul != text.npos)
    throw Error(where, fmt::format("not JSON at byte {}: NUL", nul + 1), "one JSON document in UTF-8");
  // An object with fewer members than keys has one twice. Counting is quick where a set of a tokenizer's
  // hundred thousand keys is not; the key is looked for only when it is known to be there.
  std::vector<size_t> keys;  // of the objects that are open
  bool repeated = false;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      if (depth >= limits.depth) {
        throw Error(where, "JSON nested too deeply", fmt::format("at most {} levels", limits.depth));
      }
    }
    if (event == Json::parse_event_t::object_start) keys.push_back(0);
    if (event == Json::parse_event_t::key && !keys.empty()) ++keys.back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) {
      repeated = repeated || parsed.size() != keys.back();
      keys.pop_back();
    }
    return true;
  };
  try {
    Json json = Json::parse(text.begin(), text.end(), check);
    if (repeated) throw Error(where, fmt::format("key \"{}\" stands twice", repeated_key(text)), "it once");
    return json;
  } catch (const Json::parse_error& error) {
    throw Error(where, fmt::format("not JSON at byte {}", error.byte), "one JSON document in UTF-8");
  } catch (const Json::out_of_range& error) {
    throw Error(where, fmt::format("{}, past what a number may be", quoted(error.what())), "at most 1.8e308");
  }
}

nlohmann::json read_json(const std::filesystem::path& file, const JsonLimits& limits) {
  const MappedFile mapped(file);
  return parse_json(mapped.text(), file.string(), limits);
}

}  // namespace linnet
