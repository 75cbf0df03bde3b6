// The options of a command that take a number, as its --help shows them, and values that each must refuse.
#pragma once

#include <string>
#include <vector>

namespace linnet {

struct NumericOption {
  std::string name, range;  // "--threads", "0 to 1024"; the range is empty where --help shows none
  bool whole;               // takes no fraction
};

/// Of what `linnet COMMAND --help` prints.
std::vector<NumericOption> numeric_options(const std::string& help);

/// What no option takes, and what lies outside the range.
std::vector<std::string> bad_values(const NumericOption& option);

}  // namespace linnet
