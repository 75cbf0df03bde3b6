// The options of a command as its --help shows them; of those that take a number, values that each must
// refuse.
#pragma once

#include <string>
#include <vector>

namespace linnet {

struct NumericOption {
  std::string name, range;  // "--threads", "0 to 1024"; the range is empty where --help shows none
  bool whole;               // takes no fraction
  std::string standard;     // the default that --help shows; empty: none
};

struct HelpOption {
  std::string name, kind;  // "--threads", "INT"
  bool takes_value, takes_several;
};

/// Of what `linnet COMMAND --help` prints.
std::vector<HelpOption> options_in(const std::string& help);
std::vector<NumericOption> numeric_options(const std::string& help);

/// Whether the default lies in the range.
bool is_in_range(const NumericOption& option);
/// What no option takes, and what lies outside the range.
std::vector<std::string> bad_values(const NumericOption& option);

/// Those whose value is a text, a name or a file, by their long names.
std::vector<std::string> text_options(const std::string& help);

}  // namespace linnet
