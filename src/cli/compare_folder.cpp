#include "cli/compare_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

namespace linnet::cli {
namespace {

std::string hash_of_files(const std::vector<std::filesystem::path>& files) {
  Hash hash;
  for (const auto& file : files) hash.add(MappedFile(file).bytes());
  return hash.text();
}

bool stands_in(const std::vector<std::string>& arguments, const char* argument) {
  return std::find(arguments.begin(), arguments.end(), argument) != arguments.end();
}

}  // namespace

CompareFolder::CompareFolder(std::filesystem::path out, CompareInputs inputs, const std::string& base_hash)
    : out_(std::move(out)), inputs_(std::move(inputs)) {
  texts_ = {
      {"base", base_hash}, {"data", hash_of_files(inputs_.data)}, {"valid", hash_of_files(inputs_.valid)}};
}

nlohmann::json CompareFolder::identity(const Cell& cell) const {
  nlohmann::json identity = texts_;
  for (const CellCommand& command : cell.commands) identity["commands"].push_back(command.arguments);
  return identity;
}

std::vector<std::string> CompareFolder::filled_in(const Cell& cell,
                                                  const std::vector<std::string>& arguments) const {
  std::vector<std::string> filled;
  for (const std::string& argument : arguments) {
    if (argument == "{base}") {
      filled.push_back(inputs_.model);
    } else if (argument == "{data}" || argument == "{valid}") {
      const auto& files = argument == "{data}" ? inputs_.data : inputs_.valid;
      filled.insert(filled.end(), files.begin(), files.end());
    } else if (argument.starts_with("{cell}")) {
      filled.push_back(work(cell).string() + argument.substr(6));
    } else {
      filled.push_back(argument);
    }
  }
  if (!inputs_.field.empty() && stands_in(arguments, "{valid}"))
    filled.insert(filled.end(), {"--field", inputs_.field});
  return filled;
}

std::vector<std::string> CompareFolder::lines(const Cell& cell) const {
  std::vector<std::string> lines;
  for (const CellCommand& command : cell.commands)
    lines.push_back(shell_line(filled_in(cell, command.arguments)));
  return lines;
}

nlohmann::json CompareFolder::read(const std::string& name) const {
  const auto file = result_file(name);
  nlohmann::json result = read_json(file);
  const auto has = [](const nlohmann::json& object, const char* key, auto is) {
    return object.is_object() && object.contains(key) && (object[key].*is)();
  };
  if (!has(result, "cell", &nlohmann::json::is_string) || !has(result, "about", &nlohmann::json::is_object) ||
      !has(result["about"], "method", &nlohmann::json::is_string) ||
      !has(result, "identity", &nlohmann::json::is_object) ||
      (result.contains("failed") && !result["failed"].is_string()) ||
      (result.contains("window") && !result["window"].is_string()) ||
      (result.contains("training") && !has(result["training"], "curve", &nlohmann::json::is_array)) ||
      (result.contains("rows") && !has(result["rows"], "bits_per_byte", &nlohmann::json::is_number)))
    throw Error(file.string(), "holds no result of linnet compare", "one, or no such file");
  return result;
}

CompareFolder::Found CompareFolder::find(const Cell& cell) const {
  std::error_code error;
  if (!std::filesystem::exists(result_file(cell.name), error)) return Found::kNone;
  const nlohmann::json result = read(cell.name);
  if (result["identity"] != identity(cell)) return Found::kNone;
  return result.contains("failed") ? Found::kFailed : Found::kDone;
}

void CompareFolder::refuse_changed(const Cell& cell) const {
  std::error_code error;
  if (!std::filesystem::exists(result_file(cell.name), error)) return;
  const nlohmann::json result = read(cell.name), own = identity(cell);
  const nlohmann::json& old = result["identity"];
  if (old == own) return;
  const std::pair<const char*, const char*> parts[] = {{"base", "base model"},
                                                       {"data", "--data"},
                                                       {"valid", "--valid"},
                                                       {"field", "--field"},
                                                       {"commands", "setting of the grid"}};
  std::string changed;
  for (const auto& [key, what] : parts)
    if (old.value(key, nlohmann::json()) != own.value(key, nlohmann::json()))
      changed += fmt::format("{}{}", changed.empty() ? "another " : ", ", what);
  throw Error(result_file(cell.name).string(), fmt::format("is a result of {}", changed),
              "--anew to compute it anew, or another -o");
}

void CompareFolder::write(const Cell& cell, const nlohmann::ordered_json& result) const {
  write_file(result_file(cell.name),
             result.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void CompareFolder::make() const {
  std::filesystem::create_directories(results());
  std::filesystem::create_directories(out_ / "work");
}

void CompareFolder::tidy() const {
  std::error_code not_empty;
  std::filesystem::remove(out_ / "work", not_empty);
}

CellLock::CellLock(const CompareFolder& folder, const Cell& cell)
    : file_(folder.work(cell).string() + ".lock") {
  std::filesystem::create_directories(file_.parent_path());  // another process may have tidied up
  descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw Error(file_.string(), "cannot be written", "a folder to write into");
  held_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
}

CellLock::~CellLock() {
  std::error_code error;
  if (held_) std::filesystem::remove(file_, error);
  ::close(descriptor_);
}

}  // namespace linnet::cli
