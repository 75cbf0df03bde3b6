#include "cli/output.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "cli/options.h"

namespace linnet::cli {

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error("standard output", fmt::format("cannot write ({})", std::strerror(errno)), "room to write",
                errno == EPIPE ? ExitStatus::kNoReader : ExitStatus::kBadInput);
  }
}

nlohmann::ordered_json json_of(const Mean& mean) {
  return {{"mean", mean.mean}, {"standard_error", mean.error}};
}

JsonResult::JsonResult(const SharedOptions& options) : file_(options.json) {
  if (!file_.empty()) check_writable_file(file_);
}

void JsonResult::write(const nlohmann::ordered_json& result) const {
  if (file_.empty()) return;
  write_file(file_, result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace linnet::cli
