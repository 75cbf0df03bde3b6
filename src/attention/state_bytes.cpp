#include "attention/state_bytes.h"

#include <fmt/format.h>

#include "base/error.h"

namespace linnet {
namespace {

constexpr int64_t kLongest = int64_t{1} << 48;

}  // namespace

void append_signature(std::vector<std::byte>& out, const Signature& signature, int64_t length) {
  for (const auto& [name, value] : signature) append_numbers(out, &value, 1);
  append_numbers(out, &length, 1);
}

int64_t read_signature(std::span<const std::byte>& in, const Signature& expected) {
  for (const auto& [name, value] : expected) {
    int64_t found = 0;
    read_numbers(in, &found, 1);
    if (found != value) {
      throw Error("state", fmt::format("{} {}", name, found), fmt::format("{} {}", name, value));
    }
  }
  int64_t length = 0;
  read_numbers(in, &length, 1);
  if (length < 0 || length > kLongest) throw Error("state", fmt::format("{} tokens", length), "a length");
  return length;
}

void require_bytes(std::span<const std::byte> in, size_t bytes) {
  if (in.size() < bytes) {
    throw Error("state", fmt::format("{} bytes left", in.size()), fmt::format("{} more", bytes));
  }
}

void read_bytes(std::span<const std::byte>& in, void* to, size_t bytes) {
  require_bytes(in, bytes);
  if (bytes > 0) std::memcpy(to, in.data(), bytes);
  in = in.subspan(bytes);
}

}  // namespace linnet
