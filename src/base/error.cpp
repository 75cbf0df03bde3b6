#include "base/error.h"

#include <fmt/format.h>

namespace linnet {

Error::Error(std::string_view where, std::string_view what, std::string_view expected, ExitStatus status)
    : message_(printable(where, 400)), status_(status) {
  message_ += ": ";
  message_ += printable(what, 400);
  if (!expected.empty()) {
    message_ += ", expected ";
    message_ += printable(expected, 400);
  }
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (unsigned char c : text.substr(0, limit)) {
    if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  if (text.size() > limit) {
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xC0) == 0x80) out.pop_back();
    if (!out.empty() && static_cast<unsigned char>(out.back()) >= 0xC0) out.pop_back();
    out += "…";
  }
  return out;
}

}  // namespace linnet
