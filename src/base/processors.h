// How many processors this process may use.
#pragma once

#include <filesystem>

namespace linnet {

/// By its affinity, and by the quota of its control group (a container's --cpus), rounded up. At least 1.
int available_processors();

/// The quota of a control group (version 2) and of those above it up to `root`, in processors, rounded up; 0
/// where there is none. `group` is what /proc/self/cgroup says: "/user.slice/…".
int quota_of(const std::filesystem::path& root, const std::filesystem::path& group);

}  // namespace linnet
