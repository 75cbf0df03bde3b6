#include "cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <optional>
#include <set>

#include "base/error.h"

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

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

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
    if (option == nullptr || is_flag(*option)) continue;
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

/// The command that the first arguments name, and how many of them.
std::pair<const CLI::App*, size_t> named_command(const CLI::App& app,
                                                 const std::vector<std::string>& arguments) {
  const CLI::App* command = &app;
  size_t first = 0;
  while (first < arguments.size()) {
    const auto named =
        command->get_subcommands([&](const CLI::App* sub) { return sub->get_name() == arguments[first]; });
    if (named.empty()) break;
    command = named.front();
    ++first;
  }
  return {command, first};
}

/// "INT, 1 to 1024": what --help says of an option's value.
std::string kind_of(const CLI::Option& option) {
  std::string kind = option.get_type_name();
  if (const size_t colon = kind.find(':'); colon != kind.npos) kind.replace(colon, 1, ", ");
  return kind;
}

/// Whether an argument is the whole name of one of the command's options, with or without "=VALUE".
bool names_option(const CLI::App& command, const std::string& argument) {
  const bool whole = argument.starts_with("--") || argument.size() == 2;
  return is_option(argument) && whole && option_of(command, argument) != nullptr;
}

void check_list(const std::string& name, const std::string& value) {
  if (value.starts_with(',') || value.ends_with(',') || value.find(",,") != value.npos)
    throw Error(name, printable(value, 60), "a list with one comma between two, such as 1,2");
}

}  // namespace

void check_values(const CLI::App& app, const std::vector<std::string>& arguments) {
  auto [command, at] = named_command(app, arguments);
  std::set<const CLI::Option*> given;
  for (; at < arguments.size() && arguments[at] != "--"; ++at) {
    const std::string& argument = arguments[at];
    const CLI::Option* option = is_option(argument) ? option_of(*command, argument) : nullptr;
    if (option == nullptr) continue;
    const std::string name = option->get_name();
    const bool has_value = holds_value(argument), is_long = argument.starts_with("--");
    const size_t equals = argument.find('=');
    if (is_flag(*option)) {
      if (is_long && has_value) throw Error(name, "given a value", "none");
      continue;
    }
    if (is_long && has_value && equals + 1 == argument.size())
      throw Error(name, "no value", kind_of(*option));
    if (!has_value) {
      if (at + 1 == arguments.size()) throw Error(name, "no value", kind_of(*option));
      const std::string& next = arguments[at + 1];
      if (names_option(*command, next))
        throw Error(name, fmt::format("no value before {}", printable(next, 60)),
                    fmt::format("{} (or {}={})", kind_of(*option), name, printable(next, 60)));
    }
    if (option->get_delimiter() != '\0')
      check_list(name, !has_value ? arguments[at + 1] : argument.substr(is_long ? equals + 1 : 2));
    if (option->get_expected_max() == 1 && !given.insert(option).second)
      throw Error(name, "given twice", "it once");
    if (!has_value) ++at;
  }
}

bool takes_several(const CLI::Option& option) {
  return option.get_expected_max() >= CLI::detail::expected_max_vector_size && option.get_allow_extra_args();
}

std::vector<std::string> with_needed_arguments_first(const CLI::App& app,
                                                     std::vector<std::string> arguments) {
  const auto [command, first] = named_command(app, arguments);
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
