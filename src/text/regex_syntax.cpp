#include "text/regex_syntax.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "text/regex_reader.h"
#include "text/unicode.h"
#include "text/unicode_sets.h"
#include "text/utf8.h"

namespace linnet {
namespace {

/// Whether PCRE2's categories are those of unicode_data.inc.
bool pcre2_has_unicode_14() {
  static const bool kHas = [] {
    char version[64] = {};
    pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    return std::string_view(version) == "14.0.0";
  }();
  return kHas;
}

struct Options {
  bool ignore_case = false, extended = false, look_behind = false;
};

/// Full case folding.
std::u32string folded(char32_t c) {
  utf8proc_int32_t out[4];
  int boundary = 0;
  const auto count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), out, 4, UTF8PROC_CASEFOLD, &boundary);
  return count < 1 || count > 4 ? std::u32string(1, c) : std::u32string(out, out + count);
}

std::u32string_view folded(const Fold& fold) {
  return std::u32string_view(fold.folded, 3).substr(0, fold.folded[2] != 0 ? 3 : fold.folded[1] != 0 ? 2 : 1);
}

/// The letters of folds() that fold to `text`.
std::u32string letters_of(std::u32string_view text) {
  std::u32string letters;
  for (const Fold& fold : folds()) {
    if (folded(fold) == text) letters += fold.letter;
  }
  return letters;
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern, where) {}

  std::string translate() {
    read_alternatives({}, 0);
    if (!in_.at_end()) in_.fail("has a ) too many");
    return std::move(out_);
  }

 private:
  /// Up to a ) or the end.
  void read_alternatives(Options options, int depth) {
    if (depth > kMaxNesting) in_.fail("nests too deep");
    bool first = true;  // in its alternative
    while (!in_.at_end() && in_.peek() != ')') {
      if (in_.take("|")) {
        out_ += '|';
        first = true;
      } else if (options.extended && read_comment()) {
      } else {
        const size_t begin = out_.size();
        const bool many_cases =
            options.ignore_case && !options.look_behind && read_literals(options, first, depth);
        first = false;
        if (many_cases || read_atom(options, depth)) read_quantifiers(begin, options);
      }
    }
  }

  /// White space and comments in extended mode.
  bool read_comment() {
    if (in_.take("#")) {
      while (!in_.at_end() && !in_.take("\n")) in_.skip(1);
      return true;
    }
    const bool space = std::string_view(" \t\n\r\f\v").find(in_.peek()) != std::string_view::npos;
    if (space) in_.skip(1);
    return space;
  }

  bool read_comment_group() { return in_.take("(?#") && (in_.until(")"), true); }

  /// False where nothing came of it that can be repeated.
  bool read_atom(Options options, int depth) {
    if (read_comment_group()) return false;
    if (in_.take("(")) return read_group(options, depth);
    if (in_.take("[")) return read_class(options, depth), true;
    if (in_.take("\\")) return read_escape(options), true;
    for (const char c : {'.', '^', '$'}) {
      if (in_.peek() != c) continue;
      in_.skip(1);
      out_ += c;
      return true;
    }
    if (std::string_view("*+?").find(in_.peek()) != std::string_view::npos) in_.fail("repeats nothing");
    write_character(in_.character());
    return true;
  }

  // ---- case

  /// Characters in a row, of which some together may be another case of one letter: (?i)ss matches ß. The
  /// last one before a quantifier stands alone. `first`: nothing stands before them in their alternative.
  /// False where none is next.
  bool read_literals(Options options, bool first, int depth) {
    std::u32string literals;
    while (true) {
      const size_t before = in_.position();
      if (read_comment_group() || (options.extended && read_comment())) continue;
      if (read_literal_group(options, first && literals.empty(), depth, literals)) continue;
      if (!at_literal()) {
        in_.go_back_to(before);
        break;
      }
      const char32_t c = in_.take("\\") ? read_character_escape(in_) : in_.character();
      const bool repeated = at_quantifier(options);
      if (repeated && !literals.empty()) {
        in_.go_back_to(before);
        break;
      }
      literals += c;
      if (repeated) break;
    }
    for (size_t at = 0; at < literals.size();) at += write_cases(std::u32string_view(literals).substr(at));
    return !literals.empty();
  }

  /// A group (?:…) of characters alone that is not repeated: they count as if there were no parentheses. So
  /// Oniguruma has it, but for a group of several parts at the beginning of an alternative: (?:s(?:s))s.
  bool read_literal_group(Options options, bool first, int depth, std::u32string& literals) {
    const size_t before = in_.position();
    std::u32string inside;
    int parts = 0;
    bool in_row = false;
    if (depth > kMaxNesting || !in_.take("(?:")) return false;
    while (true) {
      if (read_comment_group() || (options.extended && read_comment())) continue;
      if (read_literal_group(options, parts == 0, depth + 1, inside)) {
        in_row = false;
      } else if (at_literal()) {
        inside += in_.take("\\") ? read_character_escape(in_) : in_.character();
        if (std::exchange(in_row, true)) continue;
      } else {
        break;
      }
      ++parts;
    }
    const bool joins = parts > 0 && (parts == 1 || !first) && in_.take(")") && !at_quantifier(options);
    if (joins) {
      literals += inside;
    } else {
      in_.go_back_to(before);
    }
    return joins;
  }

  bool at_literal() const {
    if (in_.at_end() || std::string_view("|()[.^$*+?").find(in_.peek()) != std::string_view::npos)
      return false;
    if (in_.peek() != '\\') return true;
    const std::string_view escape = in_.rest().substr(1, 2);
    for (const char* other : {"p{", "P{", "k<", "k'", "g<"}) {
      if (escape == other) return false;
    }
    return escape.find_first_of("wWdDsShHbBAzZGKRXNOyY123456789") != 0;
  }

  bool at_quantifier(Options options) {
    const size_t before = in_.position();
    while (options.extended && read_comment()) {
    }
    const bool found = !read_quantifier().empty();
    in_.go_back_to(before);
    return found;
  }

  /// Writes as many of the characters as are together one letter in some case, at least one. How many they
  /// were.
  size_t write_cases(std::u32string_view characters) {
    for (size_t count = std::min<size_t>(3, characters.size()); count > 0; --count) {
      std::u32string text;
      for (const char32_t c : characters.substr(0, count)) {
        const std::u32string one = folded(c);
        text += count > 1 && one.size() > 1 ? std::u32string(1, c) : one;
      }
      const std::u32string letters = letters_of(text);
      if (letters.empty()) continue;
      out_ += "(?:";
      write_literally(text);
      out_ += "|[";
      for (const char32_t c : letters) append_utf8(out_, c);
      out_ += "])";
      return count;
    }
    write_character(characters[0]);
    return 1;
  }

  void write_literally(std::u32string_view text) {
    for (const char32_t c : text) write_character(c);
  }

  /// A class whose case does not count. PCRE2 adds the other cases that it knows, and then turns it round.
  void write_class_of_all_cases(CodePointSet set, bool negated, bool look_behind) {
    std::vector<std::u32string_view> sequences;  // what letters of it fold to
    for (const Fold& fold : folds()) {
      const std::u32string_view text = folded(fold);
      if (!set.contains(fold.letter) && !(text.size() == 1 && set.contains(text[0]))) continue;
      std::vector<CodePointRange> cases;
      for (const char32_t c : letters_of(text)) cases.push_back({c, c});
      if (text.size() == 1) cases.push_back({text[0], text[0]});
      set = set | CodePointSet(std::move(cases));
      if (text.size() > 1 && std::ranges::find(sequences, text) == sequences.end()) sequences.push_back(text);
    }
    if (negated || look_behind) sequences.clear();  // it stays one character
    if (!sequences.empty()) out_ += "(?:";
    out_ += fmt::format("[{}{}]", negated ? "^" : "", spell_class(set, false).members);
    for (const std::u32string_view text : sequences) {
      out_ += '|';
      write_literally(text);
    }
    if (!sequences.empty()) out_ += ')';
  }

  // ---- groups

  bool read_group(Options options, int depth) {
    for (const char* begin : {"?:", "?=", "?!", "?>", "?<=", "?<!"}) {
      if (!in_.take(begin)) continue;
      options.look_behind = options.look_behind || begin[1] == '<';
      return write_group(fmt::format("({}", begin), options, depth);
    }
    if (in_.take("?<")) return write_group(fmt::format("(?<{}>", in_.until(">")), options, depth);
    if (in_.take("?'")) return write_group(fmt::format("(?<{}>", in_.until("'")), options, depth);
    if (in_.take("?")) return read_options(options, depth);
    if (in_.peek() == '*') in_.fail("repeats nothing");
    ++groups_;
    return write_group("(", options, depth);
  }

  bool write_group(std::string_view begin, Options options, int depth) {
    out_ += begin;
    read_alternatives(options, depth + 1);
    if (!in_.take(")")) in_.fail("lacks a \")\"");
    out_ += ')';
    return true;
  }

  /// Behind (?: imx-imx and a colon, or a ) that makes them hold up to the end of the group around,
  /// alternatives and all.
  bool read_options(Options options, int depth) {
    std::string on, off;
    bool wanted = true;
    while (in_.peek() != ':' && in_.peek() != ')') {
      const char32_t c = in_.character();
      if (c == '-') {
        wanted = false;
      } else if (c == 'i' || c == 'm') {
        (wanted ? on : off) += c == 'i' ? 'i' : 's';
        if (c == 'i') options.ignore_case = wanted;
      } else if (c == 'x') {
        options.extended = wanted;
      } else {
        in_.fail("has an unknown option");
      }
    }
    const std::string begin = fmt::format("(?{}{}{}:", on, off.empty() ? "" : "-", off);
    if (in_.take(":")) return write_group(begin, options, depth);
    in_.skip(1);
    out_ += begin;
    read_alternatives(options, depth + 1);
    out_ += ')';
    return false;
  }

  // ---- repetition

  /// One of * + ? {n,m} in PCRE2's spelling, with ? or + behind it where that belongs to it; empty where
  /// there is none.
  std::string read_quantifier() {
    for (const char c : {'*', '+', '?'}) {
      if (in_.peek() != c) continue;
      in_.skip(1);
      for (const char kind : {'?', '+'}) {
        if (in_.peek() != kind) continue;
        in_.skip(1);
        return {c, kind};
      }
      return {c};
    }
    if (in_.peek() != '{') return {};
    const size_t before = in_.position();
    in_.skip(1);
    const auto low = in_.number(10, 1, 6);
    const bool comma = in_.take(",");
    const auto high = comma ? in_.number(10, 1, 6) : low;
    if (!in_.take("}") || (!low && !high)) {
      in_.go_back_to(before);
      return {};
    }
    std::string repeat =
        high ? fmt::format("{{{},{}}}", low.value_or(0), *high) : fmt::format("{{{},}}", *low);
    // Behind a fixed number ? is one more repetition, as + is behind any.
    if (comma && in_.take("?")) repeat += '?';
    return repeat;
  }

  void read_quantifiers(size_t begin, Options options) {
    for (bool first = true;; first = false) {
      while (options.extended && read_comment()) {
      }
      const std::string repeat = read_quantifier();
      if (repeat.empty()) return;
      if (!first) {
        out_.insert(begin, "(?:");
        out_ += ')';
      }
      out_ += repeat;
    }
  }

  // ---- characters and sets

  void write_character(char32_t c) {
    if (c < 0x80 && !isalnum(static_cast<int>(c)))
      out_ += fmt::format("\\x{:02x}", uint32_t{c});
    else
      append_utf8(out_, c);
  }

  /// Case is of no matter to a set that is named.
  static std::string spelled(const CodePointSet& set) {
    if (set.empty()) return "(?!)";
    const bool by_category = pcre2_has_unicode_14();
    const ClassSpelling in = spell_class(set, by_category);
    const ClassSpelling not_in = spell_class(set.complement(), by_category);
    const bool shorter = not_in.ranges < in.ranges && !not_in.members.empty();
    return shorter ? fmt::format("[^{}]", not_in.members) : fmt::format("[{}]", in.members);
  }

  void write_set(const CodePointSet& set, Options options) {
    out_ += options.ignore_case ? fmt::format("(?-i:{})", spelled(set)) : spelled(set);
  }

  void read_class(Options options, int depth) {
    ClassReader reader(in_, depth);
    const CodePointSet set = reader.read();
    if (!options.ignore_case || set.empty()) {
      out_ += spelled(reader.negated() ? set.complement() : set);
    } else {
      write_class_of_all_cases(set, reader.negated(), options.look_behind);
    }
  }

  void read_escape(Options options) {
    if (auto set = read_set_escape(in_)) return write_set(*set, options);
    const char c = in_.peek();
    if (c >= '1' && c <= '9') {
      const size_t begin = in_.position();
      const uint32_t number = *in_.number(10, 1, 3);
      if (number <= 9 || number <= groups_) return void(out_ += fmt::format("\\g{{{}}}", number));
      if (c > '7') in_.fail("refers to a group that is not there");
      in_.go_back_to(begin);  // an octal number
    }
    if (c == 'b' || c == 'B') {
      in_.skip(1);
      const std::string word = spelled(*named_set("\\w"));
      const std::string_view behind = c == 'b' ? "(?!" : "(?=", before = c == 'b' ? "(?=" : "(?!";
      out_ += fmt::format("(?-i:(?<={0}){1}{0})|(?<!{0}){2}{0}))", word, behind, before);
      return;
    }
    if (c != '\0' && std::string_view("AZzGKRX").find(c) != std::string_view::npos) {
      in_.skip(1);
      out_ += {'\\', c};
      return;
    }
    if (in_.take("N")) return void(out_ += "[^\\n]");
    if (in_.take("O")) return void(out_ += "(?s:.)");
    if (c == 'y' || c == 'Y') in_.fail("has a text segment boundary (\\y)");
    if (in_.take("k<")) return void(out_ += reference(in_.until(">")));
    if (in_.take("k'")) return void(out_ += reference(in_.until("'")));
    if (in_.take("g<")) return void(out_ += fmt::format("\\g<{}>", in_.until(">")));
    write_character(read_character_escape(in_));
  }

  static std::string reference(std::string_view name) {
    const bool number = !name.empty() && name.find_first_not_of("-0123456789") == std::string_view::npos;
    return number ? fmt::format("\\g{{{}}}", name) : fmt::format("\\k<{}>", name);
  }

  PatternReader in_;
  std::string out_;
  uint32_t groups_ = 0;
};

}  // namespace

std::string pcre2_pattern(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).translate();
}

}  // namespace linnet
