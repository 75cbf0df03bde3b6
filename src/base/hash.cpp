#include "base/hash.h"

#include <fmt/format.h>

#include <cstring>

// The header-only form: a state of known size, no library to link.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace linnet {

struct Hash::State {
  XXH3_state_t xxh;  // aligned to 64 bytes, which C++17's new heeds
};

Hash::Hash() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->xxh); }
Hash::~Hash() = default;

void Hash::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size());
}

void Hash::add(std::string_view text) {
  add(std::as_bytes(std::span(text)));
  add(std::as_bytes(std::span("", 1)));
}

std::string Hash::text() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  return fmt::format("xxh3-128:{:016x}{:016x}", hash.high64, hash.low64);
}

std::array<std::byte, 16> Hash::bytes() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state_->xxh));
  std::array<std::byte, 16> bytes;
  std::memcpy(bytes.data(), canonical.digest, bytes.size());
  return bytes;
}

std::string hash_of(std::span<const std::byte> bytes) {
  Hash hash;
  hash.add(bytes);
  return hash.text();
}

uint64_t checksum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace linnet
