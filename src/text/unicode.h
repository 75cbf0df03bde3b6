// The few properties of characters that tokenizers ask for. Those of normalizers and pre-tokenizers are the
// answers of Hugging Face's tokenizers, whose parts each have a Unicode of their own; the data is made by
// scripts/golden/make_characters.py.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace linnet {

/// What StripAccents takes away: combining marks.
bool is_mark(char32_t code_point);
/// What BertNormalizer takes away to clean a text: control characters, but tabs and ends of lines, and
/// U+FFFD.
bool is_control(char32_t code_point);
/// What it takes away of a decomposed text: marks that take no space.
bool is_accent(char32_t code_point);
/// What it puts spaces around.
bool is_ideograph(char32_t code_point);
/// What Digits finds: category N.
bool is_number(char32_t code_point);
/// What Punctuation finds: ASCII punctuation or category P.
bool is_punctuation(char32_t code_point);
/// Left alone by NFC, NFD, NFKC and NFKD, though utf8proc (Unicode 15) decomposes it, composes it or moves
/// it.
bool is_unnormalized(char32_t code_point);
/// Newer than Unicode 14 and part of the grapheme before it.
bool is_extender(char32_t code_point);
/// The lower case; of U+0130, which has two characters, itself.
char32_t lower_case(char32_t code_point);
/// A letter that under (?i) is as good as `folded`: several characters, or one where Unicode 14 does not know
/// it yet.
struct Fold {
  char32_t letter;
  char32_t folded[3];  // 0 behind the last
};
std::span<const Fold> folds();
/// White_Space, as Rust's char::is_whitespace.
bool is_space(char32_t code_point);
/// Category L of Unicode 14.
bool is_letter(char32_t code_point);
/// \w of Rust's regular expressions: alphabetic, marks, decimal digits, connectors, joiners.
bool is_word(char32_t code_point);
bool is_ascii(std::string_view text);

/// Bytes of white space at the beginning, at the end of `text`.
size_t space_prefix(std::string_view text);
size_t space_suffix(std::string_view text);

/// Where the last code point of `text` (not empty, valid) begins.
size_t last_code_point(std::string_view text);

}  // namespace linnet
