// Where a command's results go: standard output, and the file of --json.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/statistics.h"

namespace linnet::cli {

struct SharedOptions;

/// Writes to standard output now; throws Error if that fails: a full disk, or nobody who reads (kNoReader).
void print(std::string_view text);

/// While one lives, print() does nothing: of a command that runs as a part of another, and of one whose
/// result goes to standard output as JSON.
class QuietOutput {
 public:
  QuietOutput();
  ~QuietOutput();
  QuietOutput(const QuietOutput&) = delete;
  QuietOutput& operator=(const QuietOutput&) = delete;
};

/// {"mean": …, "standard_error": …}.
nlohmann::ordered_json json_of(const Mean& mean);

/// Says that the option names a file, or a folder, which the command writes; check_outputs() looks at it.
CLI::Option* output_file(CLI::Option* option);
CLI::Option* output_folder(CLI::Option* option);
/// A positional option whose values are texts themselves: no file that this command reads.
CLI::Option* text_itself(CLI::Option* option);

/// Before any work, so that none is lost: throws Error on an output without a name, on a file that cannot be
/// written, on two outputs of one name, and on "-" where that is not --json's.
void check_outputs(const CLI::App& command);
/// Whether --json names standard output ("-"), which then holds nothing else.
bool prints_json(const CLI::App& command);

/// The result of --json, written whole by write(), or not at all: a file, or standard output where that is
/// named "-". Does nothing where --json is absent.
class JsonResult {
 public:
  explicit JsonResult(const SharedOptions& options);
  void write(const nlohmann::ordered_json& result) const;
  /// Of a result that grows while the command works: the file has it as it is now. Standard output, which
  /// takes nothing back, waits for write().
  void write_so_far(const nlohmann::ordered_json& result) const;

 private:
  std::string file_;
};

}  // namespace linnet::cli
