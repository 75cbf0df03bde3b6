#include <fmt/format.h>

#include <array>

#include "attention/method.h"
#include "base/error.h"
#include "base/nearest.h"

namespace linnet {

#define LINNET_METHOD(name) const Method& name##_method();
#define LINNET_LOCAL_METHOD LINNET_METHOD
#include "attention/methods/list.inc"
#undef LINNET_METHOD

std::span<const Method* const> methods() {
#define LINNET_METHOD(name) &name##_method(),
  static const std::array rows{
#include "attention/methods/list.inc"
  };
#undef LINNET_METHOD
#undef LINNET_LOCAL_METHOD
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
