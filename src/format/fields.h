// Typed, bounded reading of the keys of one JSON object; every error names the file and the key.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

/// A key that is null counts as absent. The object must outlive the reader.
class Fields {
 public:
  /// Throws Error if `object` is not a JSON object.
  Fields(const nlohmann::json& object, std::string where);

  const std::string& where() const { return where_; }
  /// nullptr if absent or null.
  const nlohmann::json* find(std::string_view key) const;

  // Each throws Error on a value of another type, outside [low, high], or not finite. Those without
  // `optional` throw if the key is absent too.
  int64_t integer(std::string_view key, int64_t low, int64_t high) const;
  std::optional<int64_t> optional_integer(std::string_view key, int64_t low, int64_t high) const;
  /// Exclusive of `low`: what must be positive has low 0.
  double number_above(std::string_view key, double low, double high) const;
  std::optional<double> optional_number_above(std::string_view key, double low, double high) const;
  std::optional<double> optional_number(std::string_view key, double low, double high) const;
  bool boolean(std::string_view key, bool absent) const;
  std::optional<bool> optional_boolean(std::string_view key) const;
  std::string string(std::string_view key) const;
  std::optional<std::string> optional_string(std::string_view key) const;
  /// One integer or an array of them; empty if absent.
  std::vector<int64_t> integers(std::string_view key, int64_t low, int64_t high) const;

  /// Throws: `WHERE: "KEY" is VALUE, expected EXPECTED`.
  [[noreturn]] void refuse(std::string_view key, std::string_view expected) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace linnet
