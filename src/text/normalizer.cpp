#include "text/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/charsmap.h"
#include "text/regex.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet {
namespace {

std::string utf8proc_form(std::string_view text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                   static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE));
  if (length < 0) throw std::bad_alloc();
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  return {reinterpret_cast<const char*>(mapped), static_cast<size_t>(length)};
}

/// What lies between characters that stay as they are, each by itself: nothing composes or moves across them.
std::string unicode_form(const std::string& text, int options) {
  if (is_ascii(text)) return text;
  std::string out;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (!is_unnormalized(next_code_point(text, at))) continue;
    if (begin > done) out += utf8proc_form(std::string_view(text).substr(done, begin - done), options);
    out += std::string_view(text).substr(begin, at - begin);
    done = at;
  }
  if (done < text.size()) out += utf8proc_form(std::string_view(text).substr(done), options);
  return out;
}

/// `text` with each code point passed through map(code_point, out).
template <typename Map>
std::string map_code_points(const std::string& text, const Map& map) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) map(next_code_point(text, at), out);
  return out;
}

void lower(char32_t c, std::string& out) {
  if (c == 0x130) {  // the one letter whose lower case is two characters
    out += "i\u0307";
  } else {
    append_utf8(out, lower_case(c));
  }
}

void without_marks(char32_t c, std::string& out) {
  if (!is_mark(c)) append_utf8(out, c);
}

/// Control characters go, other separators become spaces: as in NMT's preprocessing.
void nmt(char32_t c, std::string& out) {
  if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
    return;
  const bool space = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                     c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == kReplacementCharacter;
  if (space)
    out += ' ';
  else
    append_utf8(out, c);
}

void without_accents(char32_t c, std::string& out) {
  if (!is_accent(c)) append_utf8(out, c);
}

void cleaned(char32_t c, std::string& out) {
  if (is_space(c) && !is_control(c)) {
    out += ' ';
  } else if (!is_control(c)) {
    append_utf8(out, c);
  }
}

void with_spaces_around_ideographs(char32_t c, std::string& out) {
  const bool apart = is_ideograph(c);
  if (apart) out += ' ';
  append_utf8(out, c);
  if (apart) out += ' ';
}

std::string strip(const std::string& text, bool left, bool right) {
  size_t begin = 0, end = text.size();
  if (left) begin = space_prefix(text);
  if (right) end = text.size() - space_suffix(std::string_view(text).substr(begin));
  return text.substr(begin, end - begin);
}

std::string byte_spelled(const std::string& text) {
  std::string out;
  append_byte_characters(out, text);
  return out;
}

}  // namespace

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  size_t begin = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, begin)) {
    out += text.substr(begin, at - begin);
    out += to;
    begin = at + from.size();
  }
  out += text.substr(begin);
  return out;
}

std::function<std::string(std::string)> replacer(const JsonView& step) {
  const JsonView pattern = step.at("pattern");
  const std::string content = step.at("content").string();
  if (const JsonView literal = pattern["String"]; !literal.is_null()) {
    const std::string from = literal.string();
    if (from.empty()) return [](std::string text) { return text; };
    return [from, content](std::string text) { return replace_all(text, from, content); };
  }
  const JsonView expression = pattern.at("Regex");
  auto regex = std::make_shared<const Regex>(expression.string(), expression.where());
  return [regex, content](std::string text) {
    if (text.empty()) return text;  // not even where the pattern matches nothing
    std::string out;
    size_t end = 0;
    regex->for_each_match(text, [&](size_t from, size_t to) {
      out += std::string_view(text).substr(end, from - end);
      out += content;
      end = to;
    });
    out += std::string_view(text).substr(end);
    return out;
  };
}

Normalizer::Normalizer(const JsonView& field) {
  if (!field.is_null()) add(field);
}

void Normalizer::add_sequence(const JsonView& step) {
  const JsonView list = step.at("normalizers");
  for (size_t i = 0; i < list.size(); ++i) add(list.at(i));
}

void Normalizer::add_bert(const JsonView& step) {
  const auto characters = [&](auto map) {
    steps_.push_back([map](std::string text) { return map_code_points(text, map); });
  };
  const bool lowered = step["lowercase"].boolean(true);
  if (step["clean_text"].boolean(true)) characters(&cleaned);
  if (step["handle_chinese_chars"].boolean(true)) characters(&with_spaces_around_ideographs);
  if (step["strip_accents"].boolean(lowered)) {
    steps_.push_back([](std::string text) {
      return map_code_points(unicode_form(text, UTF8PROC_DECOMPOSE), &without_accents);
    });
  }
  if (lowered) characters(&lower);
}

void Normalizer::add(const JsonView& step) {
  const std::string type = step.at("type").string();
  const auto form = [&](int options) {
    steps_.push_back([options](std::string text) { return unicode_form(text, options); });
  };
  const auto characters = [&](auto map) {
    steps_.push_back([map](std::string text) { return map_code_points(text, map); });
  };
  if (type == "Sequence") return add_sequence(step);
  if (type == "BertNormalizer") return add_bert(step);
  if (type == "NFC") return form(UTF8PROC_COMPOSE);
  if (type == "NFD") return form(UTF8PROC_DECOMPOSE);
  if (type == "NFKC") return form(UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  if (type == "NFKD") return form(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  if (type == "Lowercase") return characters(&lower);
  if (type == "StripAccents") return characters(&without_marks);
  if (type == "Nmt") return characters(&nmt);
  if (type == "ByteLevel") return steps_.push_back(&byte_spelled);
  if (type == "Replace") return steps_.push_back(replacer(step));
  if (type == "Strip") {
    const bool left = step["strip_left"].boolean(true), right = step["strip_right"].boolean(true);
    return steps_.push_back([left, right](std::string text) { return strip(text, left, right); });
  }
  if (type == "Prepend") {
    const std::string prefix = step.at("prepend").string();
    return steps_.push_back([prefix](std::string text) { return text.empty() ? text : prefix + text; });
  }
  if (type == "Precompiled") {
    const JsonView blob = step["precompiled_charsmap"];
    if (blob.is_null()) return;
    auto map = std::make_shared<const CharsMap>(base64_decode(blob.string(), blob.where()), blob.where());
    return steps_.push_back([map](std::string text) { return map->normalize(text); });
  }
  step.fail(
      fmt::format("normalizer \"{}\"", printable(type, 40)),
      "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Nmt, Prepend, Replace, Precompiled, "
      "ByteLevel or BertNormalizer");
}

std::string Normalizer::apply(std::string text) const {
  for (const auto& step : steps_) text = step(std::move(text));
  return text;
}

}  // namespace linnet
