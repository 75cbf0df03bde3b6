// The syntax of a template: its tokens, and the tree that they make.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace linnet::jinja {

enum class TokenKind {
  kText,
  kOutput,
  kOutputEnd,
  kTag,
  kTagEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kSign,
  kEnd
};

struct Token {
  TokenKind kind;
  std::string text;
  int line;  // from 1
};

/// White space around tags is gone as Jinja's trim_blocks and lstrip_blocks have it, and as - and + say.
/// Throws Error on what is not closed, or is no token.
std::vector<Token> tokenize(std::string_view source, const std::string& where);

enum class NodeKind {
  kConstant,     // constant
  kName,         // text
  kList,         // children
  kTuple,        // children
  kDict,         // children: key, value, …
  kAttribute,    // children: object; text
  kSubscript,    // children: object, index
  kSlice,        // children: object, start, stop, step; each but the first may be null
  kCall,         // children: function, arguments …, the last of them by the names of words
  kFilter,       // text; children: value, arguments … as kCall's
  kTest,         // text; the same
  kNot,          // children: one
  kNegative,     // children: one
  kPositive,     // children: one
  kBinary,       // text; children: two
  kCompare,      // words: the operators between children
  kAnd,          // children: two
  kOr,           // children: two
  kConditional,  // children: value, condition, else or null
};

struct Node;
using NodePtr = std::unique_ptr<Node>;

struct Node {
  NodeKind kind;
  int line;
  std::string text = {};
  Value constant = {};
  std::vector<NodePtr> children = {};
  std::vector<std::string> words = {};
  int depth = 1;
};

enum class TagKind {
  kText,        // text
  kOutput,      // nodes: one
  kIf,          // nodes: conditions; bodies: one each, then that of else if there is one
  kFor,         // nodes: target, iterable, filter or null; bodies: one, and that of else if there is one;
                // text: "recursive", or empty
  kSet,         // nodes: target, value
  kSetBlock,    // nodes: target, value in terms of kCaptured; bodies: one
  kFilter,      // nodes: value in terms of kCaptured; bodies: one
  kWith,        // nodes: target, value, …; bodies: one
  kMacro,       // text; nodes: name, default or null, …; bodies: one
  kCall,        // text; nodes: name, default or null, … of the block, then the call; bodies: one
  kGeneration,  // bodies: one
  kBreak,
  kContinue,
};

struct Statement {
  TagKind kind;
  int line;
  std::string text = {};
  std::vector<NodePtr> nodes = {};
  std::vector<std::vector<Statement>> bodies = {};
};
using Body = std::vector<Statement>;

/// The name under which a block's text stands while its filters are applied; no template can say it.
inline const std::string kCaptured = "{captured}";

/// Throws Error on what is no template, and on tags, filters and tests that are not known.
Body parse(std::string_view source, const std::string& where);

}  // namespace linnet::jinja
