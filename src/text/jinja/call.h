// A call of what is built in: what it is applied to, its arguments by place or name, and the bounds of work.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace linnet::jinja {

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

}  // namespace linnet::jinja
