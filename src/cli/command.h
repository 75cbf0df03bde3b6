// What a command is: it describes its options, then runs. One file a command; main.cpp lists them.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace linnet::cli {

/// Adds a subcommand to `app`; its callback stores the work to do in `run`.
using Work = std::function<ExitStatus()>;
using Describe = void (*)(CLI::App& app, Work& run);

struct Command {
  const char* name;
  const char* summary;  // one line of `linnet --help`
  Describe describe;    // null: the workshop's executable has it
  const char* in_workshop =
      nullptr;  // an option, or OPTION=VALUE, with which the workshop's executable runs it
};

/// What is left to do of a command line, `arguments` without the program's name, once its options and outputs
/// are found to be good; empty where --help or --version was all. Throws Error.
Work parse_command(std::span<const Command> commands, std::vector<std::string> arguments);

/// Parses, runs, prints errors as `linnet: error: WHERE: WHAT, expected WHAT`; returns the exit status.
int run_commands(std::span<const Command> commands, int argc, char** argv);

}  // namespace linnet::cli
