// A value inside a JSON file together with the words for where it stands, so that every error names its
// place.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace linnet {

class JsonView {
 public:
  JsonView(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& where() const { return where_; }
  bool is_null() const { return value_->is_null(); }

  /// Member `key`; a view of null where it is absent. Throws Error if this is no object.
  JsonView operator[](const char* key) const;
  /// Member `key`, which must be there.
  JsonView at(const char* key) const;
  /// Element `index` of an array of size().
  JsonView at(size_t index) const;
  size_t size() const;  // of an array; throws Error if this is none

  /// The value as a type; with a default, null takes it.
  std::string string() const;
  std::string string(std::string_view otherwise) const;
  bool boolean(bool otherwise) const;
  int64_t integer() const;
  double number() const;

  /// Throws Error at this place.
  [[noreturn]] void fail(std::string_view what, std::string_view expected) const;

 private:
  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace linnet
