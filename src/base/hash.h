// XXH3 with seed 0: tells files, weights and runs apart. Not cryptographic.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace linnet {

/// XXH3-128 of bytes that come piece by piece.
class Hash {
 public:
  Hash();
  ~Hash();
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;

  void add(std::span<const std::byte> bytes);
  /// The text and a NUL that ends it, so that "ab", "c" is not "a", "bc".
  void add(std::string_view text);

  /// "xxh3-128:" and 32 hexadecimal digits, high half first, as `xxh128sum` prints them.
  std::string text() const;
  /// The same 16 bytes, high half first.
  std::array<std::byte, 16> bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Hash of these bytes alone, as text.
std::string hash_of(std::span<const std::byte> bytes);

/// XXH3-64.
uint64_t checksum(std::span<const std::byte> bytes);

}  // namespace linnet
