// Runs the built program in an empty folder of its own and keeps what it said and wrote.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace linnet {

struct Outcome {
  int status = -1;  // of exit; −signal if one ended it
  std::string out, err;
  std::map<std::string, std::string> files;  // that it left in its folder, by name
};

struct RunOptions {
  std::string input;       // standard input
  bool full_disk = false;  // no file may grow past `room` bytes (standard output and error are pipes)
  size_t room = 0;
  bool full_output = false;  // standard output is /dev/full
  bool no_reader = false;    // standard output is a pipe whose other end is closed
  bool terminal = false;     // standard input is a terminal at which nobody types
  bool closed = false;       // standard input, output and error are closed
  bool interrupt = false;    // Ctrl-C as soon as the program catches it; its standard input stays open
  int (*program)(int, char**) = nullptr;  // run this in a copy of this process, not the built program
  std::string typed;  // if any: standard input and error are a terminal at which this is typed
};

/// `linnet ARGUMENTS…`, in a new empty folder.
Outcome run_linnet(const std::vector<std::string>& arguments, const RunOptions& options = {});

/// A command that must be refused, and a part of what it says.
struct BadRow {
  std::vector<std::string> arguments;
  const char* message;
};

/// Expects one error line with the row's message, status 2, and nothing else said or written.
void expect_refused(const BadRow& row, const Outcome& outcome);

/// A temporary folder, gone with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace linnet
