// What went wrong with a request, as the OpenAI API says it.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace linnet::serve {

class ApiError : public std::exception {
 public:
  /// `code` may be empty: what a program tells errors of one status apart by.
  ApiError(int status, std::string message, std::string code = {})
      : status_(status), message_(std::move(message)), code_(std::move(code)) {}
  /// A 405: `allowed`, separated by commas, are the path's methods.
  static ApiError method(std::string_view method, std::string allowed);

  int status() const { return status_; }
  const std::string& allow() const { return allow_; }  // empty: no 405
  const char* what() const noexcept override { return message_.c_str(); }
  /// {"error": {"message", "type", "param", "code"}}.
  std::string json() const;

 private:
  int status_;
  std::string message_, code_, allow_;
};

}  // namespace linnet::serve
