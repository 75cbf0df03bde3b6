// The few properties of characters that tokenizers ask for (Unicode 14, through utf8proc).
#pragma once

#include <cstddef>
#include <string_view>

namespace linnet {

enum class Category { kLetter, kNumber, kMark, kPunctuation, kOther };

Category category(char32_t code_point);
/// White_Space, as Rust's char::is_whitespace.
bool is_space(char32_t code_point);
/// ASCII punctuation or category P.
bool is_punctuation(char32_t code_point);
/// \w as Unicode has it: alphabetic, marks, decimal digits, connectors, joiners.
bool is_word(char32_t code_point);
bool is_ascii(std::string_view text);

/// Bytes of white space at the beginning, at the end of `text`.
size_t space_prefix(std::string_view text);
size_t space_suffix(std::string_view text);

/// Where the last code point of `text` (not empty, valid) begins.
size_t last_code_point(std::string_view text);

}  // namespace linnet
