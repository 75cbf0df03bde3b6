#include "text/jinja/builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/sequences.h"
#include "text/jinja/strings.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet::jinja {
namespace {

Value absolute(const Call& call) {
  if (!call.self.number()) call.work.fail(fmt::format("abs of {}", kind_of(call.self)), "a number");
  const bool negative = *call.self.number() < 0;
  return arithmetic(negative ? "-" : "+", {int64_t{0}}, call.self, call.work);
}

/// A number to `digits` after its point, a half to the even neighbour, as Python has it: by the decimal
/// numeral of the number that it is.
double rounded(double x, int64_t digits) {
  constexpr int64_t kMost = 350;  // a float has no digits beyond
  if (!std::isfinite(x) || digits > kMost) return x;
  if (digits < -kMost) return 0 * x;
  if (digits >= 0) return std::stod(fmt::format("{:.{}f}", x, digits));
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(x / unit) * unit;
}

Value round(const Call& call) {
  if (!call.self.number()) call.work.fail(fmt::format("round of {}", kind_of(call.self)), "a number");
  const std::string method = call.text(1, "method").value_or("common");
  const int64_t digits = call.number(0, "precision", 0);
  const double x = *call.self.number();
  if (method == "common") {
    if (!call.self.integer()) return {rounded(x, digits)};
    if (digits >= 0) return {*call.self.integer()};
    return {static_cast<int64_t>(rounded(x, digits))};
  }
  if (method != "ceil" && method != "floor") call.work.fail("round by neither", "common, ceil or floor");
  const double unit = std::pow(10.0, static_cast<double>(digits)), scaled = x * unit;
  if (!std::isfinite(scaled) || unit == 0) call.work.fail("a number out of range", "a smaller one");
  return {(method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit};
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
    {"batch", batched},
    {"capitalize", changed<capitalized>},
    {"count", length},
    {"d", defaulted},
    {"default", defaulted},
    {"dictsort", dict_sorted},
    {"first", [](const Call& c) { return ends(c, false); }},
    {"float", [](const Call& c) { return number_of(c, false); }},
    {"groupby", grouped},
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
    {"round", round},
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
