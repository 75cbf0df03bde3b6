// serve, as a user runs it: the program, a socket, signals.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "base/json.h"
#include "tests/cli/program.h"
#include "tests/serve/connection.h"

namespace linnet {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::MatchesRegex;

/// `linnet serve ARGUMENTS… --port 0`, from the line that says where it listens on.
class Server {
 public:
  explicit Server(std::vector<std::string> arguments) {
    int out[2], err[2];
    if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    const std::string program = std::string(LINNET_BIN) + "/linnet";
    arguments.insert(arguments.begin(), {program, "serve"});
    arguments.insert(arguments.end(), {"--port", "0"});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(out[1], 1);
      ::dup2(err[1], 2);
      ::execv(program.c_str(), argv.data());
      ::_exit(127);
    }
    ::close(out[1]);
    ::close(err[1]);
    out_ = ::fdopen(out[0], "r"), err_ = ::fdopen(err[0], "r");
    said = line(out_);
    const size_t colon = said.rfind(':');
    if (colon == said.npos) throw std::runtime_error("no server: " + line(err_));
    port = static_cast<uint16_t>(std::stoi(said.substr(colon + 1)));
  }
  ~Server() {
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      ::waitpid(process_, nullptr, 0);
    }
    ::fclose(out_);
    ::fclose(err_);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void signal(int number) const { ::kill(process_, number); }
  /// Its end: the status of exit, or −signal.
  int status() {
    int status = 0;
    ::waitpid(std::exchange(process_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  /// What it wrote to standard error, up to a line with these words or its end.
  std::string log(const std::string& words = "\n\n") {
    std::string text;
    for (std::string next = line(err_); !next.empty(); next = line(err_)) {
      text += next;
      if (next.find(words) != next.npos) break;
    }
    return text;
  }

  std::string said;
  uint16_t port = 0;

 private:
  static std::string line(FILE* file) {
    char* text = nullptr;
    size_t room = 0;
    const ssize_t count = ::getline(&text, &room, file);
    const std::string line(text, count > 0 ? static_cast<size_t>(count) : 0);
    ::free(text);
    return line;
  }

  pid_t process_ = 0;
  FILE *out_ = nullptr, *err_ = nullptr;
};

json completion(uint16_t port, const json& body) {
  const HttpAnswer answer = ask(port, post("/v1/completions", body.dump()));
  EXPECT_EQ(answer.status, 200) << answer.body;
  return json::parse(answer.body);
}

TEST_F(Program, ServesTheTextsAndLogProbabilitiesOfGenerate) {
  Server server({model(), "--parallel", "3", "--speculative", "lookup"});
  EXPECT_THAT(server.said, MatchesRegex("listening on http://127.0.0.1:[0-9]+\n"));
  for (const char* temperature : {"0", "0.8"}) {
    const Outcome alone = run({"generate", "{m}", "-p", "a story", "-n", "30", "--temperature", temperature,
                               "--seed", "5", "--logprobs", "3", "--echo", "--json", "out.json"});
    ASSERT_EQ(alone.status, 0) << alone.err;
    const json expected = parse_json(alone.files.at("out.json"), "out.json");
    const json body = {{"model", "model"}, {"prompt", "a story"},
                       {"max_tokens", 30}, {"temperature", std::stod(temperature)},
                       {"seed", 5},        {"logprobs", 3},
                       {"echo", true}};
    const json answer = completion(server.port, body);
    EXPECT_EQ(answer["choices"][0]["text"], expected["text"]);
    EXPECT_EQ(answer["choices"][0]["logprobs"], expected["logprobs"]);
    EXPECT_EQ(answer["usage"]["completion_tokens"], expected["generated_tokens"]);
  }
  EXPECT_THAT(server.log("tokens"), HasSubstr("linnet: POST /v1/completions 200, "));
}

TEST_F(Program, ServesAfterABadRequestAsBefore) {
  Server server({model(), "--quiet", "--max-body", "2000"});
  const json good = {{"prompt", "a"}, {"temperature", 0}, {"max_tokens", 8}};
  const json before = completion(server.port, good)["choices"];
  const std::pair<std::string, int> rows[] = {
      {post("/v1/completions", "{\"prompt\": \"\xff\"}"), 400},
      {post("/v1/completions", std::string(1999, '[')), 400},
      {post("/v1/completions", std::string(2001, ' ')), 413},
      {post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}]})"), 400},
      {"nonsense\r\n\r\n", 400}};
  for (const auto& [request, status] : rows) {
    const HttpAnswer answer = ask(server.port, request);
    EXPECT_EQ(answer.status, status);
    EXPECT_NE(json::parse(answer.body)["error"]["message"], "");
  }
  EXPECT_EQ(completion(server.port, good)["choices"], before);
  server.signal(SIGTERM);
  EXPECT_EQ(server.status(), 0);
  EXPECT_EQ(server.log(), "");
}

TEST_F(Program, AServerEndsAfterTheAnswersItOwesAndAtASecondSignalAtOnce) {
  const std::string stream =
      post("/v1/completions", R"({"prompt": "a", "max_tokens": 400, "stream": true, "ignore_eos": true})");
  for (const bool twice : {false, true}) {
    Server server({model()});
    Connection connection(server.port), second(server.port);
    connection.send(stream);
    while (!connection.line().starts_with("data: ")) {
    }
    if (twice) {  // one that does not end soon
      second.send(post("/v1/completions",
                       R"({"prompt": "a", "max_tokens": 32768, "stream": true, "ignore_eos": true})"));
      while (!second.line().starts_with("data: ")) {
      }
    }
    server.signal(SIGINT);
    if (twice) {
      server.log("once more");
      server.signal(SIGINT);
      EXPECT_EQ(server.status(), -SIGINT);
      continue;
    }
    std::string last;
    for (std::string line = connection.line(); !line.empty(); line = connection.line()) {
      if (line.starts_with("data: ")) last = line;
    }
    EXPECT_EQ(last, "data: [DONE]\n");
    second.close();
    EXPECT_EQ(server.status(), 0);
  }
}

}  // namespace
}  // namespace linnet
