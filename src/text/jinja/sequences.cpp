#include "text/jinja/sequences.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace linnet::jinja {

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

namespace {

/// What an element counts by: itself or its attribute, in small letters where case does not count.
Value key_of(const Value& item, const Value& attribute_name, bool case_counts, Work& work) {
  Value key = attribute_name.undefined() || attribute_name.none() ? item : path(item, attribute_name, work);
  if (!case_counts && key.string() != nullptr) key = work.string(lower(*key.string()));
  return key;
}

}  // namespace

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

namespace {

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

}  // namespace

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

/// By an attribute, in order of what it is: each a pair of it (`grouper`) and the elements (`list`).
Value grouped(const Call& call) {
  const bool exact = truth(call.get(2, "case_sensitive"));
  const Value name = call.get(0, "attribute"), otherwise = call.get(1, "default");
  if (name.undefined()) call.work.fail("groupby without an attribute", "what to group by");
  Values items = items_of(call.self, call.work), keys, groups;
  const auto own = [&](const Value& item) {
    const Value key = path(item, name, call.work);
    return key.undefined() && !otherwise.undefined() ? otherwise : key;
  };
  const auto key = [&](const Value& item) { return key_of(own(item), {}, exact, call.work); };
  for (const Value& item : items) keys.push_back(key(item));
  items = sorted(std::move(items), keys, false, call.work);
  for (size_t at = 0; at < items.size();) {
    const Value first = items[at], common = key(first);
    Values group;
    while (at < items.size() && equal(key(items[at]), common, call.work)) group.push_back(items[at++]);
    groups.push_back(call.work.group(own(first), std::move(group)));
  }
  return call.work.list(std::move(groups));
}

/// Lists of `linecount` elements, the last filled up where `fill_with` is given.
Value batched(const Call& call) {
  const int64_t size = call.number(0, "linecount", 0);
  const Value fill = call.get(1, "fill_with");
  if (size < 1) call.work.fail(fmt::format("batches of {}", size), "at least 1");
  Values batches, batch;
  for (const Value& item : items_of(call.self, call.work)) {
    batch.push_back(item);
    if (static_cast<int64_t>(batch.size()) < size) continue;
    batches.push_back(call.work.list(std::move(batch)));
    batch.clear();
  }
  if (!batch.empty()) {
    while (!fill.undefined() && !fill.none() && static_cast<int64_t>(batch.size()) < size) {
      call.work.step();
      call.work.grow(sizeof(Value));
      batch.push_back(fill);
    }
    batches.push_back(call.work.list(std::move(batch)));
  }
  return call.work.list(std::move(batches));
}

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

}  // namespace linnet::jinja
