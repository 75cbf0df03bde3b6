#include "attention/state_bytes.h"

#include <fmt/format.h>

#include <string>

#include "base/error.h"

namespace linnet {
namespace {

constexpr int64_t kFormat = 0x6c6e7301;
constexpr int64_t kLongest = int64_t{1} << 48;
constexpr int64_t kLongestName = int64_t{1} << 20;

[[noreturn]] void differs(std::string_view what, const auto& found, const auto& expected) {
  throw Error("state", fmt::format("{} {}", what, found), fmt::format("{} {}", what, expected));
}

void expect_number(std::span<const std::byte>& in, std::string_view name, int64_t expected) {
  int64_t found = 0;
  read_numbers(in, &found, 1);
  if (found != expected) differs(name, found, expected);
}

}  // namespace

void append_signature(std::vector<std::byte>& out, const Signature& signature, int64_t length) {
  const auto size = static_cast<int64_t>(signature.method.size());
  append_numbers(out, &kFormat, 1);
  append_numbers(out, &size, 1);
  append_numbers(out, signature.method.data(), size);
  for (const auto& [name, value] : signature.numbers) append_numbers(out, &value, 1);
  append_numbers(out, &length, 1);
}

int64_t read_signature(std::span<const std::byte>& in, const Signature& expected) {
  expect_number(in, "format", kFormat);
  int64_t size = 0, length = 0;
  read_numbers(in, &size, 1);
  if (size < 0 || size > kLongestName)
    throw Error("state", fmt::format("a method's name of {} bytes", size),
                fmt::format("at most {}", kLongestName));
  std::string method(size, '\0');
  read_numbers(in, method.data(), size);
  if (method != expected.method) differs("of method", printable(method), expected.method);
  for (const auto& [name, value] : expected.numbers) expect_number(in, name, value);
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
