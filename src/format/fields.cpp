#include "format/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "base/error.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

std::optional<int64_t> as_integer(const Json& value, int64_t low, int64_t high) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) return std::nullopt;
  const auto number = value.get<int64_t>();
  return number >= low && number <= high ? std::optional(number) : std::nullopt;
}

double as_number(const Json& value) { return value.is_number() ? value.get<double>() : NAN; }

std::string integer_range(int64_t low, int64_t high) {
  return fmt::format("a whole number from {} to {}", low, high);
}

}  // namespace

Fields::Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) throw Error(where_, "not a JSON object", "one object of fields");
}

const Json* Fields::find(std::string_view key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void Fields::refuse(std::string_view key, std::string_view expected) const {
  const Json* value = find(key);
  if (value == nullptr) throw Error(where_, fmt::format("no \"{}\"", key), expected);
  throw Error(where_,
              fmt::format("\"{}\" is {}", key,
                          printable(value->dump(-1, ' ', false, Json::error_handler_t::replace), 60)),
              expected);
}

std::optional<int64_t> Fields::optional_integer(std::string_view key, int64_t low, int64_t high) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = as_integer(*value, low, high);
  if (!number) refuse(key, integer_range(low, high));
  return number;
}

int64_t Fields::integer(std::string_view key, int64_t low, int64_t high) const {
  const auto number = optional_integer(key, low, high);
  if (!number) refuse(key, integer_range(low, high));
  return *number;
}

std::optional<double> Fields::optional_number(std::string_view key, double low, double high) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const double number = as_number(*value);
  if (!(number >= low && number <= high)) refuse(key, fmt::format("a number from {} to {}", low, high));
  return number;
}

std::optional<double> Fields::optional_number_above(std::string_view key, double low, double high) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const double number = as_number(*value);
  if (!(number > low && number <= high)) refuse(key, fmt::format("a number above {}, at most {}", low, high));
  return number;
}

double Fields::number_above(std::string_view key, double low, double high) const {
  const auto number = optional_number_above(key, low, high);
  if (!number) refuse(key, fmt::format("a number above {}, at most {}", low, high));
  return *number;
}

std::optional<bool> Fields::optional_boolean(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(key, "true or false");
  return value->get<bool>();
}

bool Fields::boolean(std::string_view key, bool absent) const {
  return optional_boolean(key).value_or(absent);
}

std::optional<std::string> Fields::optional_string(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(key, "a string");
  return value->get<std::string>();
}

std::string Fields::string(std::string_view key) const {
  auto text = optional_string(key);
  if (!text) refuse(key, "a string");
  return *std::move(text);
}

std::vector<int64_t> Fields::integers(std::string_view key, int64_t low, int64_t high) const {
  const Json* value = find(key);
  std::vector<int64_t> numbers;
  if (value == nullptr) return numbers;
  const auto take = [&](const Json& one) {
    const auto number = as_integer(one, low, high);
    if (!number) refuse(key, integer_range(low, high) + ", or an array of them");
    numbers.push_back(*number);
  };
  if (value->is_array()) {
    for (const Json& one : *value) take(one);
  } else {
    take(*value);
  }
  return numbers;
}

}  // namespace linnet
