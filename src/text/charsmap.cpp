#include "text/charsmap.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cstring>

#include "base/error.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet {
namespace {

// A unit of the trie: bit 8 says that a value hangs below, bits 10… (shifted by 8 more where bit 9 is set)
// are the offset to the children, bit 31 marks a value, else the low byte is the label.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
uint32_t value(uint32_t unit) { return unit & ~(1u << 31); }
uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

/// What utf8proc (Unicode 15) is asked about in a character's place, so that graphemes begin where the
/// reference, of a newer Unicode, begins them.
char32_t as_in_the_reference(char32_t c) {
  constexpr char32_t kCombiningAcute = 0x301, kArabicNumberSign = 0x600;
  if (is_extender(c)) return kCombiningAcute;
  if (c == 0x113D1) return kArabicNumberSign;  // Tulu-Tigalari repha: joins the character after it
  if (c == 0x11A3A) return U'a';               // Zanabazar Square cluster-initial ra: no longer does
  return c;
}

}  // namespace

CharsMap::CharsMap(std::string_view blob, const std::string& where) {
  uint32_t bytes = 0;
  if (blob.size() >= 4) std::memcpy(&bytes, blob.data(), 4);
  if (blob.size() < 4 || bytes > blob.size() - 4 || bytes % 4 != 0 || bytes == 0) {
    throw Error(where, "the precompiled map's sizes do not fit", "a size, a trie, replacements");
  }
  units_.resize(bytes / 4);
  std::memcpy(units_.data(), blob.data() + 4, bytes);
  replacements_ = blob.substr(4 + bytes);
  if (!is_valid_utf8(replacements_) || !replacements_.ends_with('\0')) {
    throw Error(where, "the precompiled map's replacements are broken", "UTF-8, each ended by NUL");
  }
  // No step from any unit may leave the trie, nor any value the replacements: sentencepiece does not look.
  for (size_t i = 0; i < units_.size(); ++i) {
    if (i > 0 && units_[i] >> 31 != 0) continue;  // a value, which the root is not
    const size_t children = i ^ offset(units_[i]);
    const bool leaf_fits =
        !has_leaf(units_[i]) || (children < units_.size() && value(units_[children]) < replacements_.size());
    if ((children | 0xFF) >= units_.size() || !leaf_fits) {
      throw Error(where, fmt::format("unit {} of the precompiled map leads out of it", i), "a sound trie");
    }
  }
}

std::optional<std::string_view> CharsMap::replacement(std::string_view text) const {
  size_t at = offset(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte == 0) break;
    at ^= byte;
    if (label(units_[at]) != byte) return std::nullopt;
    const uint32_t unit = units_[at];
    at ^= offset(unit);
    if (!has_leaf(unit)) continue;
    const std::string_view rest = std::string_view(replacements_).substr(value(units_[at]));
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

void CharsMap::append(std::string& out, std::string_view grapheme) const {
  if (grapheme.size() < 6) {
    if (const auto found = replacement(grapheme)) {
      out += *found;
      return;
    }
  }
  for (size_t at = 0; at < grapheme.size();) {
    const size_t begin = at;
    next_code_point(grapheme, at);
    const std::string_view character = grapheme.substr(begin, at - begin);
    out += replacement(character).value_or(character);
  }
}

std::string CharsMap::normalize(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  utf8proc_int32_t state = 0;
  size_t begin = 0, at = 0;
  char32_t before = 0;
  while (at < text.size()) {
    const size_t seam = at;
    const char32_t now = as_in_the_reference(next_code_point(text, at));
    if (seam > 0 &&
        utf8proc_grapheme_break_stateful(static_cast<int32_t>(before), static_cast<int32_t>(now), &state)) {
      append(out, text.substr(begin, seam - begin));
      begin = seam;
    }
    before = now;
  }
  append(out, text.substr(begin));
  // A hostile trie may begin a replacement inside a character.
  return is_valid_utf8(out) ? out : valid_utf8(out);
}

std::string base64_decode(std::string_view text, const std::string& where) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) throw Error(where, "not base64", "base64 text");
    bits = bits << 6 | static_cast<uint32_t>(digit);
    held += 6;
    if (held >= 8) bytes += static_cast<char>(bits >> (held -= 8) & 0xFF);
  }
  return bytes;
}

}  // namespace linnet
