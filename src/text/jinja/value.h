// What the expressions of a template are about: Python's values as Jinja shows them, and the bounds within
// which they are made.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace linnet::jinja {

struct Sequence;
struct Dict;
struct Namespace;
struct Loop;
struct Callable;

struct Undefined {
  const std::string* name = nullptr;  // as the template calls it; it outlives all values
};
struct None {};

/// Cheap to copy. Nothing but a Namespace changes once it was made.
struct Value {
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>, Namespace*,
               std::shared_ptr<const Loop>, std::shared_ptr<const Callable>>
      data;

  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(data);
  }
  bool undefined() const { return is<Undefined>(); }
  bool none() const { return is<None>(); }
  /// The string, the sequence, the dict that it is, else nullptr.
  const std::string* string() const { return held<std::string>(); }
  const Sequence* sequence() const { return held<Sequence>(); }
  const Dict* dict() const { return held<Dict>(); }
  const Loop* loop() const { return held<Loop>(); }
  const Callable* callable() const { return held<Callable>(); }
  Namespace* names() const { return is<Namespace*>() ? std::get<Namespace*>(data) : nullptr; }
  /// An integer, or a boolean as 0 and 1.
  std::optional<int64_t> integer() const;
  /// An integer, a boolean or a float.
  std::optional<double> number() const;
  int depth() const;  // of values inside values

 private:
  template <typename T>
  const T* held() const {
    const auto* pointer = std::get_if<std::shared_ptr<const T>>(&data);
    return pointer != nullptr ? pointer->get() : nullptr;
  }
};

using Values = std::vector<Value>;
using Entries = std::vector<std::pair<Value, Value>>;

struct Sequence {  // a list or a tuple
  Values items;
  bool tuple = false;
  int depth = 1;
  bool group = false;  // of groupby: its two parts are called grouper and list too
};

struct Dict {
  Entries items;  // in order of insertion
  int depth = 1;
  const Value* find(std::string_view key) const;
};

/// The one thing that a template changes. Owned by whoever renders: it may hold itself.
struct Namespace {
  std::vector<std::pair<std::string, Value>> fields;
  Value* find(std::string_view name);
};

struct Statement;
struct Scope;
struct Loop {
  Value items;  // a sequence
  size_t index = 0, depth = 1;
  const Statement* recursive = nullptr;  // the loop that a call of it runs once more
  const Scope* scope = nullptr;          // in which; while it runs
};

struct Callable {
  std::string name;                  // of a function, or of a method of `self`
  std::optional<Value> self;         // whose method
  const Statement* macro = nullptr;  // a macro, or the block of a `call`
  const Scope* scope = nullptr;      // what the block sees beside its arguments, while the call runs
};

/// Arguments of a call, a filter or a test.
struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
  /// By place or by name; undefined where it was not given.
  Value get(size_t index, std::string_view name) const;
};

/// Bounds of one rendering, and how values are made within them. Every failure names the template's line.
class Work {
 public:
  explicit Work(std::string where) : where_(std::move(where)) {}

  /// Throws Error past the bounds: nothing in a template makes it take long or much.
  void step(size_t count = 1);
  void grow(size_t bytes);
  void enter();  // one level deeper; leave() undoes it
  void leave() { --depth_; }
  void at_line(int line) { line_ = line; }
  int line() const { return line_; }
  [[noreturn]] void fail(std::string_view what, std::string_view expected = {}) const;

  Value string(std::string text);
  Value list(Values items, bool tuple = false);
  /// A tuple of what elements have in common, and a list of these.
  Value group(const Value& common, Values members);
  Value dict(Entries items);
  Value call_of(std::string name, std::optional<Value> self);
  Value names(std::vector<std::pair<std::string, Value>> fields);
  Value from_json(const nlohmann::ordered_json& json);

 private:
  int deeper(int depth);
  std::string where_;
  int line_ = 0, depth_ = 0;
  size_t steps_ = 0, bytes_ = 0;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
};

bool truth(const Value& value);
bool equal(const Value& a, const Value& b, Work& work);
/// −1, 0, 1; fails where the two have no order.
int compare(const Value& a, const Value& b, Work& work);
bool contains(const Value& container, const Value& item, Work& work);
/// What a `for` goes over: items, keys, characters; nothing for undefined. Fails where there is nothing to go
/// over.
Values items_of(const Value& value, Work& work);
/// What {{ }} prints, and what stands for a value within another.
std::string text_of(const Value& value, Work& work);
std::string repr_of(const Value& value, Work& work);
/// As Python's json.dumps without ASCII escapes; `indent` below 0: on one line.
std::string json_of(const Value& value, int indent, bool sort_keys, Work& work);
/// For errors: "a list", "undefined".
std::string kind_of(const Value& value);

}  // namespace linnet::jinja
