#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "text/jinja/syntax.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) { return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// One kind of newline, and none at the end, as Jinja has it.
std::string lines_of(std::string_view source) {
  std::string out;
  const std::string text = valid_utf8(source);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      out += '\n';
      i += i + 1 < text.size() && text[i + 1] == '\n';
    } else {
      out += text[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& where) : source_(lines_of(source)), where_(where) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t tag = next_tag();
      const std::string_view text = std::string_view(source_).substr(at_, tag - at_);
      if (tag == source_.size()) {
        add_text(text);
        advance(tag);
        break;
      }
      const char kind = source_[tag + 1];
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      const bool has_sign = sign == '-' || sign == '+';
      add_text(before_tag(text, kind, sign));
      advance(tag + 2 + (has_sign ? 1 : 0));
      if (kind == '#') {
        comment();
      } else if (kind == '%' && raw()) {
        continue;
      } else {
        inside(kind);
      }
    }
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string_view what, std::string_view expected) const {
    throw Error(fmt::format("{}, line {}", where_, line_), what, expected);
  }
  void add(TokenKind kind, std::string_view text) { tokens_.push_back({kind, std::string(text), line_}); }
  void add_text(std::string_view text) {
    if (!text.empty()) add(TokenKind::kText, text);
  }
  bool here(std::string_view text) const { return std::string_view(source_).substr(at_).starts_with(text); }
  void advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                         source_.begin() + static_cast<ptrdiff_t>(to), '\n'));
    at_ = to;
  }
  void skip_space() { advance(at_ + space_prefix(std::string_view(source_).substr(at_))); }

  size_t next_tag() const {
    for (size_t i = source_.find('{', at_); i != std::string::npos; i = source_.find('{', i + 1)) {
      if (i + 1 < source_.size() && std::string_view("{%#").find(source_[i + 1]) != std::string_view::npos)
        return i;
    }
    return source_.size();
  }

  /// What is left of the text before a tag: - takes white space away; else a tag that is alone on its line,
  /// and no {{ }}, loses what indents it.
  std::string_view before_tag(std::string_view text, char kind, char sign) const {
    if (sign == '-') return text.substr(0, text.size() - space_suffix(text));
    if (sign == '+' || kind == '{') return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    const std::string_view rest = text.substr(line);
    const bool at_start = line > 0 || line_starting_;
    return at_start && space_prefix(rest) == rest.size() ? text.substr(0, line) : text;
  }

  /// Behind the end of a tag of `length` bytes, whose sign was `sign`.
  void after_tag(size_t length, char sign, bool trim) {
    advance(at_ + length);
    const size_t end = at_;
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && trim && here("\n")) {
      advance(at_ + 1);
    }
    line_starting_ = at_ > end && source_[at_ - 1] == '\n';
  }

  void comment() {
    const size_t begin = at_, end = source_.find("#}", at_);
    if (end == std::string::npos) fail("a comment that is not closed", "#}");
    advance(end);
    after_tag(2, end > begin ? source_[end - 1] : '\0', true);
  }

  /// Behind "{%": a whole {% raw %} … {% endraw %}, if it is one.
  bool raw() {
    size_t end = 0;
    char sign = '\0';
    if (!raw_tag(at_, "raw", end, sign)) return false;
    advance(end);
    if (sign == '-') skip_space();
    for (size_t i = source_.find("{%", at_); i != std::string::npos; i = source_.find("{%", i + 1)) {
      const char first = i + 2 < source_.size() ? source_[i + 2] : '\0';
      const bool has_sign = first == '-' || first == '+';
      char last = '\0';
      if (!raw_tag(i + 2 + (has_sign ? 1 : 0), "endraw", end, last)) continue;
      add_text(before_tag(std::string_view(source_).substr(at_, i - at_), '%', first));
      advance(end);
      after_tag(0, last, true);
      return true;
    }
    fail("raw that is not closed", "{% endraw %}");
  }

  /// Whether `name` and the end of a tag stand at `at`; where it ends, and its sign.
  bool raw_tag(size_t at, std::string_view name, size_t& end, char& sign) const {
    const std::string_view source = source_;
    at += space_prefix(source.substr(at));
    if (!source.substr(at).starts_with(name)) return false;
    at += name.size();
    at += space_prefix(source.substr(at));
    sign = at < source.size() ? source[at] : '\0';
    if (sign == '-' || sign == '+') ++at;
    end = at + 2;
    return source.substr(at).starts_with("%}");
  }

  void inside(char kind) {
    const bool output = kind == '{';
    const std::string close = output ? "}}" : "%}";
    add(output ? TokenKind::kOutput : TokenKind::kTag, "");
    const int begin = line_;
    std::string open;  // brackets: inside them }} closes two of them
    while (true) {
      skip_space();
      if (at_ >= source_.size()) {
        line_ = begin;
        fail("a tag that is not closed", close);
      }
      const char c = source_[at_];
      const bool sign = (c == '-' || (c == '+' && !output)) && here(c + close);
      if (open.empty() && (sign || here(close))) {
        add(output ? TokenKind::kOutputEnd : TokenKind::kTagEnd, "");
        return after_tag(sign ? 3 : 2, sign ? c : '\0', !output);
      }
      token(open);
    }
  }

  void token(std::string& open) {
    const char c = source_[at_];
    if (c == '"' || c == '\'') return string(c);
    if (is_digit(c)) return number();
    if (is_name(c)) {
      size_t end = at_;
      while (end < source_.size() && is_name(source_[end])) ++end;
      add(TokenKind::kName, std::string_view(source_).substr(at_, end - at_));
      return advance(end);
    }
    for (const std::string_view sign : {"//", "**", "==", "!=", "<=", ">="}) {
      if (!here(sign)) continue;
      add(TokenKind::kSign, sign);
      return advance(at_ + 2);
    }
    if (std::string_view("+-*/%~<>=.,:|()[]{}").find(c) == std::string_view::npos) {
      size_t end = at_;
      next_code_point(source_, end);
      fail(fmt::format("\"{}\" in a tag", source_.substr(at_, end - at_)), "an expression");
    }
    brackets(open, c);
    add(TokenKind::kSign, std::string_view(source_).substr(at_, 1));
    advance(at_ + 1);
  }

  void brackets(std::string& open, char c) const {
    if (c == '(') open += ')';
    if (c == '[') open += ']';
    if (c == '{') open += '}';
    if (c != ')' && c != ']' && c != '}') return;
    if (open.empty() || open.back() != c) fail(fmt::format("\"{}\" closes nothing", c), "what was opened");
    open.pop_back();
  }

  void number() {
    size_t end = at_;
    const auto digits = [&] {
      while (end < source_.size() && (is_digit(source_[end]) || source_[end] == '_')) ++end;
    };
    const auto digit_at = [&](size_t i) { return i < source_.size() && is_digit(source_[i]); };
    digits();
    bool whole = true;
    if (at_ == 0 || source_[at_ - 1] != '.') {
      if (end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
        whole = false;
        ++end;
        digits();
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        const bool sign = end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-');
        if (digit_at(end + (sign ? 2 : 1))) {
          whole = false;
          end += sign ? 2 : 1;
          digits();
        }
      }
    }
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    add(whole ? TokenKind::kInteger : TokenKind::kFloat, text);
    advance(end);
  }

  void string(char quote) {
    const int line = line_;
    std::string text;
    size_t at = at_ + 1;
    while (at < source_.size() && source_[at] != quote) {
      if (source_[at] != '\\') {
        text += source_[at++];
      } else if (++at < source_.size()) {
        escape(text, at);
      }
    }
    if (at >= source_.size()) fail("a string that is not closed", std::string(1, quote));
    advance(at + 1);
    tokens_.push_back({TokenKind::kString, std::move(text), line});
  }

  /// What stands behind a backslash, as Python reads it.
  void escape(std::string& text, size_t& at) const {
    const char c = source_[at];
    constexpr std::string_view kNames = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t i = kNames.find(c); i != std::string_view::npos) {
      text += kMeanings[i];
      ++at;
    } else if (c == '\n') {
      ++at;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      append_number(text, ++at, c == 'x' ? 2 : c == 'u' ? 4 : 8, true);
    } else if (c >= '0' && c <= '7') {
      append_number(text, at, 3, false);
    } else {
      text += '\\';
    }
  }

  void append_number(std::string& text, size_t& at, int most, bool hexadecimal) const {
    uint32_t number = 0;
    int digits = 0;
    for (; digits < most && at < source_.size(); ++digits, ++at) {
      const char c = source_[at];
      const bool letter = hexadecimal && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'));
      if (!letter && !(is_digit(c) && (hexadecimal || c < '8'))) break;
      number =
          number * (hexadecimal ? 16 : 8) + static_cast<uint32_t>(letter ? (c | 0x20) - 'a' + 10 : c - '0');
    }
    if (hexadecimal && digits < most) fail("an escape that is cut short", fmt::format("{} digits", most));
    const bool character = number <= 0x10FFFF && (number < 0xD800 || number > 0xDFFF);
    append_utf8(text, character ? static_cast<char32_t>(number) : kReplacementCharacter);
  }

  std::string source_;
  const std::string& where_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& where) {
  return Lexer(source, where).run();
}

}  // namespace linnet::jinja
