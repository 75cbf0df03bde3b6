#include "generate/text_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "base/hash.h"

namespace linnet {
namespace {

constexpr std::string_view kMagic = "linnet text";
constexpr uint32_t kVersion = 1;
constexpr size_t kSum = sizeof(uint64_t), kHeader = kMagic.size() + sizeof(uint32_t) + sizeof(uint64_t);

template <class Number>
void put(std::span<const Number> numbers, std::vector<std::byte>& out) {
  if (numbers.empty()) return;
  const size_t at = out.size();
  out.resize(at + numbers.size_bytes());
  std::memcpy(out.data() + at, numbers.data(), numbers.size_bytes());
}

template <class Number>
Number number_at(std::span<const std::byte> bytes, size_t at) {
  Number number;
  std::memcpy(&number, bytes.data() + at, sizeof(number));
  return number;
}

/// The tokens and the state, of bytes that are whole.
struct Parts {
  std::vector<int32_t> tokens;
  std::span<const std::byte> state;
};

Parts parts_of(std::span<const std::byte> bytes, const std::string& where) {
  const auto magic = std::as_bytes(std::span(kMagic));
  if (bytes.size() < magic.size() || !std::equal(magic.begin(), magic.end(), bytes.begin()))
    throw Error(where, "is no saved text", "a file of --save-state");
  if (bytes.size() < kHeader + kSum) throw Error(where, "ends too early", "a whole file of --save-state");
  if (const auto version = number_at<uint32_t>(bytes, kMagic.size()); version != kVersion)
    throw Error(where, fmt::format("version {}", version), fmt::format("version {}", kVersion));
  const auto body = bytes.first(bytes.size() - kSum);
  const auto count = number_at<uint64_t>(bytes, kHeader - sizeof(uint64_t));
  if (number_at<uint64_t>(bytes, body.size()) != checksum(body))
    throw Error(where, "checksum differs: bytes are missing or changed", "a file as --save-state wrote it");
  if (count > (body.size() - kHeader) / sizeof(int32_t))
    throw Error(where, fmt::format("{} tokens in {} bytes", count, bytes.size()), "a whole file");
  Parts parts;
  parts.tokens.resize(count);
  std::copy_n(bytes.data() + kHeader, count * sizeof(int32_t),
              reinterpret_cast<std::byte*>(parts.tokens.data()));
  parts.state = body.subspan(kHeader + count * sizeof(int32_t));
  return parts;
}

}  // namespace

std::vector<std::byte> write_text_state(const Decoder& decoder, int slot, std::span<const int32_t> tokens) {
  std::vector<std::byte> bytes;
  const uint64_t count = tokens.size();
  put(std::span(kMagic), bytes);
  put(std::span(&kVersion, 1), bytes);
  put(std::span(&count, 1), bytes);
  put(tokens, bytes);
  put(std::span<const std::byte>(decoder.save(slot)), bytes);
  const uint64_t sum = checksum(bytes);
  put(std::span(&sum, 1), bytes);
  return bytes;
}

std::vector<int32_t> read_text_state(std::span<const std::byte> bytes, const std::string& where,
                                     Decoder& decoder, int slot) {
  Parts parts = parts_of(bytes, where);
  const int64_t vocabulary = decoder.vocabulary();
  for (const int32_t token : parts.tokens) {
    if (token < 0 || token >= vocabulary)
      throw Error(where, fmt::format("token {}", token), fmt::format("ids from 0 to {}", vocabulary - 1));
  }
  const auto before = decoder.save(slot);
  try {
    decoder.load(slot, parts.state);
  } catch (const Error& error) {
    throw Error(where, error.what());
  }
  if (const int64_t length = decoder.length(slot); length > std::ssize(parts.tokens)) {
    decoder.load(slot, before);
    throw Error(where, fmt::format("a state of {} tokens", length),
                fmt::format("at most the text's {}", parts.tokens.size()));
  }
  return parts.tokens;
}

}  // namespace linnet
