#include <fmt/format.h>

#include <array>

#include "attention/method.h"
#include "base/error.h"
#include "base/nearest.h"

namespace linnet {

std::span<const Method* const> methods() {
  static const std::array rows{&softmax_method(),  &relu_method(),    &elu1_method(),
                               &hedgehog_method(), &grouped_method(), &flash_local_method()};
  return rows;
}

const Method& find_method(std::string_view name, const std::string& where) {
  std::vector<std::string_view> names;
  for (const Method* method : methods()) {
    if (method->name == name) return *method;
    names.push_back(method->name);
  }
  throw Error(where, fmt::format("unknown method \"{}\"", printable(name)), one_of(name, names));
}

}  // namespace linnet
