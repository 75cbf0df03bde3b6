#include "serve/api_error.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace linnet::serve {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

ApiError ApiError::method(std::string_view method, std::string allowed) {
  ApiError error(405, fmt::format("{}, expected {}", printable(method, 20), allowed));
  error.allow_ = std::move(allowed);
  return error;
}

std::string ApiError::json() const {
  using Json = nlohmann::ordered_json;
  const Json json = {{"error",
                      {{"message", message_},
                       {"type", type_of(status_)},
                       {"param", nullptr},
                       {"code", code_.empty() ? Json() : Json(code_)}}}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace linnet::serve
