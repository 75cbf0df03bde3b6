// Reads expressions: the part of the parser that statements stand on.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "text/jinja/builtins.h"
#include "text/jinja/syntax.h"

namespace linnet::jinja {

class ExpressionParser {
 protected:
  static constexpr int kMostParsed = 100;  // brackets, blocks and operators inside one another

  ExpressionParser(std::string_view source, const std::string& where)
      : where_(where), tokens_(tokenize(source, where)) {}

  /// One level deeper while it lives.
  class Deeper {
   public:
    explicit Deeper(ExpressionParser& parser) : parser_(parser) {
      if (++parser.depth_ > kMostParsed) parser.too_deep();
    }
    ~Deeper() { --parser_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    ExpressionParser& parser_;
  };

  // Tokens.

  const Token& now() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool is_sign(std::string_view text) const { return now().kind == TokenKind::kSign && now().text == text; }
  bool is_word(std::string_view text) const { return now().kind == TokenKind::kName && now().text == text; }
  bool skip_sign(std::string_view text) { return is_sign(text) && (++at_, true); }
  bool skip_word(std::string_view text) { return is_word(text) && (++at_, true); }
  void expect_sign(std::string_view text) {
    if (!skip_sign(text)) unexpected(fmt::format("\"{}\"", text));
  }
  std::string expect_name() {
    if (now().kind != TokenKind::kName) unexpected("a name");
    return take().text;
  }
  void expect(TokenKind kind, std::string_view text) {
    if (now().kind != kind) unexpected(text);
    ++at_;
  }

  [[noreturn]] void fail(std::string_view what, std::string_view expected = {}) const {
    throw Error(fmt::format("{}, line {}", where_, now().line), what, expected);
  }
  [[noreturn]] void unexpected(std::string_view expected) const {
    const bool end = now().kind == TokenKind::kEnd || now().text.empty();
    fail(end ? "the tag or the template ends" : fmt::format("\"{}\"", printable(now().text, 60)), expected);
  }
  [[noreturn]] void too_deep() const {
    fail("nested too deeply", fmt::format("at most {} levels", kMostParsed));
  }
  [[noreturn]] void fail_at_tag() const {
    fail(fmt::format("tag \"{}\"", printable(next().text, 60)), "one that belongs here");
  }

  // Nodes.

  NodePtr node(NodeKind kind, std::string text = {}, std::vector<NodePtr> children = {}) {
    auto made = std::make_unique<Node>(Node{kind, now().line, std::move(text)});
    for (NodePtr& child : children) add(*made, std::move(child));
    return made;
  }
  NodePtr node(NodeKind kind, std::string text, NodePtr first, NodePtr second = nullptr) {
    auto made = node(kind, std::move(text));
    add(*made, std::move(first));
    if (second) add(*made, std::move(second));
    return made;
  }
  void add(Node& parent, NodePtr child) {
    if (child) parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kMostParsed) too_deep();  // a + a + … is deep without a bracket
    parent.children.push_back(std::move(child));
  }
  NodePtr constant(Value value) {
    auto made = node(NodeKind::kConstant);
    made->constant = std::move(value);
    return made;
  }

  // Expressions, loosest first.

  NodePtr expression() {
    const Deeper deeper(*this);
    NodePtr value = disjunction();
    while (skip_word("if")) {
      auto made = node(NodeKind::kConditional, "", std::move(value), disjunction());
      add(*made, skip_word("else") ? expression() : nullptr);
      value = std::move(made);
    }
    return value;
  }

  NodePtr disjunction() {
    NodePtr left = conjunction();
    while (skip_word("or")) left = node(NodeKind::kOr, "", std::move(left), conjunction());
    return left;
  }

  NodePtr conjunction() {
    NodePtr left = negation();
    while (skip_word("and")) left = node(NodeKind::kAnd, "", std::move(left), negation());
    return left;
  }

  NodePtr negation() {
    const Deeper deeper(*this);
    if (skip_word("not")) return node(NodeKind::kNot, "", negation());
    return comparison();
  }

  NodePtr comparison() {
    NodePtr first = sum();
    NodePtr made;
    while (true) {
      std::string sign;
      if (now().kind == TokenKind::kSign) {
        for (const char* each : {"==", "!=", "<=", ">=", "<", ">"}) {
          if (now().text == each) sign = each;
        }
        if (sign.empty()) break;
        ++at_;
      } else if (skip_word("in")) {
        sign = "in";
      } else if (is_word("not") && next().kind == TokenKind::kName && next().text == "in") {
        at_ += 2;
        sign = "not in";
      } else {
        break;
      }
      if (!made) made = node(NodeKind::kCompare, "", std::move(first));
      made->words.push_back(sign);
      add(*made, sum());
    }
    return made ? std::move(made) : std::move(first);
  }

  /// Operands of one precedence, from the left.
  template <typename Operand>
  NodePtr binary(std::initializer_list<std::string_view> signs, Operand operand) {
    NodePtr left = operand();
    while (now().kind == TokenKind::kSign &&
           std::find(signs.begin(), signs.end(), now().text) != signs.end()) {
      const std::string sign = take().text;
      left = node(NodeKind::kBinary, sign, std::move(left), operand());
    }
    return left;
  }
  NodePtr sum() {
    return binary({"+", "-"}, [&] { return concatenation(); });
  }
  NodePtr concatenation() {
    return binary({"~"}, [&] { return product(); });
  }
  NodePtr product() {
    return binary({"*", "/", "//", "%"}, [&] { return power(); });
  }
  NodePtr power() {
    return binary({"**"}, [&] { return unary(true); });
  }

  NodePtr unary(bool filtered) {
    const Deeper deeper(*this);
    NodePtr made;
    if (skip_sign("-")) {
      made = node(NodeKind::kNegative, "", unary(false));
    } else if (skip_sign("+")) {
      made = node(NodeKind::kPositive, "", unary(false));
    } else {
      made = primary();
    }
    made = postfix(std::move(made));
    return filtered ? filters(std::move(made)) : std::move(made);
  }

  NodePtr primary() {
    switch (now().kind) {
      case TokenKind::kName:
        return name_or_literal();
      case TokenKind::kString: {
        std::string text;
        while (now().kind == TokenKind::kString) text += take().text;
        return constant({std::make_shared<const std::string>(std::move(text))});
      }
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        return constant(number());
      case TokenKind::kText:
      case TokenKind::kOutput:
      case TokenKind::kOutputEnd:
      case TokenKind::kTag:
      case TokenKind::kTagEnd:
      case TokenKind::kSign:
      case TokenKind::kEnd:
        break;
    }
    if (skip_sign("(")) {
      if (skip_sign(")")) return node(NodeKind::kTuple);
      NodePtr inner = tuple(true, ")");
      expect_sign(")");
      return inner;
    }
    if (skip_sign("[")) return list();
    if (skip_sign("{")) return dict();
    unexpected("an expression");
  }

  NodePtr name_or_literal() {
    const std::string name = take().text;
    if (name == "true" || name == "True") return constant({true});
    if (name == "false" || name == "False") return constant({false});
    if (name == "none" || name == "None") return constant({None{}});
    return node(NodeKind::kName, name);
  }

  Value number() {
    const Token token = now();
    Value value;
    const char *begin = token.text.data(), *end = begin + token.text.size();
    if (token.kind == TokenKind::kInteger) {
      int64_t whole = 0;
      if (std::from_chars(begin, end, whole).ec != std::errc()) fail("a number out of range", "64 bits");
      value = {whole};
    } else {
      double real = 0;
      if (std::from_chars(begin, end, real).ec != std::errc()) fail("a number out of range", "64 bits");
      value = {real};
    }
    ++at_;
    return value;
  }

  NodePtr list() {
    auto made = node(NodeKind::kList);
    while (!skip_sign("]")) {
      if (!made->children.empty()) {
        expect_sign(",");
        if (skip_sign("]")) break;
      }
      add(*made, expression());
    }
    return made;
  }

  NodePtr dict() {
    auto made = node(NodeKind::kDict);
    while (!skip_sign("}")) {
      if (!made->children.empty()) {
        expect_sign(",");
        if (skip_sign("}")) break;
      }
      add(*made, expression());
      expect_sign(":");
      add(*made, expression());
    }
    return made;
  }

  /// One expression, or several with commas between them: a tuple.
  NodePtr tuple(bool conditional, std::string_view end = {}) {
    const auto one = [&] { return conditional ? expression() : disjunction(); };
    NodePtr first = one();
    if (!is_sign(",")) return first;
    auto made = node(NodeKind::kTuple, "", std::move(first));
    while (skip_sign(",")) {
      const bool over = now().kind == TokenKind::kTagEnd || now().kind == TokenKind::kOutputEnd ||
                        (!end.empty() && is_sign(end));
      if (over) break;
      add(*made, one());
    }
    return made;
  }

  NodePtr postfix(NodePtr value) {
    while (true) {
      if (skip_sign(".")) {
        if (now().kind == TokenKind::kInteger) {
          value = node(NodeKind::kSubscript, "", std::move(value), constant(number()));
        } else {
          const std::string name = expect_name();
          value = node(NodeKind::kAttribute, name, std::move(value));
        }
      } else if (skip_sign("[")) {
        value = subscripted(std::move(value));
      } else if (is_sign("(")) {
        value = call_of(std::move(value));
      } else {
        return value;
      }
    }
  }

  NodePtr call_of(NodePtr function) {
    auto made = node(NodeKind::kCall, "", std::move(function));
    arguments(*made);
    return made;
  }

  NodePtr subscripted(NodePtr object) {
    std::vector<NodePtr> parts(1);
    bool sliced = false;
    while (!skip_sign("]")) {
      if (skip_sign(":")) {
        sliced = true;
        parts.emplace_back();
        if (parts.size() > 3) unexpected("at most two colons");
      } else {
        if (parts.back()) unexpected("\"]\"");
        parts.back() = expression();
      }
    }
    if (!sliced) {
      if (!parts[0]) unexpected("an index");
      return node(NodeKind::kSubscript, "", std::move(object), std::move(parts[0]));
    }
    auto made = node(NodeKind::kSlice, "", std::move(object));
    parts.resize(3);
    for (NodePtr& part : parts) add(*made, std::move(part));
    return made;
  }

  void arguments(Node& call) {
    const Deeper deeper(*this);
    expect_sign("(");
    for (bool first = true; !skip_sign(")"); first = false) {
      if (!first) {
        expect_sign(",");
        if (skip_sign(")")) break;
      }
      const bool named =
          now().kind == TokenKind::kName && next().kind == TokenKind::kSign && next().text == "=";
      if (named) {
        call.words.push_back(take().text);
        ++at_;
      } else if (!call.words.empty()) {
        unexpected("an argument by name, as those before it");
      }
      add(call, expression());
    }
  }

  NodePtr filters(NodePtr value) {
    while (true) {
      if (skip_sign("|")) {
        value = filter(std::move(value));
      } else if (skip_word("is")) {
        value = test(std::move(value));
      } else if (is_sign("(")) {
        value = call_of(std::move(value));
      } else {
        return value;
      }
    }
  }

  /// The name of a filter or test and its arguments: in brackets, or one behind a test.
  NodePtr applied(NodeKind kind, std::string_view what, bool (*known)(std::string_view), NodePtr value) {
    if (now().kind == TokenKind::kName && !known(now().text)) {
      fail(fmt::format("unknown {} \"{}\"", what, printable(now().text, 60)), "one that Linnet knows");
    }
    const std::string name = expect_name();
    auto made = node(kind, name, std::move(value));
    if (is_sign("(")) {
      arguments(*made);
    } else if (kind == NodeKind::kTest && begins_an_argument()) {
      add(*made, postfix(primary()));
    }
    return made;
  }

  NodePtr filter(NodePtr value) { return applied(NodeKind::kFilter, "filter", has_filter, std::move(value)); }

  NodePtr test(NodePtr value) {
    const bool negated = skip_word("not");
    auto made = applied(NodeKind::kTest, "test", has_test, std::move(value));
    return negated ? node(NodeKind::kNot, "", std::move(made)) : std::move(made);
  }

  bool begins_an_argument() const {
    const TokenKind kind = now().kind;
    if (kind == TokenKind::kName) {
      for (const char* word : {"else", "or", "and", "is", "if", "not", "in"}) {
        if (now().text == word) return false;
      }
      return true;
    }
    return kind == TokenKind::kString || kind == TokenKind::kInteger || kind == TokenKind::kFloat ||
           is_sign("[") || is_sign("{");
  }

  const std::string& where_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace linnet::jinja
