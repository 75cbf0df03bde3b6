#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <new>

#include "base/file.h"
#include "base/nearest.h"
#include "cli/command.h"

#ifndef LINNET_VERSION
#define LINNET_VERSION "unknown"
#endif

namespace linnet::cli {
namespace {

int report(const std::string& message, ExitStatus status) {
  fmt::print(stderr, "linnet: error: {}\n", message);
  return static_cast<int>(status);
}

/// What the deepest command named could have meant by the first argument that it does not know.
std::string expected_instead(const CLI::App& app) {
  const CLI::App* command = &app;
  std::string path = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    path += " " + command->get_name();
  }
  std::vector<std::string> names;
  for (const CLI::App* sub : command->get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(sub->get_name());
  }
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::vector<std::string> unknown = app.remaining(true);
  const std::vector<std::string_view> candidates(names.begin(), names.end());
  const std::string_view meant = unknown.empty() ? "" : nearest(unknown.front(), candidates);
  return fmt::format("{}what `{} --help` lists", meant.empty() ? "" : fmt::format("{} or ", meant), path);
}

}  // namespace

ExitStatus start_workshop(const std::vector<std::string>& arguments) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "linnet-train";
  std::vector<char*> argv{const_cast<char*>("linnet")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  throw Error(arguments.front(), "the workshop is not installed",
              fmt::format("the program {} (build with -DLINNET_WORKSHOP=ON)", program.string()));
}

int run_commands(std::span<const Command> commands, int argc, char** argv) {
  install_truncation_handler();
  CLI::App app("Linnet: pretrained language models with linear attention", "linnet");
  app.require_subcommand(1);
  app.set_version_flag("--version", "linnet " LINNET_VERSION);
  Work work;
  for (const Command& command : commands) {
    if (command.describe == nullptr) {
      if (argc > 1 && std::string_view(argv[1]) == command.name) {
        try {
          start_workshop({argv + 1, argv + argc});
        } catch (const Error& error) {
          return report(error.what(), error.status());
        }
      }
      app.add_subcommand(command.name, command.summary);
      continue;
    }
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    sub->option_defaults()->always_capture_default();
    command.describe(*sub, work);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    return report(Error("command line", error.what(), expected_instead(app)).what(), ExitStatus::kBadInput);
  }
  try {
    return static_cast<int>(work ? work() : ExitStatus::kDone);
  } catch (const Error& error) {
    return report(error.what(), error.status());
  } catch (const std::bad_alloc&) {
    return report("memory: out of memory, expected a smaller request", ExitStatus::kFailed);
  } catch (const std::exception& error) {
    return report(Error("linnet", error.what()).what(), ExitStatus::kFailed);
  }
}

}  // namespace linnet::cli
