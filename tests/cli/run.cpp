#include "tests/cli/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "base/remove_folder.h"

namespace linnet {
namespace {

struct Pipe {
  int ends[2];
  Pipe() {
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  }
};

/// A terminal of which `master` is our end.
int open_terminal(int& master) {
  master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (::grantpt(master) != 0 || ::unlockpt(master) != 0) throw std::runtime_error("pty");
  return ::open(::ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
}

[[noreturn]] void become_linnet(const std::vector<std::string>& arguments, const RunOptions& options,
                                const std::string& folder, int in, int out, int err) {
  if (options.full_output) out = ::open("/dev/full", O_WRONLY);
  if (options.no_reader) {
    const Pipe pipe;
    out = pipe.ends[1];
    ::close(pipe.ends[0]);
  }
  if (options.terminal) {
    int master = -1;
    in = open_terminal(master);
    ::fcntl(master, F_SETFD, 0);  // stays open as long as the program runs
  }
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(err, 2);
  if (options.closed) {
    for (const int standard : {0, 1, 2}) ::close(standard);
  }
  if (options.full_disk) {
    const rlimit limit = {options.room, options.room};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  const std::string program = std::string(LINNET_BIN) + "/linnet";
  std::vector<char*> argv = {const_cast<char*>("linnet")};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  if (::chdir(folder.c_str()) != 0) ::_exit(127);
  if (options.program != nullptr) ::_exit(options.program(static_cast<int>(argv.size()) - 1, argv.data()));
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

/// Waits until the process catches SIGINT, or is gone, and sends it one.
void interrupt(pid_t process) {
  const std::string file = "/proc/" + std::to_string(process) + "/status";
  siginfo_t gone = {};
  while (::waitid(P_PID, static_cast<id_t>(process), &gone, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         gone.si_pid == 0) {
    std::ifstream status(file);
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("SigCgt:")) continue;
      const auto caught = std::stoull(line.substr(7), nullptr, 16);
      if ((caught >> (SIGINT - 1) & 1) == 0) break;
      ::kill(process, SIGINT);
      return;
    }
    ::sched_yield();
  }
}

/// Writes `input` and reads both outputs until all are closed.
void talk(int in, const std::string& input, bool keep_open, int out, int err, Outcome& outcome) {
  ::signal(SIGPIPE, SIG_IGN);
  size_t written = 0;
  pollfd ends[] = {{out, POLLIN, 0}, {err, POLLIN, 0}, {in, POLLOUT, 0}};
  while (ends[0].fd >= 0 || ends[1].fd >= 0) {
    if (ends[2].fd >= 0 && written == input.size() && !keep_open) {
      ::close(ends[2].fd);
      ends[2].fd = -1;
    }
    ends[2].events = written < input.size() ? POLLOUT : 0;
    if (::poll(ends, 3, -1) < 0) throw std::runtime_error("poll");
    for (int i = 0; i < 2; ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t count = ::read(ends[i].fd, buffer, sizeof buffer);
      if (count > 0) {
        (i == 0 ? outcome.out : outcome.err).append(buffer, static_cast<size_t>(count));
      } else {
        ::close(ends[i].fd);
        ends[i].fd = -1;
      }
    }
    if (ends[2].fd >= 0 && ends[2].revents != 0) {
      const ssize_t count = ::write(ends[2].fd, input.data() + written, input.size() - written);
      written = count < 0 ? input.size() : written + static_cast<size_t>(count);
    }
  }
  if (ends[2].fd >= 0) ::close(ends[2].fd);
}

}  // namespace

Outcome run_linnet(const std::vector<std::string>& arguments, const RunOptions& options) {
  const TemporaryFolder folder;
  Pipe in, out, err;
  if (!options.typed.empty()) {
    for (const int end : {in.ends[0], in.ends[1], err.ends[0], err.ends[1]}) ::close(end);
    in.ends[0] = open_terminal(in.ends[1]);
    err.ends[0] = ::fcntl(in.ends[1], F_DUPFD_CLOEXEC, 0);
    err.ends[1] = ::fcntl(in.ends[0], F_DUPFD_CLOEXEC, 0);
  }
  const pid_t child = ::fork();
  if (child == 0) become_linnet(arguments, options, folder.path(), in.ends[0], out.ends[1], err.ends[1]);
  ::close(in.ends[0]);
  ::close(out.ends[1]);
  ::close(err.ends[1]);
  Outcome outcome;
  if (options.interrupt) interrupt(child);
  talk(in.ends[1], options.typed.empty() ? options.input : options.typed, options.interrupt, out.ends[0],
       err.ends[0], outcome);
  int status = 0;
  ::waitpid(child, &status, 0);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path())) {
    std::string& bytes = outcome.files[entry.path().filename()];  // a folder has none
    std::ifstream file(entry.path(), std::ios::binary);
    if (entry.is_regular_file()) bytes = {std::istreambuf_iterator<char>(file), {}};
  }
  return outcome;
}

void expect_refused(const BadRow& row, const Outcome& outcome) {
  const std::string command = fmt::format("{}", fmt::join(row.arguments, " "));
  EXPECT_EQ(outcome.status, 2) << command << outcome.err;
  EXPECT_THAT(outcome.err, testing::StartsWith("linnet: error: ")) << command;
  EXPECT_THAT(outcome.err, testing::HasSubstr(row.message)) << command;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << command << outcome.err;
  EXPECT_THAT(outcome.out, testing::IsEmpty()) << command;
  EXPECT_THAT(outcome.files, testing::IsEmpty()) << command;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "linnet-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() { remove_folder(path_); }

}  // namespace linnet
