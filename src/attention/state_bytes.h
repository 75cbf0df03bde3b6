// How a state becomes bytes and is believed again: a signature of whole numbers that must agree, then the
// numbers themselves. The file around them (sizes, check sum, model) is the decoder's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace linnet {

/// What must be the same for a state to fit: the row of the registry (and what its heads keep, where that is
/// no number of all), and numbers, each with its name for the
/// error.
struct Signature {
  std::string method;
  std::vector<std::pair<std::string_view, int64_t>> numbers;
};

template <class T>
void append_numbers(std::vector<std::byte>& out, const T* numbers, int64_t count) {
  const auto* bytes = reinterpret_cast<const std::byte*>(numbers);
  out.insert(out.end(), bytes, bytes + static_cast<size_t>(count) * sizeof(T));
}

/// Signature, then the committed length.
void append_signature(std::vector<std::byte>& out, const Signature& signature, int64_t length);

/// Checks the signature and returns the length. Throws Error that names what differs.
int64_t read_signature(std::span<const std::byte>& in, const Signature& expected);

/// Throws Error if fewer than `bytes` are left.
void require_bytes(std::span<const std::byte> in, size_t bytes);

/// Takes `count` numbers off the front. Throws Error and writes none of them if there are fewer.
void read_bytes(std::span<const std::byte>& in, void* to, size_t bytes);

template <class T>
void read_numbers(std::span<const std::byte>& in, T* numbers, int64_t count) {
  read_bytes(in, numbers, static_cast<size_t>(count) * sizeof(T));
}

}  // namespace linnet
