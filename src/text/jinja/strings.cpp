#include "text/jinja/strings.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet::jinja {
namespace {

char32_t upper_of(char32_t c) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
char32_t lower_of(char32_t c) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}
char32_t title_of(char32_t c) {
  return static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
}

template <typename Change>
std::string each(std::string_view text, Change change) {
  std::u32string points = code_points(text);
  bool first = true;
  for (char32_t& c : points) {
    c = change(c, first);
    first = false;
  }
  return utf8(points);
}

}  // namespace

std::u32string code_points(std::string_view text) {
  std::u32string points;
  for (size_t at = 0; at < text.size();) points += next_code_point(text, at);
  return points;
}

std::string utf8(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

std::string stripped(std::string_view text, const std::optional<std::string>& characters, bool front,
                     bool back) {
  if (!characters) {
    if (front) text.remove_prefix(space_prefix(text));
    if (back) text.remove_suffix(space_suffix(text));
    return std::string(text);
  }
  const std::u32string points = code_points(text), gone = code_points(*characters);
  size_t begin = 0, end = points.size();
  while (front && begin < end && gone.find(points[begin]) != std::u32string::npos) ++begin;
  while (back && begin < end && gone.find(points[end - 1]) != std::u32string::npos) --end;
  return utf8(std::u32string_view(points).substr(begin, end - begin));
}

std::string upper(std::string_view text) {
  return each(text, [](char32_t c, bool) { return upper_of(c); });
}

std::string lower(std::string_view text) {
  return each(text, [](char32_t c, bool) { return lower_of(c); });
}

std::string capitalized(std::string_view text) {
  return each(text, [](char32_t c, bool first) { return first ? title_of(c) : lower_of(c); });
}

std::string titled(std::string_view text, bool letters) {
  bool begins = true;
  return each(text, [&](char32_t c, bool) {
    const bool letter = upper_of(c) != c || lower_of(c) != c || is_letter(c);
    const bool between =
        letters ? !letter
                : is_space(c) || (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) !=
                                                  std::string_view::npos);
    const char32_t out = between ? c : begins ? (letters ? title_of(c) : upper_of(c)) : lower_of(c);
    begins = between;
    return out;
  });
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t most,
                     Work& work) {
  std::string out;
  work.step(text.size() / 16);
  size_t at = 0;
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    const size_t found = text.find(from, at);
    if (found == std::string_view::npos) break;
    work.grow(to.size() + (found - at));
    work.step(1 + from.size() / 16);
    out += text.substr(at, found - at);
    out += to;
    at = found + from.size();
    if (!from.empty()) continue;
    if (at >= text.size()) return out;  // an empty string stands between all characters
    next_code_point(text, at);
    out += text.substr(found, at - found);
  }
  return out += text.substr(at);
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t c = next_code_point(text, at);
    const bool ends =
        (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!ends) continue;
    lines.push_back(text.substr(begin, end - begin));
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

Values split(std::string_view text, const std::optional<std::string>& separator, int64_t most, Work& work) {
  Values parts;
  work.step(text.size() / 16);
  const auto add = [&](std::string_view part) {
    work.step();
    parts.push_back(work.string(std::string(part)));
  };
  if (separator) {
    if (separator->empty()) work.fail("split at an empty string", "a separator");
    while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
      const size_t found = text.find(*separator);
      if (found == std::string_view::npos) break;
      add(text.substr(0, found));
      text.remove_prefix(found + separator->size());
    }
    add(text);
    return parts;
  }
  text.remove_prefix(space_prefix(text));
  while (!text.empty() && (most < 0 || static_cast<int64_t>(parts.size()) < most)) {
    size_t end = 0;
    for (size_t at = 0; at < text.size(); end = at) {
      if (is_space(next_code_point(text, at))) break;
    }
    add(text.substr(0, end));
    text.remove_prefix(end);
    text.remove_prefix(space_prefix(text));
  }
  if (!text.empty()) add(text.substr(0, text.size() - space_suffix(text)));
  return parts;
}

}  // namespace linnet::jinja
