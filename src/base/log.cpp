#include "base/log.h"

#include <fmt/format.h>

#include <cstdio>
#include <mutex>
#include <string>
#include <unordered_set>

#include "base/error.h"

namespace linnet {

namespace {

/// Whether it can be written or not: fmt::print throws where it cannot.
void say(const std::string& line) { std::fputs(line.c_str(), stderr); }

}  // namespace

void warn(std::string_view text) {
  static std::mutex mutex;
  static std::unordered_set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.emplace(text).second) say(fmt::format("linnet: warning: {}\n", printable(text, 400)));
}

void note(std::string_view text) { say(fmt::format("linnet: {}\n", printable(text, 400))); }

}  // namespace linnet
