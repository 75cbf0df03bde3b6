// Where a positional argument stands among options that take several values.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace linnet::cli {

/// Throws Error on an option without its value, one given twice that takes one value, a flag with a value,
/// and a list with nothing between two commas: what CLI11 would take for something else or say in its words.
void check_values(const CLI::App& app, const std::vector<std::string>& arguments);

/// Whether an option takes every argument up to the next option: `--data FILE…`.
bool takes_several(const CLI::Option& option);

/// The arguments, with what the command still needs moved to its front. An option that takes several values
/// takes all up to the next option; where MODEL would be missing then, it is the last of such a row of
/// values: of the last row that ends in a folder, else of the last.
std::vector<std::string> with_needed_arguments_first(const CLI::App& app, std::vector<std::string> arguments);

}  // namespace linnet::cli
