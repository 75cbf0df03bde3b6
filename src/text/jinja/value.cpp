#include "text/jinja/value.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace linnet::jinja {
namespace {

constexpr size_t kMostSteps = 4'000'000, kMostBytes = size_t{256} << 20;
constexpr int kMostDepth = 100;    // of values inside values
constexpr int kMostNesting = 400;  // of evaluation, macros that call themselves included

bool equal_items(const Values& a, const Values& b, Work& work) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!equal(a[i], b[i], work)) return false;
  }
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b, Work& work) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& entry : a.items) {
    const auto same = [&](const auto& other) { return equal(entry.first, other.first, work); };
    const auto found = std::find_if(b.items.begin(), b.items.end(), same);
    if (found == b.items.end() || !equal(entry.second, found->second, work)) return false;
  }
  return true;
}

template <typename T>
int order(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

}  // namespace

std::optional<int64_t> Value::integer() const {
  if (is<int64_t>()) return std::get<int64_t>(data);
  if (is<bool>()) return std::get<bool>(data) ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::number() const {
  if (is<double>()) return std::get<double>(data);
  const auto whole = integer();
  return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
}

int Value::depth() const {
  if (const Sequence* s = sequence()) return s->depth;
  if (const Dict* d = dict()) return d->depth;
  if (const Loop* l = loop()) return l->items.depth() + 1;
  if (const Callable* c = callable()) return c->self ? c->self->depth() + 1 : 0;
  return 0;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items) {
    if (name.string() != nullptr && *name.string() == key) return &value;
  }
  return nullptr;
}

Value* Namespace::find(std::string_view name) {
  for (auto& [field, value] : fields) {
    if (field == name) return &value;
  }
  return nullptr;
}

Value Arguments::get(size_t index, std::string_view name) const {
  if (index < positional.size()) return positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return value;
  }
  return {};
}

void Work::step(size_t count) {
  if (count > kMostSteps - steps_) fail("too much to compute", fmt::format("at most {} steps", kMostSteps));
  steps_ += count;
}

void Work::grow(size_t bytes) {
  if (bytes > kMostBytes - bytes_) fail("too much text", fmt::format("at most {} bytes in all", kMostBytes));
  bytes_ += bytes;
}

void Work::enter() {
  if (depth_ >= kMostNesting) fail("nested too deeply", fmt::format("at most {} levels", kMostNesting));
  ++depth_;
}

void Work::fail(std::string_view what, std::string_view expected) const {
  throw Error(line_ > 0 ? fmt::format("{}, line {}", where_, line_) : where_, what, expected);
}

int Work::deeper(int depth) {
  if (depth >= kMostDepth) {
    fail("lists inside lists too deeply", fmt::format("at most {} levels", kMostDepth));
  }
  return depth + 1;
}

Value Work::string(std::string text) {
  grow(text.size());
  return {std::make_shared<const std::string>(std::move(text))};
}

Value Work::list(Values items, bool tuple) {
  grow(items.size() * sizeof(Value));
  step(items.size());
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return {std::make_shared<const Sequence>(Sequence{std::move(items), tuple, deeper(depth)})};
}

Value Work::group(const Value& common, Values members) {
  Sequence pair{{common, list(std::move(members))}, true};
  pair.depth = deeper(std::max(common.depth(), pair.items[1].depth()));
  pair.group = true;
  return {std::make_shared<const Sequence>(std::move(pair))};
}

Value Work::dict(Entries items) {
  grow(items.size() * 2 * sizeof(Value));
  step(items.size());
  int depth = 0;
  for (const auto& [key, value] : items) depth = std::max({depth, key.depth(), value.depth()});
  return {std::make_shared<const Dict>(Dict{std::move(items), deeper(depth)})};
}

Value Work::call_of(std::string name, std::optional<Value> self) {
  return {std::make_shared<const Callable>(Callable{std::move(name), std::move(self), nullptr})};
}

Value Work::names(std::vector<std::pair<std::string, Value>> fields) {
  grow(sizeof(Namespace) + fields.size() * sizeof(fields[0]));
  namespaces_.push_back(std::make_unique<Namespace>(Namespace{std::move(fields)}));
  return {namespaces_.back().get()};
}

Value Work::from_json(const nlohmann::ordered_json& json) {
  if (json.is_null()) return {None{}};
  if (json.is_boolean()) return {json.get<bool>()};
  if (json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX}) return {json.get<double>()};
  if (json.is_number_integer()) return {json.get<int64_t>()};
  if (json.is_number()) return {json.get<double>()};
  if (json.is_string()) return string(json.get<std::string>());
  if (json.is_array()) {
    Values items;
    for (const auto& item : json) items.push_back(from_json(item));
    return list(std::move(items));
  }
  Entries entries;
  for (const auto& [key, item] : json.items()) entries.emplace_back(string(key), from_json(item));
  return dict(std::move(entries));
}

bool truth(const Value& value) {
  if (value.undefined() || value.none()) return false;
  if (const auto number = value.number()) return *number != 0;
  if (const std::string* text = value.string()) return !text->empty();
  if (const Sequence* sequence = value.sequence()) return !sequence->items.empty();
  if (const Dict* dict = value.dict()) return !dict->items.empty();
  return true;
}

bool equal(const Value& a, const Value& b, Work& work) {
  work.step();
  if (a.integer() && b.integer()) return *a.integer() == *b.integer();
  if (a.number() && b.number()) return *a.number() == *b.number();
  if (a.data.index() != b.data.index()) return false;
  if (const std::string* text = a.string()) {
    work.step(std::min(text->size(), b.string()->size()) / 64);
    return *text == *b.string();
  }
  if (const Sequence* sequence = a.sequence()) {
    return sequence->tuple == b.sequence()->tuple && equal_items(sequence->items, b.sequence()->items, work);
  }
  if (const Dict* dict = a.dict()) return equal_dicts(*dict, *b.dict(), work);
  if (a.names() != nullptr) return a.names() == b.names();
  if (a.loop() != nullptr) return a.loop() == b.loop();
  if (a.callable() != nullptr) return a.callable() == b.callable();
  return true;  // both undefined, or both none
}

int compare(const Value& a, const Value& b, Work& work) {
  work.step();
  if (a.integer() && b.integer()) return order(*a.integer(), *b.integer());
  if (a.number() && b.number()) return order(*a.number(), *b.number());
  if (a.string() != nullptr && b.string() != nullptr) {
    work.step(std::min(a.string()->size(), b.string()->size()) / 64);
    return order(*a.string(), *b.string());
  }
  if (a.sequence() == nullptr || b.sequence() == nullptr || a.sequence()->tuple != b.sequence()->tuple) {
    work.fail(fmt::format("{} compared with {}", kind_of(a), kind_of(b)), "two that have an order");
  }
  const Values &left = a.sequence()->items, &right = b.sequence()->items;
  for (size_t i = 0; i < left.size() && i < right.size(); ++i) {
    if (!equal(left[i], right[i], work)) return compare(left[i], right[i], work);
  }
  return order(left.size(), right.size());
}

bool contains(const Value& container, const Value& item, Work& work) {
  if (const std::string* text = container.string()) {
    if (item.string() == nullptr)
      work.fail(fmt::format("{} looked for in a string", kind_of(item)), "a string");
    work.step((text->size() + item.string()->size()) / 16);
    return ::memmem(text->data(), text->size(), item.string()->data(), item.string()->size()) != nullptr;
  }
  if (Namespace* names = container.names()) {
    return item.string() != nullptr && names->find(*item.string()) != nullptr;
  }
  if (const Dict* dict = container.dict()) {
    return std::any_of(dict->items.begin(), dict->items.end(),
                       [&](const auto& entry) { return equal(entry.first, item, work); });
  }
  if (const Sequence* sequence = container.sequence()) {
    return std::any_of(sequence->items.begin(), sequence->items.end(),
                       [&](const Value& other) { return equal(other, item, work); });
  }
  if (container.undefined()) return false;
  work.fail(fmt::format("`in` {}", kind_of(container)), "a string, a list or a dict");
}

Values items_of(const Value& value, Work& work) {
  Values items;
  if (value.undefined()) return items;
  if (const Sequence* sequence = value.sequence()) {
    items = sequence->items;
  } else if (const Dict* dict = value.dict()) {
    for (const auto& entry : dict->items) items.push_back(entry.first);
  } else if (const std::string* text = value.string()) {
    work.step(text->size());
    for (size_t at = 0; at < text->size();) {
      const size_t begin = at;
      next_code_point(*text, at);
      items.push_back(work.string(text->substr(begin, at - begin)));
    }
  } else {
    work.fail(fmt::format("{} to go over", kind_of(value)), "a list, a dict or a string");
  }
  work.grow(items.size() * sizeof(Value));
  return items;
}

}  // namespace linnet::jinja
