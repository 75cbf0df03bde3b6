#include "base/processors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "base/remove_folder.h"

namespace linnet {
namespace {

TEST(Processors, AtLeastOneIsThere) { EXPECT_GE(available_processors(), 1); }

TEST(Processors, TheTightestQuotaOfAGroupAndThoseAboveItCounts) {
  namespace fs = std::filesystem;
  const fs::path root = fs::path(testing::TempDir()) / ("linnet-quota-" + std::to_string(::getpid()));
  const auto set = [&](const char* group, const char* text) {
    fs::create_directories(root / group);
    write_file(root / group / "cpu.max", text);
  };
  set(".", "max 100000\n");
  set("a", "350000 100000\n");
  set("a/b", "800000 100000\n");
  EXPECT_EQ(quota_of(root, "/"), 0);
  EXPECT_EQ(quota_of(root, "/elsewhere"), 0);
  EXPECT_EQ(quota_of(root, "/a"), 4);
  EXPECT_EQ(quota_of(root, "/a/b"), 4);
  set("a/b", "20000 100000\n");
  EXPECT_EQ(quota_of(root, "/a/b"), 1);
  for (const char* odd : {"", "0 100000", "-1 100000", "100000 0", "nan nan", "text"}) {
    set("a/b", odd);
    EXPECT_EQ(quota_of(root, "/a/b"), 4) << odd;
  }
  remove_folder(root);
}

}  // namespace
}  // namespace linnet
