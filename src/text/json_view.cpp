#include "text/json_view.h"

#include <fmt/format.h>

#include "base/error.h"

namespace linnet {
namespace {

const nlohmann::json kNull;

std::string shown(const nlohmann::json& value) {
  return printable(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 60);
}

}  // namespace

JsonView JsonView::operator[](const char* key) const {
  if (!value_->is_object()) fail(shown(*value_), "an object");
  const auto found = value_->find(key);
  return {found == value_->end() ? kNull : *found, fmt::format("{}.{}", where_, key)};
}

JsonView JsonView::at(const char* key) const {
  JsonView member = (*this)[key];
  if (member.is_null()) member.fail("missing", "a value");
  return member;
}

size_t JsonView::size() const {
  if (!value_->is_array()) fail(shown(*value_), "an array");
  return value_->size();
}

JsonView JsonView::at(size_t index) const {
  if (index >= size()) fail(fmt::format("{} elements", size()), fmt::format("more than {}", index));
  return {value_->at(index), fmt::format("{}[{}]", where_, index)};
}

std::string JsonView::string() const {
  if (!value_->is_string()) fail(shown(*value_), "a string");
  return value_->get<std::string>();
}

std::string JsonView::string(std::string_view otherwise) const {
  return is_null() ? std::string(otherwise) : string();
}

bool JsonView::boolean(bool otherwise) const {
  if (is_null()) return otherwise;
  if (!value_->is_boolean()) fail(shown(*value_), "true or false");
  return value_->get<bool>();
}

int64_t JsonView::integer() const {
  if (!value_->is_number_integer()) fail(shown(*value_), "an integer");
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > uint64_t{INT64_MAX})
    fail(shown(*value_), "less");
  return value_->get<int64_t>();
}

double JsonView::number() const {
  if (!value_->is_number()) fail(shown(*value_), "a number");
  return value_->get<double>();
}

void JsonView::fail(std::string_view what, std::string_view expected) const {
  throw Error(where_, what, expected);
}

}  // namespace linnet
