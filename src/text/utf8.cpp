#include "text/utf8.h"

#include <cstdint>
#include <cstring>

namespace linnet {
namespace {

/// What a lead byte promises: how many bytes follow, and the range of the first of them.
struct Lead {
  int follow;  // −1: no lead byte
  uint8_t low, high;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {0, 0, 0};
  if (byte < 0xC2 || byte > 0xF4) return {-1, 0, 0};
  if (byte < 0xE0) return {1, 0x80, 0xBF};
  if (byte < 0xF0) return {2, uint8_t(byte == 0xE0 ? 0xA0 : 0x80), uint8_t(byte == 0xED ? 0x9F : 0xBF)};
  return {3, uint8_t(byte == 0xF0 ? 0x90 : 0x80), uint8_t(byte == 0xF4 ? 0x8F : 0xBF)};
}

bool is_ascii_block(const char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return (word & 0x8080808080808080u) == 0;
}

}  // namespace

char32_t next_code_point(std::string_view text, size_t& position) {
  const auto first = static_cast<uint8_t>(text[position++]);
  if (first < 0x80) return first;
  const Lead lead = lead_of(first);
  if (lead.follow < 0) return kReplacementCharacter;
  char32_t code_point = first & (0x3F >> lead.follow);
  uint8_t low = lead.low, high = lead.high;
  for (int i = 0; i < lead.follow; ++i) {
    if (position == text.size()) return kReplacementCharacter;
    const auto byte = static_cast<uint8_t>(text[position]);
    if (byte < low || byte > high) return kReplacementCharacter;
    code_point = code_point << 6 | (byte & 0x3F);
    ++position;
    low = 0x80, high = 0xBF;
  }
  return code_point;
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    out += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
            static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  }
}

bool is_valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (at + 8 <= text.size() && is_ascii_block(text.data() + at)) {
      at += 8;
      continue;
    }
    const size_t begin = at;
    // U+FFFD itself is three bytes long and stands in the text; a replaced part need not be.
    if (next_code_point(text, at) == kReplacementCharacter &&
        text.substr(begin, at - begin) != "\xEF\xBF\xBD")
      return false;
  }
  return true;
}

std::string valid_utf8(std::string_view text) {
  if (is_valid_utf8(text)) return std::string(text);
  std::string valid;
  valid.reserve(text.size() + 16);
  for (size_t at = 0; at < text.size();) append_utf8(valid, next_code_point(text, at));
  return valid;
}

size_t unfinished_bytes(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const Lead lead = lead_of(static_cast<uint8_t>(text[text.size() - back]));
    if (lead.follow == 0) return 0;
    if (lead.follow < 0) continue;  // a byte that follows, or none of UTF-8
    if (static_cast<size_t>(lead.follow) < back) return 0;
    // Unfinished only if what stands there could be completed.
    size_t at = text.size() - back;
    next_code_point(text, at);
    return at == text.size() ? back : 0;
  }
  return 0;
}

}  // namespace linnet
