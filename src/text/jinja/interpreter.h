// Renders a template that was parsed.
#pragma once

#include <ctime>
#include <map>
#include <string>
#include <string_view>

#include "text/jinja/builtins.h"
#include "text/jinja/syntax.h"

namespace linnet::jinja {

/// The names that one block has set, and the block around it.
struct Scope {
  const Scope* parent;
  std::map<std::string_view, Value> values = {};
};

class Interpreter {
 public:
  /// `now` is what strftime_now shows. Both references must outlive it.
  Interpreter(Work& work, const std::tm& now) : work_(work), now_(now) {}

  /// Throws Error where the template fails, raises an exception, or passes the bounds.
  std::string render(const Body& body, std::map<std::string, Value> variables);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  Flow run(const Body& body, Scope& scope, std::string& out);
  Flow run_one(const Statement& statement, Scope& scope, std::string& out);
  Flow run_if(const Statement& statement, Scope& scope, std::string& out);
  Flow run_for(const Statement& statement, Scope& scope, std::string& out);
  Flow run_call(const Statement& statement, Scope& scope, std::string& out);
  Flow iterate(const Statement& statement, const Value& over, size_t depth, const Scope& scope,
               std::string& out);
  Values filtered(const Statement& statement, const Value& over, const Scope& scope);
  Value captured(const Statement& statement, const Node& value, const Scope& scope);
  void bind(const Node& target, const Value& value, Scope& scope);
  void print(const Value& value, std::string& out);

  Value evaluate(const Node& node, const Scope& scope);
  Value evaluate_within(const Node& node, const Scope& scope);
  Value name(const std::string& name, const Scope& scope);
  Value compared(const Node& node, const Scope& scope);
  Value called(const Node& node, const Scope& scope);
  Value call_loop(const Loop& loop, const Arguments& arguments);
  Value call_macro(const Callable& callable, const Arguments& arguments, const Value& caller = {});
  Values values_of(const Node& node, const Scope& scope);
  Arguments arguments_of(const Node& node, const Scope& scope);

  Work& work_;
  const std::tm& now_;
  Scope globals_{nullptr}, root_{&globals_};
};

}  // namespace linnet::jinja
