#include "text/jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>

namespace linnet::jinja {
namespace {

/// One level of evaluation deeper, and at a line, while it lives.
class Level {
 public:
  Level(Work& work, int line) : work_(work), before_(work.line()) {
    work.at_line(line);
    work.step();
    work.enter();
  }
  ~Level() {
    work_.leave();
    work_.at_line(before_);
  }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Work& work_;
  int before_;
};

/// Lends a scope while it lives: what is called later must not find it any more.
class Lent {
 public:
  Lent(const Scope*& place, const Scope& scope) : place_(place) { place = &scope; }
  ~Lent() { place_ = nullptr; }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;

 private:
  const Scope*& place_;
};

Value cycled(const Loop& loop, const Arguments& arguments, Work& work) {
  if (arguments.positional.empty()) work.fail("loop.cycle of nothing", "values");
  return arguments.positional[loop.index % arguments.positional.size()];
}

}  // namespace

std::string Interpreter::render(const Body& body, std::map<std::string, Value> variables) {
  for (const std::string_view function : kFunctions) {
    globals_.values[function] = work_.call_of(std::string(function), std::nullopt);
  }
  for (const auto& [name, value] : variables) globals_.values[name] = value;
  std::string out;
  run(body, root_, out);
  return out;
}

Interpreter::Flow Interpreter::run(const Body& body, Scope& scope, std::string& out) {
  for (const Statement& statement : body) {
    const Level level(work_, statement.line);
    const Flow flow = run_one(statement, scope, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_one(const Statement& statement, Scope& scope, std::string& out) {
  switch (statement.kind) {
    case TagKind::kText:
      work_.grow(statement.text.size());
      out += statement.text;
      break;
    case TagKind::kOutput:
      print(evaluate(*statement.nodes[0], scope), out);
      break;
    case TagKind::kIf:
      return run_if(statement, scope, out);
    case TagKind::kFor:
      return run_for(statement, scope, out);
    case TagKind::kSet:
      bind(*statement.nodes[0], evaluate(*statement.nodes[1], scope), scope);
      break;
    case TagKind::kSetBlock:
      bind(*statement.nodes[0], captured(statement, *statement.nodes[1], scope), scope);
      break;
    case TagKind::kFilter:
      print(captured(statement, *statement.nodes[0], scope), out);
      break;
    case TagKind::kWith: {
      Scope inner{&scope};
      for (size_t i = 0; i < statement.nodes.size(); i += 2) {
        bind(*statement.nodes[i], evaluate(*statement.nodes[i + 1], scope), inner);
      }
      return run(statement.bodies[0], inner, out);
    }
    case TagKind::kMacro:
      scope.values[statement.text] = {
          std::make_shared<const Callable>(Callable{statement.text, std::nullopt, &statement})};
      break;
    case TagKind::kCall:
      return run_call(statement, scope, out);
    case TagKind::kGeneration: {
      Scope inner{&scope};
      return run(statement.bodies[0], inner, out);
    }
    case TagKind::kBreak:
      return Flow::kBreak;
    case TagKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_if(const Statement& statement, Scope& scope, std::string& out) {
  for (size_t i = 0; i < statement.nodes.size(); ++i) {
    if (truth(evaluate(*statement.nodes[i], scope))) return run(statement.bodies[i], scope, out);
  }
  if (statement.bodies.size() > statement.nodes.size()) return run(statement.bodies.back(), scope, out);
  return Flow::kNext;
}

/// What a loop goes over: its filter sees the target, not `loop`.
Values Interpreter::filtered(const Statement& statement, const Value& over, const Scope& scope) {
  Values items = items_of(over, work_);
  if (!statement.nodes[2]) return items;
  Values kept;
  for (const Value& item : items) {
    Scope inner{&scope};
    bind(*statement.nodes[0], item, inner);
    if (truth(evaluate(*statement.nodes[2], inner))) kept.push_back(item);
  }
  return kept;
}

Interpreter::Flow Interpreter::run_for(const Statement& statement, Scope& scope, std::string& out) {
  return iterate(statement, evaluate(*statement.nodes[1], scope), 1, scope, out);
}

/// A loop, or at a `depth` above 1 what a call of a recursive one goes over.
Interpreter::Flow Interpreter::iterate(const Statement& statement, const Value& over, size_t depth,
                                       const Scope& scope, std::string& out) {
  const auto loop = std::make_shared<Loop>();
  loop->items = work_.list(filtered(statement, over, scope));
  loop->depth = depth;
  loop->recursive = statement.text.empty() ? nullptr : &statement;
  const Lent lent(loop->scope, scope);
  const Values& items = loop->items.sequence()->items;
  bool finished =
      false;  // an iteration came to its end: `else` is for where none did, continue and break too
  for (; loop->index < items.size(); ++loop->index) {
    Scope inner{&scope};  // what an iteration sets is gone with it
    inner.values["loop"] = {std::shared_ptr<const Loop>(loop)};
    bind(*statement.nodes[0], items[loop->index], inner);
    const Flow flow = run(statement.bodies[0], inner, out);
    if (flow == Flow::kBreak) break;
    finished = finished || flow == Flow::kNext;
  }
  if (finished || statement.bodies.size() == 1) return Flow::kNext;
  Scope inner{&scope};
  return run(statement.bodies[1], inner, out);
}

/// A macro that finds the block as caller().
Interpreter::Flow Interpreter::run_call(const Statement& statement, Scope& scope, std::string& out) {
  const Node& call = *statement.nodes.back();
  const Value function = evaluate(*call.children[0], scope);
  if (function.callable() == nullptr || function.callable()->macro == nullptr) {
    work_.fail(fmt::format("a call block of {}", kind_of(function)), "a macro");
  }
  const auto caller = std::make_shared<Callable>(Callable{statement.text, std::nullopt, &statement});
  const Lent lent(caller->scope, scope);
  const Arguments arguments = arguments_of(call, scope);
  print(call_macro(*function.callable(), arguments, {std::shared_ptr<const Callable>(caller)}), out);
  return Flow::kNext;
}

/// `value`, in which kCaptured stands for the text of the statement's body.
Value Interpreter::captured(const Statement& statement, const Node& value, const Scope& scope) {
  Scope inner{&scope};
  std::string text;
  run(statement.bodies[0], inner, text);
  Scope filters{&scope};
  filters.values[kCaptured] = work_.string(std::move(text));
  return evaluate(value, filters);
}

void Interpreter::bind(const Node& target, const Value& value, Scope& scope) {
  if (target.kind == NodeKind::kName) {
    scope.values[target.text] = value;
  } else if (target.kind == NodeKind::kAttribute) {
    Namespace* names = evaluate(*target.children[0], scope).names();
    if (names == nullptr)
      work_.fail(fmt::format("{}.{} set", target.children[0]->text, target.text), "a namespace");
    if (Value* field = names->find(target.text)) {
      *field = value;
    } else {
      names->fields.emplace_back(target.text, value);
    }
    work_.step(names->fields.size());
  } else {
    const Values items = items_of(value, work_);
    if (items.size() != target.children.size()) {
      work_.fail(fmt::format("{} values for {} names", items.size(), target.children.size()), "as many");
    }
    for (size_t i = 0; i < items.size(); ++i) bind(*target.children[i], items[i], scope);
  }
}

void Interpreter::print(const Value& value, std::string& out) { out += text_of(value, work_); }

Value Interpreter::evaluate(const Node& node, const Scope& scope) {
  const Level level(work_, node.line);
  return evaluate_within(node, scope);
}

Value Interpreter::evaluate_within(const Node& node, const Scope& scope) {
  const auto child = [&](size_t i) { return evaluate(*node.children[i], scope); };
  switch (node.kind) {
    case NodeKind::kConstant:
      return node.constant;
    case NodeKind::kName:
      return name(node.text, scope);
    case NodeKind::kList:
    case NodeKind::kTuple:
      return work_.list(values_of(node, scope), node.kind == NodeKind::kTuple);
    case NodeKind::kDict: {
      Entries entries;
      for (size_t i = 0; i < node.children.size(); i += 2) put(entries, child(i), child(i + 1), work_);
      return work_.dict(std::move(entries));
    }
    case NodeKind::kAttribute:
      return attribute(child(0), node.text, work_);
    case NodeKind::kSubscript:
      return subscript(child(0), child(1), work_);
    case NodeKind::kSlice: {
      const auto part = [&](size_t i) { return node.children[i] ? child(i) : Value{None{}}; };
      return slice(child(0), part(1), part(2), part(3), work_);
    }
    case NodeKind::kCall:
      return called(node, scope);
    case NodeKind::kFilter:
      return apply_filter(node.text, child(0), arguments_of(node, scope), work_);
    case NodeKind::kTest:
      return {apply_test(node.text, child(0), arguments_of(node, scope), work_)};
    case NodeKind::kNot:
      return {!truth(child(0))};
    case NodeKind::kNegative:
      return arithmetic("-", {int64_t{0}}, child(0), work_);
    case NodeKind::kPositive:
      return arithmetic("+", {int64_t{0}}, child(0), work_);
    case NodeKind::kBinary: {
      const Value left = child(0), right = child(1);
      if (node.text != "~") return arithmetic(node.text, left, right, work_);
      return work_.string(text_of(left, work_) + text_of(right, work_));
    }
    case NodeKind::kCompare:
      return compared(node, scope);
    case NodeKind::kAnd: {
      const Value left = child(0);
      return truth(left) ? child(1) : left;
    }
    case NodeKind::kOr: {
      const Value left = child(0);
      return truth(left) ? left : child(1);
    }
    case NodeKind::kConditional:
      if (truth(child(1))) return child(0);
      return node.children[2] ? child(2) : Value{};
  }
  return {};
}

Value Interpreter::name(const std::string& name, const Scope& scope) {
  for (const Scope* at = &scope; at != nullptr; at = at->parent) {
    const auto found = at->values.find(name);
    if (found != at->values.end()) return found->second;
  }
  return {Undefined{&name}};
}

Value Interpreter::compared(const Node& node, const Scope& scope) {
  Value left = evaluate(*node.children[0], scope);
  for (size_t i = 0; i < node.words.size(); ++i) {
    const std::string& sign = node.words[i];
    const Value right = evaluate(*node.children[i + 1], scope);
    bool holds = false;
    if (sign == "==" || sign == "!=") {
      holds = equal(left, right, work_) == (sign == "==");
    } else if (sign == "in" || sign == "not in") {
      holds = contains(right, left, work_) == (sign == "in");
    } else {
      const int order = compare(left, right, work_);
      holds = sign == "<" ? order < 0 : sign == "<=" ? order <= 0 : sign == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return {false};
    left = right;
  }
  return {true};
}

Value Interpreter::called(const Node& node, const Scope& scope) {
  const Value function = evaluate(*node.children[0], scope);
  const Loop* loop = function.loop();
  if (loop != nullptr && loop->recursive != nullptr) return call_loop(*loop, arguments_of(node, scope));
  const Callable* callable = function.callable();
  if (callable == nullptr) {
    const bool attribute = node.children[0]->kind == NodeKind::kAttribute;
    work_.fail(fmt::format("a call of {}{}", attribute ? "." + node.children[0]->text + ", " : "",
                           kind_of(function)),
               "a function or method that Linnet knows");
  }
  const Arguments arguments = arguments_of(node, scope);
  if (callable->macro != nullptr) return call_macro(*callable, arguments);
  if (!callable->self) return call_function(callable->name, arguments, now_, work_);
  if (callable->self->loop() != nullptr) return cycled(*callable->self->loop(), arguments, work_);
  return call_method(*callable->self, callable->name, arguments, work_);
}

/// A recursive loop once more, over what it is called with.
Value Interpreter::call_loop(const Loop& loop, const Arguments& arguments) {
  const Level level(work_, loop.recursive->line);
  if (loop.scope == nullptr) work_.fail("a call of a loop that has ended", "a call within it");
  std::string text;
  iterate(*loop.recursive, arguments.get(0, "iterable"), loop.depth + 1, *loop.scope, text);
  return work_.string(std::move(text));
}

/// A macro sees its arguments and what the template's top level has set; the block of a call, what stands
/// around it.
Value Interpreter::call_macro(const Callable& callable, const Arguments& arguments, const Value& caller) {
  const Statement& macro = *callable.macro;
  const Level level(work_, macro.line);
  Scope scope{callable.scope != nullptr ? callable.scope : &root_};
  if (!caller.undefined()) scope.values["caller"] = caller;
  const size_t count = macro.nodes.size() / 2;
  if (arguments.positional.size() > count) {
    work_.fail(fmt::format("{} arguments for macro {}", arguments.positional.size(), macro.text),
               fmt::format("at most {}", count));
  }
  for (const auto& [name, value] : arguments.named) {
    bool known = false;
    for (size_t i = 0; i < count; ++i) known = known || macro.nodes[2 * i]->text == name;
    if (!known)
      work_.fail(fmt::format("macro {} has no argument \"{}\"", macro.text, name), "one that it has");
  }
  for (size_t i = 0; i < count; ++i) {
    const std::string& name = macro.nodes[2 * i]->text;
    Value value = arguments.get(i, name);
    if (value.undefined() && macro.nodes[2 * i + 1]) value = evaluate(*macro.nodes[2 * i + 1], scope);
    scope.values[name] = value;
  }
  std::string text;
  run(macro.bodies[0], scope, text);
  return work_.string(std::move(text));
}

Values Interpreter::values_of(const Node& node, const Scope& scope) {
  Values values;
  for (const NodePtr& child : node.children) values.push_back(evaluate(*child, scope));
  return values;
}

Arguments Interpreter::arguments_of(const Node& node, const Scope& scope) {
  Arguments arguments;
  const size_t positional = node.children.size() - node.words.size();
  for (size_t i = 1; i < node.children.size(); ++i) {
    const Value value = evaluate(*node.children[i], scope);
    if (i < positional) {
      arguments.positional.push_back(value);
    } else {
      arguments.named.emplace_back(node.words[i - positional], value);
    }
  }
  return arguments;
}

}  // namespace linnet::jinja
