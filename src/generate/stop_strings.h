// Stop strings in text that arrives in pieces. Text that may be the beginning of one is held back; which text
// passes depends on the whole text alone, never on how it was cut into pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace linnet {

class StopStrings {
 public:
  /// Throws Error on an empty string.
  explicit StopStrings(std::vector<std::string> stops);

  /// Text that may be shown now. The stop string that ends first is found (of several that end there the
  /// longest); it and what follows never pass.
  std::string push(std::string_view text);
  /// What was held back, at the end of the text.
  std::string finish();
  bool found() const { return found_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace linnet
