#include "serve/api_error.h"

#include <nlohmann/json.hpp>

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
