#include "text/pre_tokenizer.h"

#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/regex.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet {
namespace {

/// What becomes of the parts that a pattern matches.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// A part between or in matches.
struct Part {
  size_t begin, end;
  bool matched;
};
/// Calls part(…) for all parts of a text in order, matched or not, covering it.
using FindParts = std::function<void(std::string_view, const std::function<void(Part)>&)>;

Behavior behavior_of(const JsonView& field, std::string_view otherwise) {
  const std::string name = field.string(otherwise);
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  field.fail(fmt::format("behavior \"{}\"", printable(name, 40)),
             "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

/// Appends to `out` what `behavior` makes of the parts of one piece, which begins at `base`.
class PartsJoiner {
 public:
  PartsJoiner(Behavior behavior, size_t base, std::vector<Piece>& out)
      : behavior_(behavior), base_(base), begin_(out.size()), out_(out) {}

  void take(Part part) {
    const bool joins = out_.size() > begin_ && joins_last(part.matched);
    if (joins)
      out_.back().end = base_ + part.end;
    else if (behavior_ != Behavior::kRemoved || !part.matched)
      out_.push_back({base_ + part.begin, base_ + part.end});
    last_matched_ = part.matched;
  }

 private:
  bool joins_last(bool matched) const {
    switch (behavior_) {
      case Behavior::kMergedWithPrevious:
        return matched && !last_matched_;
      case Behavior::kMergedWithNext:
        return !matched && last_matched_;
      case Behavior::kContiguous:
        return matched == last_matched_;
      case Behavior::kRemoved:
      case Behavior::kIsolated:
        break;
    }
    return false;
  }

  Behavior behavior_;
  size_t base_, begin_;
  std::vector<Piece>& out_;
  bool last_matched_ = false;
};

void split(Pieces& pieces, Behavior behavior, const FindParts& find_parts) {
  std::vector<Piece> out;
  out.reserve(pieces.pieces.size() + pieces.text.size() / 4);
  for (const Piece& piece : pieces.pieces) {
    PartsJoiner joiner(behavior, piece.begin, out);
    find_parts(pieces.view(piece), [&](Part part) { joiner.take(part); });
  }
  // Empty matches part what is around them; they are no pieces.
  std::erase_if(out, [](const Piece& piece) { return piece.begin == piece.end; });
  // What begins the text may have been taken away.
  pieces.first = pieces.first && !out.empty() && out.front().begin == pieces.pieces.front().begin;
  pieces.pieces = std::move(out);
}

/// Parts by a pattern; `invert` swaps matched and unmatched.
FindParts by_regex(std::shared_ptr<const Regex> regex, bool invert) {
  return [regex = std::move(regex), invert](std::string_view text, const std::function<void(Part)>& take) {
    size_t last = 0;
    regex->for_each_match(text, [&](size_t begin, size_t end) {
      if (begin > last) take({last, begin, invert});
      take({begin, end, !invert});
      last = end;
    });
    if (last < text.size()) take({last, text.size(), invert});
  };
}

/// Each code point that `matches` is a match of its own.
FindParts by_character(std::function<bool(char32_t)> matches) {
  return [matches = std::move(matches)](std::string_view text, const std::function<void(Part)>& take) {
    size_t last = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (!matches(next_code_point(text, at))) continue;
      if (begin > last) take({last, begin, false});
      take({begin, at, true});
      last = at;
    }
    if (last < text.size()) take({last, text.size(), false});
  };
}

/// Rewrites every piece: rewrite(piece, its index, out) appends what it becomes.
template <typename Rewrite>
void rewrite_pieces(Pieces& pieces, const Rewrite& rewrite) {
  std::string text;
  text.reserve(pieces.text.size() + pieces.text.size() / 4 + 8);
  for (size_t i = 0; i < pieces.pieces.size(); ++i) {
    Piece& piece = pieces.pieces[i];
    const size_t begin = text.size();
    rewrite(pieces.view(piece), i, text);
    piece = {begin, text.size()};
  }
  pieces.text = std::move(text);
}

std::function<void(Pieces&)> byte_level(const JsonView& step) {
  const bool prefix_space = step["add_prefix_space"].boolean(true);
  std::shared_ptr<const Regex> regex;
  if (step["use_regex"].boolean(true)) regex = std::make_shared<const Regex>(kByteLevelPattern, step.where());
  return [prefix_space, regex](Pieces& pieces) {
    if (prefix_space) {
      rewrite_pieces(pieces, [](std::string_view piece, size_t, std::string& out) {
        if (piece.front() != ' ') out += ' ';
        out += piece;
      });
    }
    if (regex) split(pieces, Behavior::kIsolated, by_regex(regex, false));
    rewrite_pieces(
        pieces, [](std::string_view piece, size_t, std::string& out) { append_byte_characters(out, piece); });
  };
}

std::function<void(Pieces&)> metaspace(const JsonView& step) {
  const std::string mark = step["replacement"].string("▁");
  size_t one = 0;
  if (!mark.empty()) next_code_point(mark, one);
  if (mark.empty() || one != mark.size()) step["replacement"].fail("not one character", "one character");
  const bool old_prefix = step["add_prefix_space"].boolean(true);
  const std::string scheme = step["prepend_scheme"].string(old_prefix ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    step["prepend_scheme"].fail(printable(scheme, 40), "always, first or never");
  }
  const bool cut = step["split"].boolean(true);
  return [mark, scheme, cut](Pieces& pieces) {
    rewrite_pieces(pieces, [&](std::string_view piece, size_t index, std::string& out) {
      const bool wanted = scheme == "always" || (scheme == "first" && pieces.first && index == 0);
      if (wanted && piece.front() != ' ' && !piece.starts_with(mark)) out += mark;
      for (const char c : piece) {
        if (c == ' ')
          out += mark;
        else
          out += c;
      }
    });
    size_t at = 0;
    const char32_t character = next_code_point(mark, at);
    if (cut)
      split(pieces, Behavior::kMergedWithNext, by_character([=](char32_t c) { return c == character; }));
  };
}

std::function<void(Pieces&)> split_step(const JsonView& step) {
  const JsonView pattern = step.at("pattern");
  const JsonView literal = pattern["String"];
  const JsonView expression = literal.is_null() ? pattern.at("Regex") : literal;
  const std::string text = literal.is_null() ? expression.string() : Regex::escape(literal.string());
  const Behavior behavior = behavior_of(step["behavior"], "Isolated");
  if (text.empty()) return [](Pieces&) {};
  const FindParts parts =
      by_regex(std::make_shared<const Regex>(text, expression.where()), step["invert"].boolean(false));
  return [behavior, parts](Pieces& pieces) { split(pieces, behavior, parts); };
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonView& field) {
  if (!field.is_null()) add(field);
}

void PreTokenizer::add(const JsonView& step) {
  const std::string type = step.at("type").string();
  const auto splitting = [&](Behavior behavior, FindParts parts) {
    steps_.push_back(
        [behavior, parts = std::move(parts)](Pieces& pieces) { split(pieces, behavior, parts); });
  };
  if (type == "Sequence") {
    const JsonView list = step.at("pretokenizers");
    for (size_t i = 0; i < list.size(); ++i) add(list.at(i));
    return;
  }
  if (type == "ByteLevel") return steps_.push_back(byte_level(step));
  if (type == "Metaspace") return steps_.push_back(metaspace(step));
  if (type == "Split") return steps_.push_back(split_step(step));
  if (type == "BertPreTokenizer") {
    splitting(Behavior::kRemoved, by_character(&is_space));
    return splitting(Behavior::kIsolated, by_character(&is_punctuation));
  }
  if (type == "WhitespaceSplit") return splitting(Behavior::kRemoved, by_character(&is_space));
  if (type == "Whitespace") {  // \w and \s of Rust's regular expressions, not Oniguruma's
    const char* parts = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+)"
                        R"(|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\s]+)";
    return splitting(Behavior::kRemoved, by_regex(std::make_shared<const Regex>(parts, step.where()), true));
  }
  if (type == "Punctuation") {
    return splitting(behavior_of(step["behavior"], "Isolated"), by_character(&is_punctuation));
  }
  if (type == "Digits") {
    const bool each = step["individual_digits"].boolean(false);
    return splitting(each ? Behavior::kIsolated : Behavior::kContiguous, by_character(&is_number));
  }
  if (type == "CharDelimiterSplit") {
    const std::string text = step.at("delimiter").string();
    size_t at = 0;
    const char32_t delimiter = text.empty() ? 0 : next_code_point(text, at);
    if (text.empty() || at != text.size()) step["delimiter"].fail("not one character", "one character");
    return splitting(Behavior::kRemoved, by_character([=](char32_t c) { return c == delimiter; }));
  }
  step.fail(fmt::format("pre-tokenizer \"{}\"", printable(type, 40)),
            "Sequence, ByteLevel, Metaspace, Split, Whitespace, WhitespaceSplit, Punctuation, Digits, "
            "CharDelimiterSplit or BertPreTokenizer");
}

void PreTokenizer::apply(Pieces& pieces) const {
  for (const auto& step : steps_) step(pieces);
}

}  // namespace linnet
