#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/remove_folder.h"
#include "base/temporary.h"

namespace linnet {
namespace {

[[noreturn]] void fail_to_read(const std::filesystem::path& where, std::string_view doing, int error) {
  throw Error(where.string(), fmt::format("cannot {} ({})", doing, std::strerror(error)), "a readable file");
}

[[noreturn]] void fail_to_write(const std::filesystem::path& where, int error) {
  throw Error(where.string(), fmt::format("cannot write ({})", std::strerror(error)),
              "room in a folder that may be written");
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

std::filesystem::path without_trailing_slash(std::filesystem::path path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  // Without O_NONBLOCK opening a pipe that stands in a folder would wait for a writer.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail_to_read(path, "open", errno);
  struct stat status;
  const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) {
    ::close(descriptor);
    throw Error(path.string(), "not a regular file", "a readable file");
  }
  size_ = static_cast<size_t>(status.st_size);
  identity_ = {status.st_dev, status.st_ino, size_,
               int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
  if (size_ > 0) {
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data_ == MAP_FAILED) {
      const int error = errno;
      data_ = nullptr;
      ::close(descriptor);
      fail_to_read(path, "map", error);
    }
  }
  ::close(descriptor);
  if (is_lfs_pointer(text())) {
    ::munmap(std::exchange(data_, nullptr), size_);
    throw Error(path.string(), "a Git LFS pointer, not the file", "the file itself: git lfs pull");
  }
}

void read_ahead(std::span<const std::byte> bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size();
  if (!bytes.empty()) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

bool is_lfs_pointer(std::string_view text) {
  constexpr size_t kMost = 1024;  // bytes, by the specification
  return text.size() < kMost && text.starts_with("version https://git-lfs.github.com/spec/v") &&
         text.find("\noid ") != text.npos && text.find("\nsize ") != text.npos;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      identity_(other.identity_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(identity_, other.identity_);
  return *this;
}

std::string read_whole(const std::string& path) {
  constexpr size_t kMost = size_t{1} << 30;
  constexpr int kLook = 100;  // ms: a signal that comes just before poll does not end it
  const bool standard = path == "-";
  const std::string where = standard ? "standard input" : path;
  static std::atomic<bool> taken = false;
  if (standard && taken.exchange(true)) throw Error(where, "named twice", "it once");
  // Not blocking: waiting is poll's, which Ctrl-C ends.
  const int descriptor = standard ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) fail_to_read(where, "read", errno);
  const std::unique_ptr<const int, void (*)(const int*)> closer(&descriptor, [](const int* opened) {
    if (*opened != STDIN_FILENO) ::close(*opened);
  });
  std::string text, buffer(1 << 16, '\0');
  while (true) {
    pollfd wait = {descriptor, POLLIN, 0};
    if (::poll(&wait, 1, kLook) < 0 && errno != EINTR) fail_to_read(where, "read", errno);
    stop_if_interrupted();
    if (wait.revents == 0) continue;
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    if (count == 0) return text;
    if (count < 0 && errno != EINTR && errno != EAGAIN) fail_to_read(where, "read", errno);
    if (count > 0) text.append(buffer, 0, static_cast<size_t>(count));
    if (text.size() > kMost) throw Error(where, "more than 1 GiB", "a smaller text");
  }
}

void install_truncation_handler() {
  struct sigaction action = {};
  action.sa_handler = [](int) {
    static const char kMessage[] =
        "linnet: error: input: a mapped file became shorter while it was read, expected it to stay as it "
        "was\n";
    [[maybe_unused]] auto written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
    ::_exit(2);
  };
  ::sigaction(SIGBUS, &action, nullptr);
}

std::filesystem::path named_folder(const std::filesystem::path& folder) {
  std::error_code error;
  const std::filesystem::path named = folder.has_filename() ? folder : folder.parent_path();
  const bool is_dots = named.filename() == "." || named.filename() == "..";
  return is_dots ? std::filesystem::canonical(named, error) : named;
}

void check_writable(const std::filesystem::path& target) {
  std::error_code error;
  std::filesystem::path place = std::filesystem::absolute(target, error);
  while (place.has_relative_path() && !std::filesystem::exists(place, error)) place = place.parent_path();
  const bool folder = std::filesystem::is_directory(place, error);
  if (folder && ::access(place.c_str(), W_OK | X_OK) == 0) return;
  throw Error(target.string(), fmt::format("cannot write ({})", std::strerror(folder ? errno : ENOTDIR)),
              "a place in a folder that may be written");
}

void check_writable_file(const std::filesystem::path& target) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(target, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw Error(target.string(), "not a regular file", "a file that may be written");
  const std::filesystem::path folder = target.parent_path();
  if (::access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) != 0)
    throw Error(target.string(), fmt::format("cannot be written ({})", std::strerror(errno)),
                "a file in a folder that exists and may be written");
}

void open_standard_files() {
  for (int wanted = STDIN_FILENO; wanted <= STDERR_FILENO; ++wanted) {
    if (::fcntl(wanted, F_GETFD) != -1) continue;
    // The lowest number free is the one wanted.
    [[maybe_unused]] const int got = ::open("/dev/null", wanted == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

AtomicFile::AtomicFile(std::filesystem::path target)
    : target_(std::move(target)), temporary_(temporary_beside(target_)) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_to_write(target_, errno);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_to_write(target_, errno);
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail_to_write(target_, errno);
  if (::close(std::exchange(descriptor_, -1)) != 0 || ::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail_to_write(target_, error);
  }
  sync_folder(target_.parent_path());
}

void write_file(const std::filesystem::path& target, std::string_view text) {
  AtomicFile file(target);
  file.write(text);
  file.commit();
}

AtomicFolder::AtomicFolder(std::filesystem::path target, bool replace)
    : target_(without_trailing_slash(std::move(target))), temporary_(temporary_beside(target_)) {
  std::error_code error;
  const bool exists = std::filesystem::exists(std::filesystem::symlink_status(target_, error));
  const bool empty =
      exists && std::filesystem::is_directory(target_, error) && std::filesystem::is_empty(target_, error);
  if (exists && !empty && !replace) throw Error(target_.string(), "already exists", "a new folder's name");
  remove_left_beside(target_);
  if (!std::filesystem::create_directory(temporary_, error)) fail_to_write(target_, error.value());
}

AtomicFolder::~AtomicFolder() {
  if (!temporary_.empty()) remove_folder(temporary_);
}

void AtomicFolder::commit() {
  sync_folder(temporary_);
  std::error_code error;
  std::filesystem::path old;
  const auto status = std::filesystem::symlink_status(target_, error);
  const bool empty = std::filesystem::is_directory(status) && std::filesystem::is_empty(target_, error);
  if (std::filesystem::exists(status) && !empty) {  // an empty folder gives way to another
    old = temporary_beside(target_);
    old.replace_extension(".old");  // killed between the two, it is the only one of what stood there
    std::filesystem::rename(target_, old, error);
    if (error) fail_to_write(target_, error.value());
  }
  std::filesystem::rename(temporary_, target_, error);
  if (error) {
    std::error_code ignored;
    if (!old.empty()) std::filesystem::rename(old, target_, ignored);
    fail_to_write(target_, error.value());
  }
  temporary_.clear();
  sync_folder(target_.parent_path());
  if (!old.empty()) remove_folder(old);
}

}  // namespace linnet
