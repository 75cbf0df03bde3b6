// Operators, indices and attributes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace linnet::jinja {
namespace {

Value repeated(const Value& value, int64_t count, Work& work) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  const std::string* text = value.string();
  const size_t size = text != nullptr ? text->size() : value.sequence()->items.size() * sizeof(Value);
  size_t bytes = 0;
  if (__builtin_mul_overflow(times, std::max<size_t>(size, 1), &bytes)) bytes = SIZE_MAX;
  work.grow(bytes);
  work.step(bytes / 64);
  if (text != nullptr) {
    std::string out;
    for (size_t i = 0; i < times && !text->empty(); ++i) out += *text;
    return work.string(std::move(out));
  }
  Values items;
  for (size_t i = 0; i < times && size > 0; ++i) {
    items.insert(items.end(), value.sequence()->items.begin(), value.sequence()->items.end());
  }
  return work.list(std::move(items), value.sequence()->tuple);
}

/// Python's floor division and remainder: the remainder has the divisor's sign.
int64_t floor_div(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0); }

Value whole(std::string_view sign, int64_t a, int64_t b, Work& work) {
  int64_t out = 0;
  bool over = false;
  if (sign == "+") {
    over = __builtin_add_overflow(a, b, &out);
  } else if (sign == "-") {
    over = __builtin_sub_overflow(a, b, &out);
  } else if (sign == "*") {
    over = __builtin_mul_overflow(a, b, &out);
  } else if (sign == "**") {
    out = 1;
    for (int64_t i = 0; i < b && !over && a != 1; ++i) {
      work.step();
      over = __builtin_mul_overflow(out, a, &out);
    }
  } else if (b == -1) {  // the lowest number has no opposite
    over = sign == "//" && __builtin_sub_overflow(int64_t{0}, a, &out);
  } else {
    out = sign == "//" ? floor_div(a, b) : a - floor_div(a, b) * b;
  }
  if (over) work.fail("a number out of range", "64 bits");
  return {out};
}

Value real(std::string_view sign, double a, double b) {
  if (sign == "+") return {a + b};
  if (sign == "-") return {a - b};
  if (sign == "*") return {a * b};
  if (sign == "/") return {a / b};
  if (sign == "**") return {std::pow(a, b)};
  const double rest = std::fmod(a, b), remainder = rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
  return {sign == "%" ? remainder : std::floor(a / b)};
}

int64_t bound(const Value& value, int64_t otherwise, int64_t size, int64_t low, int64_t high, Work& work) {
  if (value.none()) return otherwise;
  if (!value.integer()) work.fail(fmt::format("a slice at {}", kind_of(value)), "integers");
  int64_t at = *value.integer();
  if (at < 0) at = std::max(at + size, int64_t{-1} - size);
  return std::clamp(at, low, high);
}

/// Which elements a slice of `size` takes, in order.
std::vector<size_t> sliced(int64_t size, const Value& start, const Value& stop, const Value& step,
                           Work& work) {
  const int64_t by = step.none() ? 1 : step.integer().value_or(0);
  if (by == 0) work.fail("a slice's step", "an integer that is not 0");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1;
  const int64_t begin = bound(start, by > 0 ? low : high, size, low, high, work);
  const int64_t end = bound(stop, by > 0 ? high : low, size, low, high, work);
  std::vector<size_t> indices;
  for (int64_t i = begin; by > 0 ? i < end : i > end;) {
    work.step();
    indices.push_back(static_cast<size_t>(i));
    if (by > size || by < -size) break;
    i += by;
  }
  return indices;
}

Value loop_field(const Loop& loop, const std::string& name, const Value& self, Work& work) {
  const Values& items = loop.items.sequence()->items;
  const auto at = static_cast<int64_t>(loop.index), size = static_cast<int64_t>(items.size());
  if (name == "index") return {at + 1};
  if (name == "index0") return {at};
  if (name == "revindex") return {size - at};
  if (name == "revindex0") return {size - at - 1};
  if (name == "first") return {at == 0};
  if (name == "last") return {at + 1 == size};
  if (name == "length") return {size};
  if (name == "depth") return {static_cast<int64_t>(loop.depth)};
  if (name == "depth0") return {static_cast<int64_t>(loop.depth) - 1};
  if (name == "previtem") return at > 0 ? items[loop.index - 1] : Value{};
  if (name == "nextitem") return at + 1 < size ? items[loop.index + 1] : Value{};
  if (name == "cycle") return work.call_of(name, self);
  return {Undefined{&name}};
}

}  // namespace

Value arithmetic(std::string_view sign, const Value& a, const Value& b, Work& work) {
  if (sign == "+" && a.string() != nullptr && b.string() != nullptr) {
    work.grow(a.string()->size());
    return work.string(*a.string() + *b.string());
  }
  if (sign == "+" && a.sequence() != nullptr && b.sequence() != nullptr &&
      a.sequence()->tuple == b.sequence()->tuple) {
    Values items = a.sequence()->items;
    items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
    return work.list(std::move(items), a.sequence()->tuple);
  }
  const auto repeats = [](const Value& value) {
    return value.string() != nullptr || value.sequence() != nullptr;
  };
  if (sign == "*" && repeats(a) && b.integer()) return repeated(a, *b.integer(), work);
  if (sign == "*" && repeats(b) && a.integer()) return repeated(b, *a.integer(), work);
  if (!a.number() || !b.number()) {
    work.fail(fmt::format("{} {} {}", kind_of(a), sign, kind_of(b)), "two that this is defined for");
  }
  const bool divides = sign == "/" || sign == "//" || sign == "%";
  if (divides && *b.number() == 0) work.fail("a division by zero", "another divisor");
  const bool is_whole = a.integer() && b.integer() && sign != "/" && !(sign == "**" && *b.integer() < 0);
  return is_whole ? whole(sign, *a.integer(), *b.integer(), work) : real(sign, *a.number(), *b.number());
}

Value attribute(const Value& object, const std::string& name, Work& work) {
  if (object.undefined()) work.fail(fmt::format(".{} of {}", name, kind_of(object)), "a value");
  if (has_method(object, name)) return work.call_of(name, object);
  if (object.loop() != nullptr) return loop_field(*object.loop(), name, object, work);
  if (Namespace* names = object.names()) {
    const Value* field = names->find(name);
    work.step(names->fields.size() / 8);
    return field != nullptr ? *field : Value{Undefined{&name}};
  }
  if (const Dict* dict = object.dict()) {
    const Value* item = dict->find(name);
    work.step(dict->items.size() / 8);
    return item != nullptr ? *item : Value{Undefined{&name}};
  }
  if (const Sequence* pair = object.sequence(); pair != nullptr && pair->group) {
    if (name == "grouper") return pair->items[0];
    if (name == "list") return pair->items[1];
  }
  return {Undefined{&name}};
}

Value subscript(const Value& object, const Value& key, Work& work) {
  if (object.undefined()) work.fail(fmt::format("[] of {}", kind_of(object)), "a value");
  if (const Dict* dict = object.dict()) {
    for (const auto& [name, value] : dict->items) {
      if (equal(name, key, work)) return value;
    }
  } else if (key.integer()) {
    const std::string* text = object.string();
    const Sequence* sequence = object.sequence();
    if (text == nullptr && sequence == nullptr) return {};
    work.step(text != nullptr ? text->size() : 1);
    const std::u32string points = text != nullptr ? code_points(*text) : std::u32string();
    const auto size = static_cast<int64_t>(text != nullptr ? points.size() : sequence->items.size());
    const int64_t at = *key.integer() < 0 ? *key.integer() + size : *key.integer();
    if (at < 0 || at >= size) return {};
    const auto index = static_cast<size_t>(at);
    return text != nullptr ? work.string(utf8({&points[index], 1})) : sequence->items[index];
  }
  if (key.string() == nullptr) return {};
  const Value found = attribute(object, *key.string(), work);
  return found.undefined() ? Value{} : found;  // the key's text does not outlive it
}

Value slice(const Value& object, const Value& start, const Value& stop, const Value& step, Work& work) {
  if (const std::string* text = object.string()) {
    work.step(text->size() / 4);
    const std::u32string points = code_points(*text);
    std::u32string out;
    for (const size_t i : sliced(static_cast<int64_t>(points.size()), start, stop, step, work))
      out += points[i];
    return work.string(utf8(out));
  }
  const Sequence* sequence = object.sequence();
  if (sequence == nullptr) work.fail(fmt::format("a slice of {}", kind_of(object)), "a list or a string");
  Values items;
  for (const size_t i : sliced(static_cast<int64_t>(sequence->items.size()), start, stop, step, work)) {
    items.push_back(sequence->items[i]);
  }
  return work.list(std::move(items), sequence->tuple);
}

void put(Entries& entries, const Value& key, const Value& value, Work& work) {
  if ((key.sequence() != nullptr && !key.sequence()->tuple) || key.dict() != nullptr || key.undefined()) {
    work.fail(fmt::format("{} as a key", kind_of(key)), "a string or a number");
  }
  for (auto& [name, item] : entries) {
    if (!equal(name, key, work)) continue;
    item = value;
    return;
  }
  entries.emplace_back(key, value);
}

}  // namespace linnet::jinja
