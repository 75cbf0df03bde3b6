// GPT-2's spelling of bytes as visible characters: printable Latin-1 stands for itself, the other 68 bytes
// are U+0100, U+0101, … in order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace linnet {

/// The character (UTF-8) of each byte.
const std::array<std::string, 256>& byte_characters();
/// The byte that a character stands for, or nothing.
std::optional<uint8_t> byte_of_character(char32_t character);
/// What each byte of `text` is spelled as.
void append_byte_characters(std::string& out, std::string_view text);

/// GPT-2's pattern, as ByteLevel pre-tokenizers use it.
inline constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace linnet
