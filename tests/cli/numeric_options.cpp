#include "tests/cli/numeric_options.h"

#include <fmt/format.h>

#include <regex>
#include <sstream>

namespace linnet {
namespace {

/// An option's lines as one, those of every option in turn.
std::vector<std::string> options_of(const std::string& help) {
  std::vector<std::string> options;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("  -")) {
      options.push_back(line);
    } else if (line.starts_with("     ") && !options.empty()) {
      options.back() += fmt::format(" {}", line.substr(line.find_first_not_of(' ')));
    }
  }
  return options;
}

}  // namespace

std::vector<HelpOption> options_in(const std::string& help) {
  static const std::regex kOption("^  (-\\w,)?(--[\\w-]+)( [A-Z][A-Z=,…]*)?( \\.\\.\\.)? .*");
  std::vector<HelpOption> options;
  for (const std::string& text : options_of(help)) {
    std::smatch found;
    if (!std::regex_match(text, found, kOption)) continue;
    const std::string kind = found[3].matched ? found[3].str().substr(1) : "";
    const bool repeats = kind.ends_with("…") || text.find("repeated") != text.npos;
    options.push_back({found[2], kind, !kind.empty(), found[4].matched || repeats});
  }
  return options;
}

std::vector<NumericOption> numeric_options(const std::string& help) {
  static const std::regex kNumeric("^  (-\\w,)?(--[\\w-]+) (INT|UINT|FLOAT|TOKENS\\S*|BYTES|N) .*");
  static const std::regex kRange("\\(([^()]* to [^(); ]*|at least [^(); ]*|above [^(); ]*)(;[^()]*)?\\)$");
  static const std::regex kDefault("; default ([0-9.e+-]+)(;[^()]*)?\\)$");
  std::vector<NumericOption> options;
  for (const std::string& text : options_of(help)) {
    std::smatch option, range, standard;
    if (!std::regex_match(text, option, kNumeric)) continue;
    options.push_back({option[2], std::regex_search(text, range, kRange) ? range[1].str() : "",
                       option[3] != "FLOAT",
                       std::regex_search(text, standard, kDefault) ? standard[1].str() : ""});
  }
  return options;
}

bool is_in_range(const NumericOption& option) {
  const size_t at = option.range.find_first_of("0123456789");
  if (option.standard.empty() || at == std::string::npos) return true;
  const double low = std::stod(option.range.substr(at)), value = std::stod(option.standard);
  return option.range.starts_with("above") ? value > low : value >= low;
}

std::vector<std::string> text_options(const std::string& help) {
  static const std::regex kText("^  (-\\w,)?(--[\\w-]+) (TEXT|FILE|JSON|MODEL|NAME|LAYERS|KEY=VALUE)\\b.*");
  std::vector<std::string> options;
  for (const std::string& text : options_of(help)) {
    std::smatch option;
    if (std::regex_match(text, option, kText)) options.push_back(option[2]);
  }
  return options;
}

std::vector<std::string> bad_values(const NumericOption& option) {
  std::vector<std::string> values = {"nan", "text", "1e400", "-1", "1 2", "0x1"};
  if (option.whole) values.insert(values.end(), {"1.5", "99999999999999999999"});
  const auto number = [&](size_t at) { return std::stod(option.range.substr(at)); };
  if (option.range.starts_with("above 0")) {
    values.emplace_back("0");
    return values;
  }
  const size_t to = option.range.find(" to ");
  const double low = number(to == std::string::npos ? std::string("at least ").size() : 0);
  if (low > 0) values.push_back(fmt::format("{}", low - 1));
  if (to == std::string::npos) return values;
  values.push_back(fmt::format("{:.0f}", number(to + 4) * 1.001 + 1));
  return values;
}

}  // namespace linnet
