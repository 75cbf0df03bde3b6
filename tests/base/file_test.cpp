#include "base/file.h"
#include "base/remove_folder.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

struct Folder {
  fs::path path = fs::path(testing::TempDir()) / ("linnet-file-" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() { remove_folder(path); }
  size_t entries() const { return static_cast<size_t>(std::distance(fs::directory_iterator(path), {})); }
};

TEST(MappedFile, RefusesAGitLfsPointerByName) {
  Folder folder;
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') + "\nsize 1044992\n";
  write_file(folder.path / "model.safetensors", pointer);
  try {
    const MappedFile mapped(folder.path / "model.safetensors");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what())
                  .find("model.safetensors: a Git LFS pointer, not the file, expected "
                        "the file itself: git lfs pull"),
              std::string::npos);
  }
  // A text about pointers is none.
  write_file(folder.path / "about.txt", pointer + std::string(1024, '.'));
  EXPECT_EQ(MappedFile(folder.path / "about.txt").bytes().size(), pointer.size() + 1024);
}

TEST(AtomicFile, LeavesTheOldFileUntilItIsCommitted) {
  Folder folder;
  write_file(folder.path / "a", "old");
  {
    AtomicFile file(folder.path / "a");
    file.write("new");
  }
  EXPECT_EQ(MappedFile(folder.path / "a").text(), "old");
  EXPECT_EQ(folder.entries(), 1u);
  write_file(folder.path / "a", "new");
  EXPECT_EQ(MappedFile(folder.path / "a").text(), "new");
}

TEST(AtomicFile, SaysWhereOnAFullDisk) {
  AtomicFile* file = nullptr;
  EXPECT_THROW(file = new AtomicFile("/nonexistent/a"), Error);
  delete file;
}

TEST(AtomicFolder, AppearsWholeAndRefusesToReplaceUnasked) {
  Folder folder;
  {
    AtomicFolder out(folder.path / "model", false);
    write_file(out.path() / "a", "x");
  }
  EXPECT_EQ(folder.entries(), 0u);
  {
    AtomicFolder out(folder.path / "model", false);
    write_file(out.path() / "a", "x");
    out.commit();
  }
  EXPECT_EQ(MappedFile(folder.path / "model" / "a").text(), "x");
  EXPECT_THROW(AtomicFolder(folder.path / "model", false), Error);
  AtomicFolder again(folder.path / "model", true);
  again.commit();
  EXPECT_FALSE(fs::exists(folder.path / "model" / "a"));
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFolder, ClearsWhatAKilledProcessLeftOfItsTarget) {
  Folder folder;
  const fs::path target = folder.path / "model";
  const pid_t child = ::fork();
  if (child == 0) {
    const AtomicFolder out(target, false), inside(out.path(), false);
    write_file(inside.path() / "a", "x");
    ::raise(SIGKILL);
  }
  ASSERT_GT(child, 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  const AtomicFolder alive(target, false), other(folder.path / "model.2", false);
  EXPECT_EQ(folder.entries(), 2u);  // these two
  write_file(folder.path / fmt::format(".model.{}.0.tmp.txt", child), "");
  write_file(folder.path / fmt::format(".model.x.{}.0.tmp", child), "");
  {
    AtomicFolder out(target, false);
    out.commit();
  }
  EXPECT_EQ(folder.entries(), 5u);  // and files of other names, and what was written
}

TEST(MappedFile, RefusesWhatIsNoRegularFile) {
  Folder folder;
  ASSERT_EQ(::mkfifo((folder.path / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(MappedFile(folder.path / "pipe"), Error);  // at once, though nothing writes into it
  EXPECT_THROW(MappedFile("/dev/null"), Error);
  EXPECT_THROW(MappedFile("/nonexistent"), Error);
}

}  // namespace
}  // namespace linnet
