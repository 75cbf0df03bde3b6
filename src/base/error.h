// The one exception type. Thrown wherever work cannot go on; caught once, in main.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace linnet {

/// What a process ends with.
enum class ExitStatus {
  kDone = 0,
  kFailed = 1,
  kBadInput = 2,
  kInterrupted = 130,  // Ctrl-C
  kNoReader = 141,     // whoever read standard output closed it, as `| head -1` does
};

/// Says where (a file, a tensor, an option), what was wrong with which value, and what was expected.
/// Printed by main as `linnet: error: WHERE: WHAT, expected WHAT`, one line.
class Error : public std::exception {
 public:
  /// `expected` may be empty. `status` is kBadInput unless the work itself failed.
  Error(std::string_view where, std::string_view what, std::string_view expected = {},
        ExitStatus status = ExitStatus::kBadInput);

  const char* what() const noexcept override { return message_.c_str(); }
  ExitStatus status() const { return status_; }

 private:
  std::string message_;
  ExitStatus status_;
};

/// `text` made fit for one line of an error: control characters escaped, cut to `limit` bytes.
std::string printable(std::string_view text, size_t limit = 120);

}  // namespace linnet
