#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/nearest.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/output.h"

#ifndef LINNET_VERSION
#define LINNET_VERSION "unknown"
#endif

namespace linnet::cli {
namespace {

constexpr auto kAll = [](const CLI::App*) { return true; };

/// Whether it can be written or not: fmt::print throws where it cannot.
void say(const std::string& line) { std::fputs(line.c_str(), stderr); }

int report(const Error& error) {
  // Who closed the pipe wants nothing more; who pressed Ctrl-C made no error.
  if (error.status() == ExitStatus::kInterrupted) {
    say(fmt::format("linnet: {}\n", error.what()));
  } else if (error.status() != ExitStatus::kNoReader) {
    say(fmt::format("linnet: error: {}\n", error.what()));
  }
  return static_cast<int>(error.status());
}

/// `linnet help A B` is `linnet A B --help`.
std::vector<std::string> arguments_of(int argc, char** argv) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
  }
  return arguments;
}

/// The deepest command named, and its names from the program's on.
std::pair<const CLI::App*, std::string> deepest(const CLI::App& app) {
  const CLI::App* command = &app;
  std::string path = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    path += " " + command->get_name();
  }
  return {command, path};
}

std::string help_of(const CLI::App& app) {
  return fmt::format("what `{} --help` lists", deepest(app).second);
}

/// What is wrong with a command line, from the first argument that nobody knows: most other errors follow
/// from it.
Error explain(const CLI::App& app, const CLI::Error& error) {
  const CLI::App* command = deepest(app).first;
  const auto commands = command->get_subcommands(kAll);
  std::vector<std::string> names;
  for (const CLI::App* sub : commands) names.push_back(sub->get_name());
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const char* word = commands.empty() ? "argument" : "command";
  std::string unknown, what = error.what();
  for (const std::string& argument : app.remaining(true)) {
    const bool option = argument.size() > 1 && argument.front() == '-';
    if (!unknown.empty() && !option) continue;  // an unknown option says more than the value after it
    unknown = argument.substr(0, argument.find('='));
    what = fmt::format("unknown {} \"{}\"", option ? "option" : word, printable(unknown, 60));
    if (option) break;
  }
  if (unknown.empty() && !commands.empty()) what = "no command";
  const std::vector<std::string_view> candidates(names.begin(), names.end());
  const std::string_view meant = unknown.empty() ? "" : nearest(unknown, candidates);
  return Error("command line", what,
               fmt::format("{}{}", meant.empty() ? "" : fmt::format("{} or ", meant), help_of(app)));
}

/// Whether the first argument after a group of commands names none of them.
bool names_no_command(const CLI::App& app) {
  const auto rest = app.remaining(true);
  return !deepest(app).first->get_subcommands(kAll).empty() && !rest.empty() &&
         !rest.front().starts_with('-');
}

/// Parses; what is left to do then lies in `work`, empty where --help or --version was all.
void parse(CLI::App& app, std::vector<std::string> arguments) {
  check_values(app, arguments);
  arguments = with_needed_arguments_first(app, std::move(arguments));
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp& help) {
    if (names_no_command(app)) throw explain(app, help);
    print(app.help());
  } catch (const CLI::Success& version) {
    print(version.what() + std::string("\n"));
  } catch (const CLI::ValidationError& error) {  // says what was expected itself
    const std::string text = error.what();
    const size_t colon = std::min(text.find(": "), text.size());
    throw Error(text.substr(0, colon), text.substr(std::min(colon + 2, text.size())));
  } catch (const CLI::ConversionError& error) {  // "Could not convert: --option = value"
    const std::string text = error.what();
    const size_t name = std::min(text.find(": "), text.size() - 2) + 2, equals = text.find(" = ", name);
    if (equals == text.npos) throw explain(app, error);
    throw Error(text.substr(name, equals - name), printable(text.substr(equals + 3), 60), "a whole number");
  } catch (const CLI::RequiredError& error) {  // "MODEL is required", unless more is wrong
    const std::string text = error.what();
    const size_t end = text.find(" is required");
    const bool needs_command = !deepest(app).first->get_subcommands(kAll).empty();
    if (end == text.npos || needs_command || !app.remaining(true).empty()) throw explain(app, error);
    throw Error(text.substr(0, end), "not given", help_of(app));
  } catch (
      const CLI::ArgumentMismatch& error) {  // of an argument without a name: options were looked at before
    const std::string text = error.what();
    throw Error(text.substr(0, text.find(':')), "given too often", help_of(app));
  } catch (const CLI::ParseError& error) {
    throw explain(app, error);
  }
}

/// Replaces this process by the workshop's executable, which lies beside this one. Throws Error if it cannot.
[[noreturn]] void start_workshop(const std::vector<std::string>& arguments) {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "linnet-train";
  std::vector<char*> argv{const_cast<char*>("linnet")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  throw Error(arguments.front(), "the workshop is not installed",
              fmt::format("the program {} (build with -DLINNET_WORKSHOP=ON)", program.string()));
}

/// Whether an argument is `option`, or the two of OPTION=VALUE stand one after the other.
bool has_option(std::span<const std::string> arguments, std::string_view option) {
  const std::string_view name = option.substr(0, option.find('=')), value = option.substr(name.size());
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == option) return true;
    if (!value.empty() && arguments[i] == name && i + 1 < arguments.size() &&
        arguments[i + 1] == value.substr(1))
      return true;
  }
  return false;
}

/// Whether the workshop's executable has what is asked for; it takes the arguments as they are.
bool is_the_workshops(std::span<const Command> commands, std::span<const std::string> arguments) {
  for (const Command& command : commands) {
    if (arguments.empty() || arguments.front() != command.name) continue;
    return command.describe == nullptr ||
           (command.in_workshop != nullptr && has_option(arguments, command.in_workshop));
  }
  return false;
}

Error out_of_memory() {
  return Error("memory", "not enough for this", "a shorter text, smaller sizes or a larger machine");
}

}  // namespace

Work parse_command(std::span<const Command> commands, std::vector<std::string> arguments) {
  // Kept as long as the work, which asks it what was given.
  const auto kept =
      std::make_shared<CLI::App>("Linnet: pretrained language models with linear attention", "linnet");
  CLI::App& app = *kept;
  app.formatter(help_formatter());
  app.require_subcommand(1);
  app.set_version_flag("--version", "linnet " LINNET_VERSION, "The program's version");
  app.set_help_flag("-h,--help", "This text; also `linnet help COMMAND`");
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  Work work;
  for (const Command& command : commands) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary)->group("Commands");
    if (command.describe == nullptr) continue;
    sub->option_defaults()->always_capture_default();
    command.describe(*sub, work);
  }
  parse(app, std::move(arguments));
  if (!work) return {};
  check_outputs(*deepest(app).first);
  return [kept, work] {
    std::optional<QuietOutput> quiet;
    if (prints_json(*deepest(*kept).first)) quiet.emplace();
    return work();
  };
}

int run_commands(std::span<const Command> commands, int argc, char** argv) {
  open_standard_files();
  for (const int signal : {SIGPIPE, SIGXFSZ}) ::signal(signal, SIG_IGN);  // writes fail and are cleaned up
  install_truncation_handler();
  try {
    const std::vector<std::string> arguments = arguments_of(argc, argv);
    if (is_the_workshops(commands, arguments)) start_workshop(arguments);
    const Work work = parse_command(commands, arguments);
    if (!work) return static_cast<int>(ExitStatus::kDone);
    catch_interrupts();
    return static_cast<int>(work());
  } catch (const Error& error) {
    return report(error);
  } catch (const std::bad_alloc&) {
    return report(out_of_memory());
  } catch (const std::filesystem::filesystem_error& error) {
    return report(Error(error.path1().string(), error.code().message(), "a file or folder that can be used"));
  } catch (const std::exception& error) {
    // libtorch's own, which go on with a trace of its calls.
    const std::string_view text = error.what(), first = text.substr(0, text.find('\n'));
    if (first.find("allocate memory") != first.npos || first.find("out of memory") != first.npos)
      return report(out_of_memory());
    return report(Error("linnet", first, {}, ExitStatus::kFailed));
  }
}

}  // namespace linnet::cli
