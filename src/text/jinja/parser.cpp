#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/jinja/expressions.h"
#include "text/jinja/syntax.h"

namespace linnet::jinja {
namespace {

class Parser : private ExpressionParser {
 public:
  Parser(std::string_view source, const std::string& where) : ExpressionParser(source, where) {}

  Body run() {
    Body body = statements({});
    if (now().kind != TokenKind::kEnd) fail_at_tag();
    return body;
  }

 private:
  using Ends = std::vector<std::string_view>;

  /// Up to the tag of one of `ends`, which is the next token; or up to the end of the template.
  Body statements(const Ends& ends) {
    const Deeper deeper(*this);
    Body body;
    while (now().kind != TokenKind::kEnd) {
      if (now().kind == TokenKind::kText) {
        body.push_back({TagKind::kText, now().line, now().text});
        ++at_;
      } else if (now().kind == TokenKind::kOutput) {
        ++at_;
        Statement output{TagKind::kOutput, now().line};
        output.nodes.push_back(tuple(true));
        expect(TokenKind::kOutputEnd, "}}");
        body.push_back(std::move(output));
      } else {
        if (std::find(ends.begin(), ends.end(), next().text) != ends.end()) return body;
        ++at_;
        body.push_back(statement());
      }
    }
    return body;
  }

  Body block(const Ends& ends) {
    expect(TokenKind::kTagEnd, "%}");
    Body body = statements(ends);
    if (now().kind == TokenKind::kEnd)
      fail("the template ends within a block", fmt::format("{}", ends.back()));
    ++at_;  // {%
    return body;
  }
  /// A block whose end has a tag of its own.
  Body closed_block(std::string_view end) {
    Body body = block({end});
    ++at_;
    return body;
  }

  Statement statement() {
    Statement made{TagKind::kIf, now().line};
    const std::string tag = expect_name();
    if (tag == "if") {
      if_statement(made);
    } else if (tag == "for") {
      for_statement(made);
    } else if (tag == "set") {
      set_statement(made);
    } else if (tag == "macro") {
      macro_statement(made);
    } else if (tag == "call") {
      call_statement(made);
    } else if (tag == "with") {
      with_statement(made);
    } else if (tag == "filter") {
      made.kind = TagKind::kFilter;
      made.nodes.push_back(filters(filter(node(NodeKind::kName, kCaptured))));
      made.bodies.push_back(closed_block("endfilter"));
    } else if (tag == "generation") {
      made.kind = TagKind::kGeneration;
      made.bodies.push_back(closed_block("endgeneration"));
    } else if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail(fmt::format("{} outside of a loop", tag), "it inside of one");
      made.kind = tag == "break" ? TagKind::kBreak : TagKind::kContinue;
    } else {
      --at_;
      fail(fmt::format("unknown tag \"{}\"", printable(tag, 60)), "one that Linnet knows");
    }
    expect(TokenKind::kTagEnd, "%}");
    return made;
  }

  void if_statement(Statement& made) {
    made.nodes.push_back(tuple(false));
    while (true) {
      made.bodies.push_back(block({"elif", "else", "endif"}));
      if (skip_word("elif")) {
        made.nodes.push_back(tuple(false));
      } else if (skip_word("else")) {
        made.bodies.push_back(closed_block("endif"));
        return;
      } else {
        ++at_;
        return;
      }
    }
  }

  void for_statement(Statement& made) {
    made.kind = TagKind::kFor;
    made.nodes.push_back(target(false));
    if (!skip_word("in")) unexpected("\"in\"");
    made.nodes.push_back(tuple(false));
    made.nodes.push_back(skip_word("if") ? expression() : nullptr);
    if (skip_word("recursive")) made.text = "recursive";
    ++loops_;
    made.bodies.push_back(block({"else", "endfor"}));
    --loops_;
    const bool otherwise = skip_word("else");
    if (!otherwise) ++at_;
    if (otherwise) made.bodies.push_back(closed_block("endfor"));
  }

  void set_statement(Statement& made) {
    made.kind = TagKind::kSet;
    made.nodes.push_back(target(true));
    if (skip_sign("=")) {
      made.nodes.push_back(tuple(true));
      return;
    }
    made.kind = TagKind::kSetBlock;
    made.nodes.push_back(filters(node(NodeKind::kName, kCaptured)));
    made.bodies.push_back(closed_block("endset"));
  }

  void with_statement(Statement& made) {
    made.kind = TagKind::kWith;
    while (now().kind != TokenKind::kTagEnd) {
      if (!made.nodes.empty()) expect_sign(",");
      made.nodes.push_back(target(false));
      expect_sign("=");
      made.nodes.push_back(expression());
    }
    made.bodies.push_back(closed_block("endwith"));
  }

  void macro_statement(Statement& made) {
    made.kind = TagKind::kMacro;
    made.text = expect_name();
    expect_sign("(");
    parameters(made);
    made.bodies.push_back(function_block("endmacro"));
  }

  void call_statement(Statement& made) {
    made.kind = TagKind::kCall;
    made.text = "caller";
    if (skip_sign("(")) parameters(made);
    made.nodes.push_back(expression());
    if (made.nodes.back()->kind != NodeKind::kCall) unexpected("the call of a macro");
    made.bodies.push_back(function_block("endcall"));
  }

  /// Behind the ( of a macro: name, name = default, …
  void parameters(Statement& made) {
    while (!skip_sign(")")) {
      if (!made.nodes.empty()) expect_sign(",");
      const std::string name = expect_name();
      made.nodes.push_back(node(NodeKind::kName, name));
      made.nodes.push_back(skip_sign("=") ? expression() : nullptr);
    }
  }

  /// A block that runs elsewhere: a loop around it is none of its own.
  Body function_block(std::string_view end) {
    const int outside = std::exchange(loops_, 0);
    Body body = closed_block(end);
    loops_ = outside;
    return body;
  }

  /// What a value is bound to: a name, names, or an attribute of a namespace.
  NodePtr target(bool attributes) {
    const bool bracket = skip_sign("(");
    const auto one = [&]() -> NodePtr {
      const std::string name = expect_name();
      for (const char* literal : {"true", "True", "false", "False", "none", "None"}) {
        if (name == literal) fail(fmt::format("\"{}\" set", name), "a name");
      }
      auto made = node(NodeKind::kName, name);
      if (!attributes || !skip_sign(".")) return made;
      const std::string attribute = expect_name();
      return node(NodeKind::kAttribute, attribute, std::move(made));
    };
    NodePtr first = one();
    if (is_sign(",")) {
      first = node(NodeKind::kTuple, "", std::move(first));
      while (skip_sign(",")) {
        if (now().kind != TokenKind::kName || is_word("in")) break;
        add(*first, one());
      }
    }
    if (bracket) expect_sign(")");
    return first;
  }

  int loops_ = 0;
};

}  // namespace

Body parse(std::string_view source, const std::string& where) { return Parser(source, where).run(); }

}  // namespace linnet::jinja
