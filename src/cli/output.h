// Where a command's results go: standard output, and the file of --json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/statistics.h"

namespace linnet::cli {

struct SharedOptions;

/// Writes to standard output now; throws Error if that fails: a full disk, or nobody who reads (kNoReader).
void print(std::string_view text);

/// {"mean": …, "standard_error": …}.
nlohmann::ordered_json json_of(const Mean& mean);

/// The result file of --json: checked for a writable place when made, so that no work is lost; written whole
/// by write(), or not at all. Does nothing where --json is absent.
class JsonResult {
 public:
  explicit JsonResult(const SharedOptions& options);
  void write(const nlohmann::ordered_json& result) const;

 private:
  std::string file_;
};

}  // namespace linnet::cli
