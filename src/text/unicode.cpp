#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "text/code_points.h"
#include "text/utf8.h"

namespace linnet {
namespace {

#include "text/character_data.inc"

/// Whether one of the sorted `runs` holds `c`.
bool holds(std::span<const CodePointRange> runs, char32_t c) {
  const auto run = std::ranges::lower_bound(runs, c, {}, &CodePointRange::last);
  return run != runs.end() && run->first <= c;
}

}  // namespace

bool is_mark(char32_t c) { return holds(kMarks, c); }

bool is_control(char32_t c) { return holds(kControls, c); }

bool is_accent(char32_t c) { return holds(kAccents, c); }

bool is_ideograph(char32_t c) { return holds(kIdeographs, c); }

bool is_number(char32_t c) { return holds(kNumbers, c); }

bool is_punctuation(char32_t c) { return holds(kPunctuation, c); }

bool is_unnormalized(char32_t c) { return holds(kUnnormalized, c); }

bool is_extender(char32_t c) { return holds(kExtenders, c); }

char32_t lower_case(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 0x20 : c;
  const auto* run = std::ranges::lower_bound(kLowerCases, c, {}, [](const auto& row) { return row[1]; });
  if (run == std::end(kLowerCases)) return c;
  const auto& [first, last, step, to] = *run;
  return c < first || (c - first) % step != 0 ? c : to + (c - first);
}

std::span<const Fold> folds() { return kFolds; }

bool is_space(char32_t c) {
  return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_letter(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_word(char32_t c) { return holds(kWords, c); }

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

size_t last_code_point(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (text[at] & 0xC0) == 0x80) --at;
  return at;
}

size_t space_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    size_t next = at;
    if (!is_space(next_code_point(text, next))) break;
    at = next;
  }
  return at;
}

size_t space_suffix(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t begin = last_code_point(text.substr(0, end));
    size_t at = begin;
    if (!is_space(next_code_point(text, at))) break;
    end = begin;
  }
  return text.size() - end;
}

}  // namespace linnet
