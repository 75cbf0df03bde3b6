#include "cli/arguments.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <optional>

namespace linnet::cli {
namespace {

bool is_option(const std::string& argument) {
  return argument.size() > 1 && argument[0] == '-' &&
         std::isdigit(static_cast<unsigned char>(argument[1])) == 0;
}

/// What an argument names: `--data`, `--data=FILE`, `-o` or `-oFOLDER`; null where nobody knows it.
const CLI::Option* option_of(const CLI::App& command, const std::string& argument) {
  const bool is_long = argument.compare(0, 2, "--") == 0;
  return command.get_option_no_throw(is_long ? argument.substr(0, argument.find('='))
                                             : argument.substr(0, 2));
}

/// Whether the option's first value stands in the same argument.
bool holds_value(const std::string& argument) {
  return argument.compare(0, 2, "--") == 0 ? argument.find('=') != argument.npos : argument.size() > 2;
}

size_t needed_by(const CLI::App& command) {
  const auto options = command.get_options();
  return static_cast<size_t>(std::count_if(options.begin(), options.end(), [](const CLI::Option* option) {
    return option->get_positional() && option->get_required();
  }));
}

/// Arguments begin … end − 1 are one option's values; `spare` of them may be something else.
struct Values {
  size_t end, spare;
};

struct Line {
  std::vector<Values> rows;  // of options that take several values, if any can be spared
  size_t positionals = 0;
};

Line read_line(const CLI::App& command, const std::vector<std::string>& arguments, size_t at) {
  Line line;
  while (at < arguments.size()) {
    const std::string& argument = arguments[at++];
    if (argument == "--") {
      line.positionals += arguments.size() - at;
      break;
    }
    if (!is_option(argument)) {
      ++line.positionals;
      continue;
    }
    const CLI::Option* option = option_of(command, argument);
    if (option == nullptr || option->get_type_size() == 0) continue;  // unknown, or a flag
    const size_t least = holds_value(argument) ? 0 : 1;
    if (!takes_several(*option)) {
      at += least;
      continue;
    }
    const size_t begin = at;
    while (at < arguments.size() && !is_option(arguments[at])) ++at;
    if (at - begin > least) line.rows.push_back({at, at - begin - least});
  }
  return line;
}

}  // namespace

bool takes_several(const CLI::Option& option) {
  return option.get_expected_max() >= CLI::detail::expected_max_vector_size && option.get_allow_extra_args();
}

std::vector<std::string> with_needed_arguments_first(const CLI::App& app,
                                                     std::vector<std::string> arguments) {
  const CLI::App* command = &app;
  size_t first = 0;  // argument after the command's name
  while (first < arguments.size()) {
    const auto named =
        command->get_subcommands([&](const CLI::App* sub) { return sub->get_name() == arguments[first]; });
    if (named.empty()) break;
    command = named.front();
    ++first;
  }
  const Line line = read_line(*command, arguments, first);
  const size_t needed = needed_by(*command);
  if (line.positionals >= needed || line.rows.empty()) return arguments;
  const auto ends_in_folder = [&](const Values& row) {
    std::error_code error;
    return std::filesystem::is_directory(arguments[row.end - 1], error);
  };
  const auto folder = std::find_if(line.rows.rbegin(), line.rows.rend(), ends_in_folder);
  const Values& row = folder != line.rows.rend() ? *folder : line.rows.back();
  const auto count = static_cast<std::ptrdiff_t>(std::min(needed - line.positionals, row.spare));
  const auto begin = arguments.begin(), end = begin + static_cast<std::ptrdiff_t>(row.end);
  std::rotate(begin + static_cast<std::ptrdiff_t>(first), end - count, end);
  return arguments;
}

}  // namespace linnet::cli
