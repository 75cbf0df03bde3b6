// The bytes of a text file, unpacked where it is packed: .xz, .gz or .zst.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"

namespace linnet {

/// What unpacks a kind of archive, of one member or several end to end.
class Unpacker {
 public:
  virtual ~Unpacker() = default;
  /// Unpacks into `out` until it is full or the archive ends; returns the bytes. Throws Error on an archive
  /// that is damaged, cut short, or needs more than 1 GiB to unpack.
  virtual size_t fill(std::span<char> out) = 0;
};

/// Whether the ending of the file's name says that it is packed.
bool is_packed(const std::filesystem::path& file);

class TextBytes {
 public:
  /// "-" is standard input, which can be read once, at most 1 GiB of it; whether it is packed its first bytes
  /// say. Throws Error.
  explicit TextBytes(const std::filesystem::path& file);

  bool packed() const { return unpacker_ != nullptr; }

  /// The next part, valid until the next call; empty at the end. A UTF-8 byte-order mark at the beginning is
  /// skipped. Throws Error as Unpacker, or upon Ctrl-C.
  std::string_view next();

 private:
  std::string_view next_part();

  MappedFile mapped_;
  std::string standard_input_;
  std::string_view bytes_;  // of the file, packed or not
  size_t at_ = 0;
  bool begun_ = false;
  std::unique_ptr<Unpacker> unpacker_;  // null: plain
  std::string buffer_;
};

}  // namespace linnet
