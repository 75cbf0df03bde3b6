#include "text/jinja/builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "text/jinja/strings.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet::jinja {
namespace {

struct Call {
  const Value& self;
  const Arguments& arguments;
  Work& work;

  Value get(size_t index, std::string_view name) const { return arguments.get(index, name); }
  /// An argument that is a string, or nothing where it is absent or none.
  std::optional<std::string> text(size_t index, std::string_view name) const {
    const Value value = get(index, name);
    if (value.undefined() || value.none()) return std::nullopt;
    if (value.string() == nullptr) work.fail(fmt::format("{} given as {}", kind_of(value), name), "a string");
    return *value.string();
  }
  int64_t number(size_t index, std::string_view name, int64_t otherwise) const {
    const Value value = get(index, name);
    if (value.undefined() || value.none()) return otherwise;
    if (!value.integer()) work.fail(fmt::format("{} given as {}", kind_of(value), name), "an integer");
    return *value.integer();
  }
  std::string shown() const { return text_of(self, work); }
  /// Without the first argument, which named what is applied to each element.
  Arguments rest() const {
    Arguments out = arguments;
    if (!out.positional.empty()) out.positional.erase(out.positional.begin());
    return out;
  }
};

/// "a.b.0" of a value, part by part.
Value path(Value value, const Value& name, Work& work) {
  if (name.integer()) return subscript(value, name, work);
  if (name.string() == nullptr) work.fail(fmt::format("{} given as attribute", kind_of(name)), "a string");
  for (const Value& part : split(*name.string(), ".", -1, work)) {
    int64_t index = 0;
    const std::string& text = *part.string();
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    value = subscript(value, whole ? Value{index} : part, work);
  }
  return value;
}

Value mapped(const Call& call) {
  Values items = items_of(call.self, call.work);
  const Value attribute_name = call.get(SIZE_MAX, "attribute"), filter = call.get(0, "");
  for (Value& item : items) {
    if (!attribute_name.undefined()) {
      item = path(item, attribute_name, call.work);
      if (item.undefined()) item = call.get(SIZE_MAX, "default");
    } else if (filter.string() != nullptr && has_filter(*filter.string())) {
      call.work.enter();
      item = apply_filter(*filter.string(), item, call.rest(), call.work);
      call.work.leave();
    } else {
      call.work.fail("map of no known filter", "an attribute or a filter");
    }
  }
  return call.work.list(std::move(items));
}

/// select and reject, selectattr and rejectattr: those for which a test of it, or of its attribute, is
/// `wanted`.
Value selected(const Call& call, bool by_attribute, bool wanted) {
  Values kept;
  const Value name = call.get(0, "");
  Arguments rest = by_attribute ? call.rest() : call.arguments;
  const Value test = rest.get(0, "");
  if (!rest.positional.empty()) rest.positional.erase(rest.positional.begin());
  if (!test.undefined() && (test.string() == nullptr || !has_test(*test.string()))) {
    call.work.fail("a selection by no known test", "the name of a test");
  }
  for (const Value& item : items_of(call.self, call.work)) {
    const Value tested = by_attribute ? path(item, name, call.work) : item;
    const bool holds = test.undefined() ? truth(tested) : apply_test(*test.string(), tested, rest, call.work);
    if (holds == wanted) kept.push_back(item);
  }
  return call.work.list(std::move(kept));
}

Value entries_of(const Value& value, int part, Work& work) {
  Values items;
  if (value.undefined()) return work.list({});
  if (value.dict() == nullptr) work.fail(fmt::format("the items of {}", kind_of(value)), "a dict");
  for (const auto& [key, item] : value.dict()->items) {
    items.push_back(part == 0 ? key : part == 1 ? item : work.list({key, item}, true));
  }
  return work.list(std::move(items));
}

/// What an element counts by: itself or its attribute, in small letters where case does not count.
Value key_of(const Value& item, const Value& attribute_name, bool case_counts, Work& work) {
  Value key = attribute_name.undefined() || attribute_name.none() ? item : path(item, attribute_name, work);
  if (!case_counts && key.string() != nullptr) key = work.string(lower(*key.string()));
  return key;
}

Value unique(const Call& call) {
  Values kept, keys;
  const bool exact = truth(call.get(0, "case_sensitive"));
  for (const Value& item : items_of(call.self, call.work)) {
    const Value key = key_of(item, call.get(1, "attribute"), exact, call.work);
    const auto same = [&](const Value& other) { return equal(key, other, call.work); };
    if (std::any_of(keys.begin(), keys.end(), same)) continue;
    keys.push_back(key);
    kept.push_back(item);
  }
  return call.work.list(std::move(kept));
}

/// In order of the keys, equal ones as they came.
Values sorted(Values items, const Values& keys, bool descending, Work& work) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return compare(keys[descending ? b : a], keys[descending ? a : b], work) < 0;
  });
  Values out;
  for (const size_t i : order) out.push_back(items[i]);
  return out;
}

/// `attribute` may name several, with commas between them.
Value sort(const Call& call) {
  const Value names = call.get(2, "attribute");
  Values parts = {names}, keys;
  if (names.string() != nullptr) parts = split(*names.string(), ",", -1, call.work);
  Values items = items_of(call.self, call.work);
  for (const Value& item : items) {
    Values key;
    for (const Value& part : parts)
      key.push_back(key_of(item, part, truth(call.get(1, "case_sensitive")), call.work));
    keys.push_back(call.work.list(std::move(key)));
  }
  return call.work.list(sorted(std::move(items), keys, truth(call.get(0, "reverse")), call.work));
}

Value dict_sorted(const Call& call) {
  const std::string by = call.text(1, "by").value_or("key");
  if (by != "key" && by != "value") call.work.fail("dictsort by neither", "key or value");
  Values items = items_of(entries_of(call.self, 2, call.work), call.work), keys;
  const Value part = {int64_t{by == "value"}};
  for (const Value& item : items)
    keys.push_back(key_of(item, part, truth(call.get(0, "case_sensitive")), call.work));
  return call.work.list(sorted(std::move(items), keys, truth(call.get(2, "reverse")), call.work));
}

/// The first of the smallest, or of the largest.
Value extreme(const Call& call, int sign) {
  Value best, best_key;
  bool first = true;
  for (const Value& item : items_of(call.self, call.work)) {
    const Value key = key_of(item, call.get(1, "attribute"), truth(call.get(0, "case_sensitive")), call.work);
    if (!first && compare(key, best_key, call.work) * sign <= 0) continue;
    best = item;
    best_key = key;
    first = false;
  }
  return best;
}

Value sum(const Call& call) {
  const Value start = call.get(1, "start");
  Value total = start.undefined() ? Value{int64_t{0}} : start;
  for (const Value& item : items_of(call.self, call.work))
    total = arithmetic("+", total, key_of(item, call.get(0, "attribute"), true, call.work), call.work);
  return total;
}

Value absolute(const Call& call) {
  if (!call.self.number()) call.work.fail(fmt::format("abs of {}", kind_of(call.self)), "a number");
  const bool negative = *call.self.number() < 0;
  return arithmetic(negative ? "-" : "+", {int64_t{0}}, call.self, call.work);
}

/// `width` spaces, or a text, before every line but the first and the empty ones.
Value indented(const Call& call) {
  const Value width = call.get(0, "width");
  std::string indent;
  if (width.string() != nullptr) {
    indent = *width.string();
  } else {
    const int64_t spaces = call.number(0, "width", 4);
    if (spaces > 1000) call.work.fail(fmt::format("indent by {}", spaces), "at most 1000");
    indent.assign(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' ');
  }
  const bool first = truth(call.get(1, "first")), blank = truth(call.get(2, "blank"));
  std::string out;
  bool begins = true;
  const std::string text = call.shown() + '\n';  // a line end at the end begins one more line
  for (const std::string_view line : split_lines(text)) {
    call.work.grow(line.size() + indent.size() + 1);
    if (!begins) out += '\n';
    if (begins ? first : blank || !line.empty()) out += indent;
    out += line;
    begins = false;
  }
  return call.work.string(std::move(out));
}

Value joined(const Call& call, const Value& items, const std::string& between, bool shown) {
  std::string out;
  bool first = true;
  const Value name = call.get(1, "attribute");
  for (const Value& item : items_of(items, call.work)) {
    const Value part = name.undefined() ? item : path(item, name, call.work);
    if (!shown && part.string() == nullptr)
      call.work.fail(fmt::format("join of {}", kind_of(part)), "strings");
    if (!first) out += between;
    call.work.grow(between.size());
    out += text_of(part, call.work);
    first = false;
  }
  return call.work.string(std::move(out));
}

Value length(const Call& call) {
  if (call.self.undefined()) return {int64_t{0}};
  if (const std::string* text = call.self.string()) {
    call.work.step(text->size() / 16);
    return {static_cast<int64_t>(code_points(*text).size())};
  }
  if (const Dict* dict = call.self.dict()) return {static_cast<int64_t>(dict->items.size())};
  if (const Sequence* list = call.self.sequence()) return {static_cast<int64_t>(list->items.size())};
  call.work.fail(fmt::format("the length of {}", kind_of(call.self)), "a list, a dict or a string");
}

Value number_of(const Call& call, bool whole) {
  const Value otherwise = call.get(0, "default");
  double value = 0;
  if (call.self.undefined()) call.work.fail(fmt::format("{} as a number", kind_of(call.self)), "a value");
  if (call.self.integer()) {
    if (whole) return {*call.self.integer()};
    return {*call.self.number()};
  }
  if (call.self.number()) {
    value = *call.self.number();
  } else if (const std::string* text = call.self.string()) {
    const std::string digits = stripped(*text, std::nullopt, true, true);
    const size_t plus = digits.starts_with('+') ? 1 : 0;
    const char *begin = digits.data() + plus, *end = digits.data() + digits.size();
    int64_t integer = 0;
    const auto read = std::from_chars(begin, end, integer);
    if (whole && read.ec == std::errc() && read.ptr == end) return {integer};
    const auto real = std::from_chars(begin, end, value);
    if (real.ec != std::errc() || real.ptr != end || begin == end) value = NAN;
  } else {
    value = NAN;
  }
  if (!whole) return std::isnan(value) ? (otherwise.undefined() ? Value{0.0} : otherwise) : Value{value};
  if (std::isnan(value) || std::abs(value) > 9e18)
    return otherwise.undefined() ? Value{int64_t{0}} : otherwise;
  return {static_cast<int64_t>(value)};
}

Value ends(const Call& call, bool last) {
  const Values items = items_of(call.self, call.work);
  return items.empty() ? Value{} : last ? items.back() : items.front();
}

Value reversed(const Call& call) {
  if (const std::string* text = call.self.string()) {
    call.work.step(text->size() / 4);
    std::u32string points = code_points(*text);
    std::reverse(points.begin(), points.end());
    return call.work.string(utf8(points));
  }
  Values items = items_of(call.self, call.work);
  std::reverse(items.begin(), items.end());
  return call.work.list(std::move(items));
}

Value defaulted(const Call& call) {
  const bool empty = truth(call.get(1, "boolean")) && !truth(call.self);
  if (!call.self.undefined() && !empty) return call.self;
  const Value value = call.get(0, "default_value");
  return value.undefined() ? call.work.string("") : value;
}

Value to_json(const Call& call) {
  const int64_t indent = call.number(SIZE_MAX, "indent", call.number(1, "", -1));
  if (indent > 100) call.work.fail(fmt::format("tojson indented by {}", indent), "at most 100");
  return call.work.string(json_of(call.self, static_cast<int>(std::max<int64_t>(indent, -1)),
                                  truth(call.get(3, "sort_keys")), call.work));
}

Value replace(const Call& call, const std::string& text) {
  const auto from = call.text(0, "old"), to = call.text(1, "new");
  if (!from || !to) call.work.fail("replace without two strings", "what, and by what");
  return call.work.string(replaced(text, *from, *to, call.number(2, "count", -1), call.work));
}

Value strip(const Call& call, const std::string& text, bool front, bool back) {
  const auto characters = call.text(0, "chars");
  if (characters) call.work.step(text.size() / 64 * (characters->size() + 1));
  return call.work.string(stripped(text, characters, front, back));
}

template <std::string (*Change)(std::string_view)>
Value changed(const Call& call) {
  call.work.step(call.self.string() != nullptr ? call.self.string()->size() / 16 : 0);
  return call.work.string(Change(call.shown()));
}

using Function = Value (*)(const Call&);
struct Named {
  std::string_view name;
  Function function;
};

constexpr Named kFilters[] = {
    {"abs", absolute},
    {"capitalize", changed<capitalized>},
    {"count", length},
    {"d", defaulted},
    {"default", defaulted},
    {"dictsort", dict_sorted},
    {"first", [](const Call& c) { return ends(c, false); }},
    {"float", [](const Call& c) { return number_of(c, false); }},
    {"indent", indented},
    {"int", [](const Call& c) { return number_of(c, true); }},
    {"items", [](const Call& c) { return entries_of(c.self, 2, c.work); }},
    {"join", [](const Call& c) { return joined(c, c.self, c.text(0, "d").value_or(""), true); }},
    {"last", [](const Call& c) { return ends(c, true); }},
    {"length", length},
    {"list", [](const Call& c) { return c.work.list(items_of(c.self, c.work)); }},
    {"lower", changed<lower>},
    {"map", mapped},
    {"max", [](const Call& c) { return extreme(c, 1); }},
    {"min", [](const Call& c) { return extreme(c, -1); }},
    {"reject", [](const Call& c) { return selected(c, false, false); }},
    {"rejectattr", [](const Call& c) { return selected(c, true, false); }},
    {"replace", [](const Call& c) { return replace(c, c.shown()); }},
    {"reverse", reversed},
    {"safe", [](const Call& c) { return c.work.string(c.shown()); }},
    {"select", [](const Call& c) { return selected(c, false, true); }},
    {"selectattr", [](const Call& c) { return selected(c, true, true); }},
    {"sort", sort},
    {"string", [](const Call& c) { return c.work.string(c.shown()); }},
    {"sum", sum},
    {"title", [](const Call& c) { return c.work.string(titled(c.shown(), false)); }},
    {"tojson", to_json},
    {"trim", [](const Call& c) { return strip(c, c.shown(), true, true); }},
    {"unique", unique},
    {"upper", changed<upper>},
};

bool remainder_is(const Call& call, int64_t by, int64_t rest) {
  if (!call.self.number()) call.work.fail(fmt::format("a test of {}", kind_of(call.self)), "a number");
  const Value left = arithmetic("%", call.self, {by}, call.work);
  return *left.number() == static_cast<double>(rest);
}

using Test = bool (*)(const Call&);
struct NamedTest {
  std::string_view name;
  Test function;
};

constexpr Test kEqual = [](const Call& c) { return equal(c.self, c.get(0, "other"), c.work); };
constexpr Test kSequence = [](const Call& c) {
  return c.self.string() != nullptr || c.self.sequence() != nullptr || c.self.dict() != nullptr;
};

constexpr NamedTest kTests[] = {
    {"boolean", [](const Call& c) { return c.self.is<bool>(); }},
    {"callable", [](const Call& c) { return c.self.callable() != nullptr; }},
    {"defined", [](const Call& c) { return !c.self.undefined(); }},
    {"divisibleby", [](const Call& c) { return remainder_is(c, c.number(0, "num", 0), 0); }},
    {"eq", kEqual},
    {"equalto", kEqual},
    {"even", [](const Call& c) { return remainder_is(c, 2, 0); }},
    {"false", [](const Call& c) { return c.self.is<bool>() && !truth(c.self); }},
    {"float", [](const Call& c) { return c.self.is<double>(); }},
    {"ge", [](const Call& c) { return compare(c.self, c.get(0, "other"), c.work) >= 0; }},
    {"gt", [](const Call& c) { return compare(c.self, c.get(0, "other"), c.work) > 0; }},
    {"in", [](const Call& c) { return contains(c.get(0, "seq"), c.self, c.work); }},
    {"integer", [](const Call& c) { return c.self.is<int64_t>(); }},
    {"iterable", [](const Call& c) { return c.self.undefined() || kSequence(c); }},
    {"le", [](const Call& c) { return compare(c.self, c.get(0, "other"), c.work) <= 0; }},
    {"lt", [](const Call& c) { return compare(c.self, c.get(0, "other"), c.work) < 0; }},
    {"mapping", [](const Call& c) { return c.self.dict() != nullptr; }},
    {"ne", [](const Call& c) { return !kEqual(c); }},
    {"none", [](const Call& c) { return c.self.none(); }},
    {"number", [](const Call& c) { return c.self.number().has_value(); }},
    {"odd", [](const Call& c) { return remainder_is(c, 2, 1); }},
    {"sequence", kSequence},
    {"string", [](const Call& c) { return c.self.string() != nullptr; }},
    {"true", [](const Call& c) { return c.self.is<bool>() && truth(c.self); }},
    {"undefined", [](const Call& c) { return c.self.undefined(); }},
};

/// startswith and endswith: of a string, or of one of a tuple's.
bool begins_or_ends(const Call& call, bool begins) {
  const Value wanted = call.get(0, "");
  const Values texts = wanted.string() != nullptr ? Values{wanted} : items_of(wanted, call.work);
  return std::any_of(texts.begin(), texts.end(), [&](const Value& text) {
    if (text.string() == nullptr)
      call.work.fail(fmt::format("{} looked for in a string", kind_of(text)), "a string");
    return begins ? call.self.string()->starts_with(*text.string())
                  : call.self.string()->ends_with(*text.string());
  });
}

Value split_method(const Call& call) {
  return call.work.list(
      split(*call.self.string(), call.text(0, "sep"), call.number(1, "maxsplit", -1), call.work));
}

Value lines_method(const Call& call) {
  Values lines;
  for (const std::string_view line : split_lines(*call.self.string())) {
    call.work.step();
    lines.push_back(call.work.string(std::string(line)));
  }
  return call.work.list(std::move(lines));
}

Value find_method(const Call& call) {
  const std::string text = call.text(0, "sub").value_or("");
  call.work.step((call.self.string()->size() + 1) / 4 * (1 + text.size() / 64));
  const size_t at = call.self.string()->find(text);
  if (at == std::string::npos) return {int64_t{-1}};
  return {static_cast<int64_t>(code_points(std::string_view(*call.self.string()).substr(0, at)).size())};
}

constexpr Named kStringMethods[] = {
    {"capitalize", changed<capitalized>},
    {"endswith", [](const Call& c) -> Value { return {begins_or_ends(c, false)}; }},
    {"find", find_method},
    {"join", [](const Call& c) { return joined(c, c.get(0, ""), *c.self.string(), false); }},
    {"lower", changed<lower>},
    {"lstrip", [](const Call& c) { return strip(c, *c.self.string(), true, false); }},
    {"replace", [](const Call& c) { return replace(c, *c.self.string()); }},
    {"rstrip", [](const Call& c) { return strip(c, *c.self.string(), false, true); }},
    {"split", split_method},
    {"splitlines", lines_method},
    {"startswith", [](const Call& c) -> Value { return {begins_or_ends(c, true)}; }},
    {"strip", [](const Call& c) { return strip(c, *c.self.string(), true, true); }},
    {"title", [](const Call& c) { return c.work.string(titled(*c.self.string(), true)); }},
    {"upper", changed<upper>},
};

constexpr Named kDictMethods[] = {
    {"get",
     [](const Call& c) {
       for (const auto& [key, value] : c.self.dict()->items) {
         if (equal(key, c.get(0, "key"), c.work)) return value;
       }
       const Value otherwise = c.get(1, "default");
       return otherwise.undefined() ? Value{None{}} : otherwise;
     }},
    {"items", [](const Call& c) { return entries_of(c.self, 2, c.work); }},
    {"keys", [](const Call& c) { return entries_of(c.self, 0, c.work); }},
    {"values", [](const Call& c) { return entries_of(c.self, 1, c.work); }},
};

template <typename Table>
auto find_in(const Table& table, std::string_view name) -> decltype(table[0].function) {
  for (const auto& row : table) {
    if (row.name == name) return row.function;
  }
  return nullptr;
}

Function method(const Value& value, std::string_view name) {
  if (value.string() != nullptr) return find_in(kStringMethods, name);
  return value.dict() != nullptr ? find_in(kDictMethods, name) : nullptr;
}

Value range(const Call& call) {
  const bool one = call.arguments.positional.size() < 2;
  const int64_t begin = one ? 0 : call.number(0, "start", 0), end = call.number(one ? 0 : 1, "stop", 0);
  const int64_t by = call.number(2, "step", 1);
  if (by == 0) call.work.fail("range's step", "not 0");
  Values items;
  for (int64_t i = begin; by > 0 ? i < end : i > end;) {
    call.work.step();
    call.work.grow(sizeof(Value));
    items.push_back({i});
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  return call.work.list(std::move(items));
}

Value time_shown(const Call& call, const std::tm& now) {
  const std::string format = call.text(0, "format").value_or("");
  char text[1024];
  if (format.size() > 200) call.work.fail("a long format of a date", "at most 200 bytes");
  return call.work.string(valid_utf8({text, std::strftime(text, sizeof(text), format.c_str(), &now)}));
}

/// The fields that `namespace` and `dict` are given: one dict, names, or both.
Entries fields(const Call& call) {
  Entries entries;
  const Value first = call.get(0, "");
  if (first.dict() != nullptr) entries = first.dict()->items;
  for (const auto& [name, value] : call.arguments.named)
    put(entries, call.work.string(name), value, call.work);
  return entries;
}

}  // namespace

bool has_filter(std::string_view name) { return find_in(kFilters, name) != nullptr; }
bool has_test(std::string_view name) {
  return name == "filter" || name == "test" || find_in(kTests, name) != nullptr;
}
bool has_method(const Value& value, std::string_view name) { return method(value, name) != nullptr; }

Value apply_filter(std::string_view name, const Value& value, const Arguments& arguments, Work& work) {
  return find_in(kFilters, name)({value, arguments, work});
}

bool apply_test(std::string_view name, const Value& value, const Arguments& arguments, Work& work) {
  if (name == "filter" || name == "test") {
    if (value.string() == nullptr) return false;
    return name == "filter" ? has_filter(*value.string()) : has_test(*value.string());
  }
  return find_in(kTests, name)({value, arguments, work});
}

Value call_method(const Value& value, std::string_view name, const Arguments& arguments, Work& work) {
  return method(value, name)({value, arguments, work});
}

Value call_function(std::string_view name, const Arguments& arguments, const std::tm& now, Work& work) {
  const Call call{{}, arguments, work};
  if (name == "range") return range(call);
  if (name == "strftime_now") return time_shown(call, now);
  if (name == "raise_exception") work.fail(text_of(call.get(0, "message"), work));
  if (name == "dict") return work.dict(fields(call));
  std::vector<std::pair<std::string, Value>> names;
  for (const auto& [key, value] : fields(call)) names.emplace_back(text_of(key, work), value);
  return work.names(std::move(names));
}

}  // namespace linnet::jinja
