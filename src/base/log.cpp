#include "base/log.h"

#include <fmt/format.h>

#include <cstdio>
#include <mutex>
#include <string>
#include <unordered_set>

#include "base/error.h"

namespace linnet {

void warn(std::string_view text) {
  static std::mutex mutex;
  static std::unordered_set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.emplace(text).second) fmt::print(stderr, "linnet: warning: {}\n", printable(text, 400));
}

void note(std::string_view text) { fmt::print(stderr, "linnet: {}\n", printable(text, 400)); }

}  // namespace linnet
