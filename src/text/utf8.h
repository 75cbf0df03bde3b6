// UTF-8 in and out. Everything inside src/text works on valid UTF-8; what comes from outside passes
// `valid_utf8` first.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace linnet {

constexpr char32_t kReplacementCharacter = 0xFFFD;

/// The code point at `position`, which moves past it. Each maximal invalid part (Unicode 14, section 3.9,
/// table 3-8) counts as one U+FFFD. position < text.size().
char32_t next_code_point(std::string_view text, size_t& position);

void append_utf8(std::string& out, char32_t code_point);

/// `text` with each maximal invalid part replaced by U+FFFD.
std::string valid_utf8(std::string_view text);
bool is_valid_utf8(std::string_view text);

/// Bytes at the end of `text` that begin a code point whose rest may still come (0 … 3).
size_t unfinished_bytes(std::string_view text);

}  // namespace linnet
