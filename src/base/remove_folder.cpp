#include "base/remove_folder.h"

#include <ftw.h>
#include <cstdio>

namespace linnet {

void remove_folder(const std::filesystem::path& path) noexcept {
  constexpr int kOpenFolders = 16;
  ::nftw(
      path.c_str(),
      [](const char* entry, const struct stat*, int, struct FTW*) { return std::remove(entry), 0; },
      kOpenFolders, FTW_DEPTH | FTW_PHYS);
}

}  // namespace linnet
