#include "base/temporary.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/remove_folder.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

/// The process that made `name`, one of temporary_beside(); nothing where it is another name.
std::optional<pid_t> maker_of(std::string_view name, const std::string& target) {
  const std::string begin = fmt::format(".{}.", target);
  constexpr std::string_view kEnd = ".tmp";
  if (!name.starts_with(begin) || !name.ends_with(kEnd)) return std::nullopt;
  name.remove_prefix(begin.size());
  pid_t process = 0;
  int number = 0;
  const auto first = std::from_chars(name.begin(), name.end(), process);
  if (first.ec != std::errc() || process < 1 || first.ptr == name.end() || *first.ptr != '.')
    return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, name.end(), number);
  if (second.ec != std::errc() || std::string_view(second.ptr, name.end()) != kEnd) return std::nullopt;
  return process;
}

}  // namespace

fs::path temporary_beside(const fs::path& target) {
  static std::atomic<int> counter{0};
  auto name = target.filename();
  if (name.empty()) name = target.parent_path().filename();
  return target.parent_path() / fmt::format(".{}.{}.{}.tmp", name.string(), getpid(), counter++);
}

void remove_left_beside(const fs::path& target) {
  const fs::path folder = target.has_parent_path() ? target.parent_path() : ".";
  std::vector<fs::path> left;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto process = maker_of(entry->path().filename().string(), target.filename().string());
    if (process && ::kill(*process, 0) != 0 && errno == ESRCH) left.push_back(entry->path());
  }
  for (const fs::path& one : left) {
    remove_left_beside(one);
    remove_folder(one);
  }
}

}  // namespace linnet
