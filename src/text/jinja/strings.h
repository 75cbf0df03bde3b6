// Python's operations on strings, by code point.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace linnet::jinja {

/// Without the white space, or without those of `characters`, at the front, at the back.
std::string stripped(std::string_view text, const std::optional<std::string>& characters, bool front,
                     bool back);
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalized(std::string_view text);
/// Each word's first letter large: words are letters, or are what stands between spaces and opening brackets.
std::string titled(std::string_view text, bool letters);
/// At most `most` times, everywhere if it is below 0.
std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t most,
                     Work& work);
/// Where nothing is given: by runs of white space.
Values split(std::string_view text, const std::optional<std::string>& separator, int64_t most, Work& work);
/// The lines of a text without their ends, as Python's splitlines has them; views of it.
std::vector<std::string_view> split_lines(std::string_view text);
std::u32string code_points(std::string_view text);
std::string utf8(std::u32string_view text);

}  // namespace linnet::jinja
