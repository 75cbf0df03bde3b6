#include "cli/output.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "cli/options.h"

namespace linnet::cli {
namespace {

constexpr const char* kOutputFile = "output file";
constexpr const char* kOutputFolder = "output folder";
constexpr const char* kTextItself = "text";
constexpr const char* kJson = "--json";
constexpr const char* kStandardOutput = "-";  // as --json's file
int quiet = 0;                                // how many QuietOutput live

CLI::Option* marked(CLI::Option* option, const char* mark) {
  return option->check(CLI::Validator([](std::string&) { return std::string(); }, "", mark));
}

bool is_marked(const CLI::Option& option, const char* mark) {
  try {
    return const_cast<CLI::Option&>(option).get_validator(mark) != nullptr;
  } catch (const CLI::OptionNotFound&) {
    return false;
  }
}

/// To standard output now, whether print() is quiet or not.
void put(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error("standard output", fmt::format("cannot write ({})", std::strerror(errno)), "room to write",
                errno == EPIPE ? ExitStatus::kNoReader : ExitStatus::kBadInput);
  }
}

/// The same for each of the names that a file or folder may be given by.
std::filesystem::path place_of(const std::string& name) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(name, error).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return std::filesystem::weakly_canonical(path.parent_path(), error) / path.filename();
}

/// What a command reads, by the option that names it.
std::map<std::filesystem::path, std::string> inputs_of(const CLI::App& command) {
  std::map<std::filesystem::path, std::string> inputs;
  for (const CLI::Option* option : command.get_options()) {
    static const std::set<std::string> kRead = {"--file",    "--task",        "--valid", "--data",
                                                "--prompts", "--prompt-file", "--grid",  "--config"};
    if (!option->get_positional() && !kRead.contains(option->get_name())) continue;
    if (is_marked(*option, kTextItself)) continue;
    for (const std::string& name : option->results())
      if (!name.empty()) inputs.emplace(place_of(name), option->get_name());
  }
  return inputs;
}

/// An output file that is an input, or stands in a model's folder that is one, would be lost.
void check_not_read(const std::string& option, const std::string& name,
                    const std::map<std::filesystem::path, std::string>& inputs) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(name, error)) return;
  const std::filesystem::path place = place_of(name);
  for (const auto& read : {place, place.parent_path()}) {
    const auto input = inputs.find(read);
    if (input != inputs.end())
      throw Error(option, fmt::format("{} is what {} reads", printable(name, 60), input->second),
                  "another name");
  }
}

}  // namespace

CLI::Option* output_file(CLI::Option* option) { return marked(option, kOutputFile); }
CLI::Option* output_folder(CLI::Option* option) { return marked(option, kOutputFolder); }
CLI::Option* text_itself(CLI::Option* option) { return marked(option, kTextItself); }

void check_outputs(const CLI::App& command) {
  const auto inputs = inputs_of(command);
  std::map<std::filesystem::path, std::string> outputs;  // the option of each
  for (const CLI::Option* option : command.get_options()) {
    const bool file = is_marked(*option, kOutputFile);
    if (option->empty() || (!file && !is_marked(*option, kOutputFolder))) continue;
    const std::string name = option->results().front();
    if (name.empty()) throw Error(option->get_name(), "\"\"", file ? "a file's name" : "a folder's name");
    if (name == kStandardOutput && option->get_name() == kJson) continue;
    if (name == kStandardOutput)
      throw Error(option->get_name(), "standard output", "a name (./- for one that is called so)");
    const auto [other, first] = outputs.emplace(place_of(name), option->get_name());
    if (!first)
      throw Error(option->get_name(),
                  fmt::format("{} is what {} writes too", printable(name, 60), other->second),
                  "another name");
    if (file) check_not_read(option->get_name(), name, inputs);
    if (file) check_writable_file(name);
  }
}

bool prints_json(const CLI::App& command) {
  const CLI::Option* json = command.get_option_no_throw(kJson);
  return json != nullptr && !json->empty() && json->results().front() == kStandardOutput;
}

QuietOutput::QuietOutput() { ++quiet; }
QuietOutput::~QuietOutput() { --quiet; }

void print(std::string_view text) {
  if (quiet == 0) put(text);
}

nlohmann::ordered_json json_of(const Mean& mean) {
  return {{"mean", mean.mean}, {"standard_error", mean.error}};
}

JsonResult::JsonResult(const SharedOptions& options) : file_(options.json) {}

void JsonResult::write(const nlohmann::ordered_json& result) const {
  if (file_.empty()) return;
  const std::string text = result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (file_ == kStandardOutput) return put(text);
  write_file(file_, text);
}

void JsonResult::write_so_far(const nlohmann::ordered_json& result) const {
  if (file_ != kStandardOutput) write(result);
}

}  // namespace linnet::cli
