// The lines that a user says: typed at a terminal, with editing and a history, or from a pipe or file as
// they are.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace linnet::cli {

class InputLines {
 public:
  InputLines();
  ~InputLines();
  InputLines(const InputLines&) = delete;
  InputLines& operator=(const InputLines&) = delete;

  /// The next line without its end; nothing where there is none. Throws Error upon Ctrl-C, and past 1 MiB
  /// without a newline.
  std::optional<std::string> next();

 private:
  class Editor;

  std::optional<std::string> next_read();

  std::unique_ptr<Editor> editor_;  // null: standard input or error is no terminal
  bool over_ = false;
  std::string read_;
};

}  // namespace linnet::cli
