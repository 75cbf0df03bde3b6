#include "cli/help.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "cli/arguments.h"

namespace linnet::cli {
namespace {

constexpr size_t kColumn = 30, kWidth = 110;  // where the texts begin, and end

/// Characters, not bytes: "…" is one.
size_t width_of(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string wrapped(std::string_view text) {
  std::string out;
  size_t used = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    if (used > 0 && kColumn + used + 1 + width_of(word) > kWidth) {
      out += '\n';
      used = 0;
    } else if (used > 0) {
      out += ' ';
      ++used;
    }
    out += word;
    used += width_of(word);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

/// Whether a default lies in the range that --help shows ("1 to 8", "at least 1", "above 0"): where it does
/// not it stands for something else, which the text says.
bool is_in(const std::string& range, const std::string& standard) {
  const size_t at = range.find_first_of("0123456789");
  double low = 0, value = 0;
  const auto read = [](std::string_view text, double& to) {
    return std::from_chars(text.data(), text.data() + text.size(), to).ec == std::errc();
  };
  if (at == range.npos || !read(std::string_view(range).substr(at), low) || !read(standard, value))
    return true;
  return range.starts_with("above") ? value > low : value >= low;
}

class Help final : public CLI::Formatter {
 public:
  Help() { column_width(kColumn); }

  /// The kind alone: CLI11 writes "INT:0 to 8", the range after the colon.
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return "";  // a flag
    const std::string type = option->get_type_name();
    return fmt::format(" {}{}", type.substr(0, type.find(':')), takes_several(*option) ? " ..." : "");
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    std::vector<std::string> parts;
    const std::string type = option->get_type_name();
    const size_t colon = type.find(':');
    const std::string range = colon != type.npos ? type.substr(colon + 1) : "";
    if (!range.empty()) parts.push_back(range);
    std::string standard = option->get_default_str();
    if (standard.size() >= 2 && standard.front() == '[') standard = standard.substr(1, standard.size() - 2);
    if (option->get_required()) {
      parts.emplace_back("required");
    } else if (!standard.empty() && is_in(range, standard)) {
      parts.push_back("default " + standard);
    }
    for (const CLI::Option* other : option->get_excludes()) parts.push_back("not with " + other->get_name());
    const std::string& text = option->get_description();
    return wrapped(parts.empty() ? text : fmt::format("{} ({})", text, fmt::join(parts, "; ")));
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> help_formatter() { return std::make_shared<Help>(); }

}  // namespace linnet::cli
