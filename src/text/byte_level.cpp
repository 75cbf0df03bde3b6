#include "text/byte_level.h"

#include "text/utf8.h"

namespace linnet {
namespace {

bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr size_t kCharacters = 0x100 + 68;

/// By character: the byte, or −1.
std::array<int16_t, kCharacters> byte_table() {
  std::array<int16_t, kCharacters> bytes;
  bytes.fill(-1);
  size_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    bytes[stands_for_itself(byte) ? static_cast<size_t>(byte) : next++] = static_cast<int16_t>(byte);
  }
  return bytes;
}

}  // namespace

std::optional<uint8_t> byte_of_character(char32_t character) {
  static const std::array<int16_t, kCharacters> kBytes = byte_table();
  if (character >= kCharacters || kBytes[character] < 0) return std::nullopt;
  return static_cast<uint8_t>(kBytes[character]);
}

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> kSpelled = [] {
    std::array<std::string, 256> spelled;
    for (char32_t character = 0; character < kCharacters; ++character) {
      if (const auto byte = byte_of_character(character)) append_utf8(spelled[*byte], character);
    }
    return spelled;
  }();
  return kSpelled;
}

void append_byte_characters(std::string& out, std::string_view text) {
  const auto& characters = byte_characters();
  for (const char c : text) out += characters[static_cast<uint8_t>(c)];
}

}  // namespace linnet
