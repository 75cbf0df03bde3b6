// Reads the characters of a pattern, its escapes and its classes: the part of the translator that the rest
// stands on.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/unicode_sets.h"
#include "text/utf8.h"

namespace linnet {

constexpr int kMaxNesting = 200;  // PCRE2's own limit is 250 groups

inline int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

/// What a pattern is read from.
class PatternReader {
 public:
  PatternReader(std::string_view pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  bool at_end() const { return at_ == pattern_.size(); }
  bool sees(std::string_view next) const { return pattern_.substr(at_).starts_with(next); }
  char peek() const { return at_end() ? '\0' : pattern_[at_]; }
  std::string_view rest() const { return pattern_.substr(at_); }
  void skip(size_t bytes) { at_ += bytes; }
  size_t position() const { return at_; }
  void go_back_to(size_t position) { at_ = position; }
  bool take(std::string_view next) {
    if (!sees(next)) return false;
    at_ += next.size();
    return true;
  }
  char32_t character() {
    if (at_end()) fail("ends in the middle");
    return next_code_point(pattern_, at_);
  }
  /// Up to `end`, which is skipped.
  std::string_view until(std::string_view end) {
    const size_t found = pattern_.find(end, at_);
    if (found == std::string_view::npos) fail(fmt::format("lacks a \"{}\"", end));
    const std::string_view text = pattern_.substr(at_, found - at_);
    at_ = found + end.size();
    return text;
  }
  /// At most `most` digits of `base`; nothing where there are fewer than `least`.
  std::optional<uint32_t> number(uint32_t base, size_t least, size_t most) {
    uint32_t value = 0;
    size_t digits = 0;
    for (; digits < most && !at_end() && digit_of(peek()) < int(base); ++digits, ++at_) {
      value = std::min(value, 0xFFFFFFu) * base + static_cast<uint32_t>(digit_of(peek()));
    }
    return digits < least ? std::nullopt : std::optional(value);
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw Error(where_, fmt::format("pattern \"{}\" does not compile: it {}", printable(pattern_, 60), what),
                "a regular expression");
  }

 private:
  std::string_view pattern_;
  const std::string& where_;
  size_t at_ = 0;
};

inline CodePointSet known_set(PatternReader& in, std::string_view name) {
  auto set = named_set(name);
  if (!set) in.fail(fmt::format("names a property \"{}\"", printable(name, 40)));
  return *std::move(set);
}

/// Behind \p or \P: {name}, {^name}.
inline CodePointSet read_property(PatternReader& in, bool negated) {
  in.skip(1);  // {
  if (in.take("^")) negated = !negated;
  const std::string_view name = in.until("}");
  if (name.starts_with('\\') || name.starts_with('[')) in.fail("names no property");
  const CodePointSet set = known_set(in, name);
  return negated ? set.complement() : set;
}

/// The set that an escape means, behind its backslash: \w, \D, \p{…}. Nothing where it means none.
inline std::optional<CodePointSet> read_set_escape(PatternReader& in) {
  const char c = in.peek();
  if (c == 'p' || c == 'P') {
    if (in.rest().size() < 2 || in.rest()[1] != '{') return std::nullopt;
    in.skip(1);
    return read_property(in, c == 'P');
  }
  constexpr std::string_view kSets = "wdsh", kOthers = "WDSH";
  const size_t set = kSets.find(c), other = kOthers.find(c);
  if (c == '\0' || (set == std::string_view::npos && other == std::string_view::npos)) return std::nullopt;
  in.skip(1);
  const char name[] = {'\\', kSets[std::min(set, other)]};
  const CodePointSet members = known_set(in, {name, 2});
  return other == std::string_view::npos ? members : members.complement();
}

inline char32_t checked(PatternReader& in, std::optional<uint32_t> value) {
  if (!value || *value > kLastCodePoint || (*value >= 0xD800 && *value < 0xE000)) {
    in.fail("has an escape that is no character");
  }
  return *value;
}

/// \xHH, of which those from 80 are bytes of UTF-8 and must come together, or \x{H…}.
inline char32_t read_hexadecimal(PatternReader& in) {
  if (in.take("{")) {
    const char32_t c = checked(in, in.number(16, 1, 8));
    if (!in.take("}")) in.fail("has an escape that is no character");
    return c;
  }
  const uint32_t first = in.number(16, 0, 2).value_or(0);
  if (first < 0x80) return first;
  std::string bytes(1, static_cast<char>(first));
  while (unfinished_bytes(bytes) > 0 && in.take("\\x")) bytes += static_cast<char>(*in.number(16, 0, 2));
  size_t at = 0;
  const char32_t c = next_code_point(bytes, at);
  if (!is_valid_utf8(bytes) || at != bytes.size()) in.fail("has bytes that are no character");
  return c;
}

/// The one character that an escape means, behind its backslash.
inline char32_t read_character_escape(PatternReader& in) {
  if (in.peek() >= '0' && in.peek() <= '7') return checked(in, in.number(8, 1, 3));
  const char32_t c = in.character();
  switch (c) {
    case 't':
      return '\t';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case 'a':
      return '\a';
    case 'e':
      return 0x1B;
    case 'x':
      return read_hexadecimal(in);
    case 'u':
      return checked(in, in.number(16, 4, 4));
    case 'C':
      if (!in.take("-")) in.fail("has an escape that is no character");
      [[fallthrough]];
    case 'c':
      return in.take("?") ? 0x7F : in.character() & 0x1F;
    case 'M':
      in.fail("has a meta escape (\\M)");
    default:
      return c;
  }
}

/// [:alpha:] and its like, from "[:"; nothing where it is no bracket.
inline std::optional<CodePointSet> read_bracket(PatternReader& in) {
  const size_t end = in.rest().substr(0, 24).find(":]");
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view name = in.rest().substr(2, end - 2);
  const bool negated = name.starts_with('^');
  if (negated) name.remove_prefix(1);
  const auto set = named_set(fmt::format("[:{}:]", name));
  if (!set || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz") != std::string_view::npos) {
    in.fail("names an unknown [: :]");
  }
  in.skip(end + 2);
  return negated ? set->complement() : *set;
}

/// A class from behind its [ to its ].
class ClassReader {
 public:
  ClassReader(PatternReader& in, int depth) : in_(in), depth_(depth) {}

  /// What stands in it; negated() says whether it is about everything else.
  CodePointSet read() {
    if (depth_ > kMaxNesting) in_.fail("nests too deep");
    negated_ = in_.take("^");
    if (in_.sees("]")) {
      if (in_.rest().find(']', 1) == std::string_view::npos) in_.fail("has an empty class");
      in_.skip(1);
      add_character(']');
    }
    while (!in_.take("]")) {
      if (in_.at_end()) in_.fail("lacks a \"]\"");
      read_member();
    }
    end_part();
    return *std::move(all_);
  }
  bool negated() const { return negated_; }

 private:
  enum class Last { kNothing, kCharacter, kRange, kSet };

  void read_member() {
    if (in_.take("&&")) return end_part();
    if (in_.sees("[:")) {
      if (auto set = read_bracket(in_)) return add_set(*set);
      in_.skip(1);
      return add_character('[');
    }
    if (in_.take("[")) {
      ClassReader inner(in_, depth_ + 1);
      const CodePointSet set = inner.read();
      if (pending_dash_) part_.pop_back();  // of "a-[" Oniguruma forgets the a
      pending_dash_ = false;
      add_set(inner.negated() ? set.complement() : set);
      last_ = Last::kNothing;
      return;
    }
    if (in_.take("\\")) {
      if (auto set = read_set_escape(in_)) return add_set(*set);
      if (in_.take("b")) return add_character('\b');
      return add_character(read_character_escape(in_));
    }
    if (in_.sees("-") && !in_.sees("-]") && !in_.sees("-&&") && !pending_dash_) {
      if (last_ == Last::kCharacter) {
        in_.skip(1);
        pending_dash_ = true;
        return;
      }
      if (last_ == Last::kSet) in_.fail("has a range that begins with a class");
    }
    add_character(in_.character());
  }

  void add_character(char32_t c) {
    if (pending_dash_) {
      CodePointRange& range = part_.back();
      if (c < range.first) in_.fail("has a range that runs backwards");
      range.last = c;
      pending_dash_ = false;
      last_ = Last::kRange;
      return;
    }
    part_.push_back({c, c});
    last_ = Last::kCharacter;
  }

  void add_set(const CodePointSet& set) {
    if (pending_dash_) in_.fail("has a range that ends with a class");
    part_.insert(part_.end(), set.ranges().begin(), set.ranges().end());
    last_ = Last::kSet;
  }

  /// At && and at the end: what stood since the last && narrows what stood before it.
  void end_part() {
    const CodePointSet part(std::exchange(part_, {}));
    all_ = all_ ? *all_ & part : part;
    last_ = Last::kNothing;
    pending_dash_ = false;
  }

  PatternReader& in_;
  int depth_;
  bool negated_ = false, pending_dash_ = false;
  Last last_ = Last::kNothing;
  std::vector<CodePointRange> part_;
  std::optional<CodePointSet> all_;
};

}  // namespace linnet
