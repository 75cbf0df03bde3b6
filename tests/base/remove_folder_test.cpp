#include "base/remove_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace linnet {
namespace {

TEST(RemoveFolder, TakesTheTreeAndLeavesWhatLinksPointTo) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(testing::TempDir()) / ("linnet-remove-" + std::to_string(::getpid()));
  fs::create_directories(root / "tree" / "a" / "b");
  std::ofstream(root / "kept") << "x";
  std::ofstream(root / "tree" / "a" / "file") << "x";
  fs::create_symlink(root / "kept", root / "tree" / "a" / "b" / "link");
  remove_folder(root / "tree");
  EXPECT_FALSE(fs::exists(root / "tree"));
  EXPECT_TRUE(fs::exists(root / "kept"));
  remove_folder(root / "nothing here");
  remove_folder(root);
  EXPECT_FALSE(fs::exists(root));
}

}  // namespace
}  // namespace linnet
