#include "base/processors.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>

namespace linnet {
namespace {

namespace fs = std::filesystem;

/// "QUOTA PERIOD" in microseconds, or "max PERIOD".
int quota_in(const fs::path& file) {
  std::ifstream in(file);
  double quota = 0, period = 0;
  if (!(in >> quota >> period) || !(quota > 0) || !(period > 0)) return 0;
  return static_cast<int>(std::clamp(std::ceil(quota / period), 1.0, 1e6));
}

fs::path own_group() {
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("0::/")) return line.substr(3);
  return "/";
}

}  // namespace

int quota_of(const fs::path& root, const fs::path& group) {
  int least = 0;
  fs::path folder = root;
  const auto look = [&] {
    const int quota = quota_in(folder / "cpu.max");
    if (quota > 0) least = least == 0 ? quota : std::min(least, quota);
  };
  look();
  for (const fs::path& part : group.relative_path()) {
    folder /= part;
    look();
  }
  return least;
}

int available_processors() {
  cpu_set_t set;
  int count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (sched_getaffinity(0, sizeof(set), &set) == 0) count = std::max(1, CPU_COUNT(&set));
  const int quota = quota_of("/sys/fs/cgroup", own_group());
  return quota > 0 ? std::min(count, quota) : count;
}

}  // namespace linnet
