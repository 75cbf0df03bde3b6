#include "cli/input_lines.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cwchar>

#include "base/error.h"
#include "base/interrupt.h"

namespace linnet::cli {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;  // of a line
constexpr int kLinesKept = 1000;

/// Bytes of standard input as soon as there are any: their number; 0 at its end and upon Ctrl-C.
size_t read_some(char* buffer, size_t size) {
  constexpr int kLook = 100;  // ms: a signal that comes just before poll does not end it
  while (!interrupted()) {
    pollfd wait = {STDIN_FILENO, POLLIN, 0};
    ::poll(&wait, 1, kLook);
    if (wait.revents == 0) continue;
    const ssize_t count = ::read(STDIN_FILENO, buffer, size);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR && errno != EAGAIN) return 0;
  }
  return 0;
}

/// One character for libedit: 1; 0 at the end and upon Ctrl-C, which libedit's own reading would not notice.
int read_character(EditLine*, wchar_t* to) {
  std::mbstate_t state{};
  char byte = 0;
  while (read_some(&byte, 1) == 1) {
    const size_t taken = std::mbrtowc(to, &byte, 1, &state);
    if (taken == static_cast<size_t>(-2)) continue;  // more bytes belong to it
    if (taken == static_cast<size_t>(-1)) *to = L'\uFFFD';
    return 1;
  }
  return 0;
}

char* prompt(EditLine*) {
  static char text[] = "> ";
  return text;
}

}  // namespace

/// libedit, on standard input and error: standard output is the answers' alone.
class InputLines::Editor {
 public:
  explicit Editor(EditLine* line) : line_(line) {
    HistEvent event;
    ::history(history_, &event, H_SETSIZE, kLinesKept);
    ::history(history_, &event, H_SETUNIQUE, 1);
    ::el_set(line_, EL_PROMPT, prompt);
    ::el_set(line_, EL_EDITOR, "emacs");
    ::el_set(line_, EL_HIST, ::history, history_);
    ::el_set(line_, EL_GETCFN, read_character);
    ::el_set(line_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    ::el_source(line_, nullptr);  // the user's ~/.editrc
  }
  ~Editor() {
    ::el_end(line_);
    ::history_end(history_);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  std::optional<std::string> next() {
    ::el_resize(line_);
    int count = 0;
    const char* typed = ::el_gets(line_, &count);
    stop_if_interrupted();
    if (typed == nullptr || count <= 0) return std::nullopt;
    std::string line(typed);
    if (line.ends_with('\n')) line.pop_back();
    if (line.size() > kMostBytes) throw Error("standard input", "a line of over 1 MiB", "a shorter one");
    HistEvent event;
    if (!line.empty()) ::history(history_, &event, H_ENTER, line.c_str());
    return line;
  }

 private:
  EditLine* line_;
  History* history_ = ::history_init();
};

InputLines::InputLines() {
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDERR_FILENO) != 1) return;
  std::setlocale(LC_CTYPE, "C.UTF-8");  // what libedit reads characters and their widths by
  if (EditLine* line = ::el_init("linnet", stdin, stderr, stderr)) editor_ = std::make_unique<Editor>(line);
}

InputLines::~InputLines() = default;

std::optional<std::string> InputLines::next() { return editor_ ? editor_->next() : next_read(); }

std::optional<std::string> InputLines::next_read() {
  size_t newline = 0;
  while ((newline = read_.find('\n')) == std::string::npos && !over_) {
    char buffer[4096];
    const size_t count = read_some(buffer, sizeof(buffer));
    stop_if_interrupted();
    read_.append(buffer, count);
    over_ = count == 0;
    if (read_.size() > kMostBytes) throw Error("standard input", "a line of over 1 MiB", "a shorter one");
  }
  if (over_ && read_.empty()) return std::nullopt;
  std::string line = read_.substr(0, newline);
  read_.erase(0, newline == std::string::npos ? newline : newline + 1);
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

}  // namespace linnet::cli
