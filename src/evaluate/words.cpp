#include "evaluate/words.h"

#include <algorithm>
#include <array>

namespace linnet {
namespace {

/// Bytes of the white-space character at the beginning of `text` (UTF-8); 0 if there is none.
size_t white_space(std::string_view text) {
  if (text.empty()) return 0;
  const char c = text.front();
  if (c == ' ' || (c >= '\t' && c <= '\r')) return 1;
  if (static_cast<unsigned char>(c) < 0x80) return 0;
  // U+0085, 00A0, 1680, 2000 … 200A, 2028, 2029, 202F, 205F, 3000
  static constexpr std::array<std::string_view, 19> kOthers = {
      "\u0085", "\u00A0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
      "\u2007", "\u2008", "\u2009", "\u200A", "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"};
  for (const std::string_view other : kOthers) {
    if (text.starts_with(other)) return other.size();
  }
  return 0;
}

}  // namespace

int64_t count_words(std::string_view text) { return count_words_beginning(text, 0, text.size()); }

int64_t count_words_beginning(std::string_view text, size_t begin, size_t end) {
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < std::min(end, text.size());) {
    const size_t space = white_space(text.substr(at));
    if (space == 0 && !inside && at >= begin) ++words;
    inside = space == 0;
    at += std::max<size_t>(space, 1);
  }
  return words;
}

}  // namespace linnet
