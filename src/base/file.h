// Files mapped for reading; files and folders written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace linnet {

/// What tells a file from another, and from itself before it was written to.
struct FileIdentity {
  uint64_t device = 0, inode = 0, size = 0;
  int64_t modified = 0;  // ns since 1970
};

/// A whole file, mapped read-only. Should the file shrink while it is mapped, touching the missing pages ends
/// the process with one error line and status 2 (install_truncation_handler).
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws Error if it cannot be opened, is no regular file, or is a Git LFS pointer.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }
  /// As it was when it was opened.
  const FileIdentity& identity() const { return identity_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
  FileIdentity identity_;
};

/// Asks the disk for bytes of a mapped file that will be read soon.
void read_ahead(std::span<const std::byte> bytes);

/// Whether this is the text that git leaves in a file's place where Git LFS has not fetched it.
bool is_lfs_pointer(std::string_view text);

/// All of a file, or of standard input where `path` is "-"; of a pipe, until its writers are gone. For what
/// is no regular file, or small. Throws Error if it cannot be read, is larger than 1 GiB, or
/// upon Ctrl-C; and the second time that standard input is asked for.
std::string read_whole(const std::string& path);

/// Makes SIGBUS (a mapped file was truncated) one error line and exit status 2. Called once, by main.
void install_truncation_handler();

/// Where standard input, output or error is closed, opens something in its place that fails at every read and
/// write: else the next file opened would take its number. Called once, by main.
void open_standard_files();

/// The folder under the name that it was given, a link's too, without a slash at its end; where that is . or
/// .., under its real name.
std::filesystem::path named_folder(const std::filesystem::path& folder);

/// Throws Error unless the folder `target`, which may not be there yet, can be made or written into.
void check_writable(const std::filesystem::path& target);
/// Throws Error unless the file `target` can be written: a new one in a folder that is there, or over a
/// regular file.
void check_writable_file(const std::filesystem::path& target);

/// A file that appears only when it is complete: written to a temporary name beside the target, flushed to
/// disk, renamed by commit(). Destroyed before commit(), it leaves whatever was there.
class AtomicFile {
 public:
  /// Throws Error if the folder does not exist or cannot be written.
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Throws Error on a full disk or another failure.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
};

void write_file(const std::filesystem::path& target, std::string_view text);

/// A new folder that appears only when it is complete: filled under a temporary name beside the target,
/// renamed by commit(). An existing target is replaced only by commit(), and only where `replace` was said.
/// What processes that were killed left under such names goes when the next one fills the same target.
class AtomicFolder {
 public:
  /// Throws Error if the target exists (and is not empty) and `replace` is false.
  AtomicFolder(std::filesystem::path target, bool replace);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& path() const { return temporary_; }  // fill this
  const std::filesystem::path& target() const { return target_; }
  void commit();

 private:
  std::filesystem::path target_, temporary_;
};

}  // namespace linnet
