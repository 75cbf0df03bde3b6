// What a server of HTTP owes to clients, and what it takes from bad ones.
#include "serve/http.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/error.h"
#include "tests/serve/connection.h"

namespace linnet {
namespace {

using serve::HttpOptions;
using serve::HttpReply;
using serve::HttpRequest;
using testing::HasSubstr;

/// A server on a thread of its own. It answers what it was sent; /hold and /stream are left to the test.
class Served {
 public:
  explicit Served(HttpOptions options = {}) : server_(with_log(std::move(options))) {
    thread_ = std::thread([this] {
      server_.run([this](HttpRequest request, std::shared_ptr<HttpReply> reply) {
        handle(std::move(request), std::move(reply));
      });
    });
  }
  ~Served() { stop(); }

  uint16_t port() const { return server_.port(); }

  void ask_to_stop() { server_.stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    held_.reset();
    server_.stop();
    thread_.join();
  }

  /// The reply to the request for /hold, once it came.
  std::shared_ptr<HttpReply> held() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_ != nullptr; });
    return std::exchange(held_, nullptr);
  }

  /// Waits until the log has a line with these words.
  void wait_for_log(const std::string& words) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return log_.find(words) != std::string::npos; });
  }

 private:
  HttpOptions with_log(HttpOptions options) {
    options.log = [this](std::string_view line) {
      const std::lock_guard lock(mutex_);
      log_.append(line).append("\n");
      changed_.notify_all();
    };
    return options;
  }

  void handle(HttpRequest request, std::shared_ptr<HttpReply> reply) {
    if (request.path == "/throw") throw std::runtime_error("no answer");
    if (request.path != "/hold") {
      const std::string text = fmt::format("{} {} {}", request.method, request.path, request.body.size());
      const bool none = request.method == "DELETE";
      return reply->send(
          none ? 405 : 200, [text] { return text; }, none ? "GET, HEAD" : "");
    }
    const std::lock_guard lock(mutex_);
    held_ = std::move(reply);
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string log_;
  std::shared_ptr<HttpReply> held_;
  serve::HttpServer server_;
  std::thread thread_;
};

TEST(HttpServer, AnswersRequestsOneAfterTheOtherOnAConnection) {
  Served served;
  Connection connection(served.port());
  connection.send(post("/a?b=c", "12345") + get("/b"));  // the second one waits its turn
  EXPECT_EQ(connection.answer().body, "POST /a 5");
  EXPECT_EQ(connection.answer().body, "GET /b 0");
  connection.send("HEAD /c HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(connection.answer(/*head=*/true).fields["Content-Length"], "9");
  connection.send("POST /d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  EXPECT_EQ(connection.answer().body, "POST /d 3");
  connection.send("POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(connection.answer().status, 100);
  connection.send("ab");
  EXPECT_EQ(connection.answer().body, "POST /e 2");
  connection.send("GET /f HTTP/1.0\r\n\r\n");
  EXPECT_EQ(connection.answer().body, "GET /f 0");
  EXPECT_TRUE(connection.closed());
}

TEST(HttpServer, SaysWhichMethodsAPathHasAndReadsPercentSigns) {
  Served served;
  EXPECT_EQ(ask(served.port(), "DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n").fields["Allow"], "GET, HEAD");
  EXPECT_EQ(ask(served.port(), get("/v1/models/a%20b%2Fc%C3%A9")).body, "GET /v1/models/a b/cé 0");
  EXPECT_EQ(ask(served.port(), get("/50%/%zz/%4")).body, "GET /50%/%zz/%4 0");
}

TEST(HttpServer, AHandlerThatThrowsCostsItsRequestAlone) {
  Served served;
  EXPECT_EQ(ask(served.port(), get("/throw")).status, 500);
  EXPECT_EQ(ask(served.port(), get("/x")).status, 200);
}

TEST(HttpServer, SaysWhatIsWrongWithBytesThatAreNoRequest) {
  Served served({.body = 1000});
  const std::string big(5000, 'x'), huge(100'000, 'x');
  const std::pair<std::string, int> rows[] = {
      {"garbage\r\n\r\n", 400},
      {std::string("\0\1\2\3\r\n\r\n", 8), 400},
      {"GET / HTTP/9.9\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
      {"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
       400},
      {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", 400},
      {"GET /" + huge + " HTTP/1.1\r\n\r\n", 431},
      {"GET / HTTP/1.1\r\nX: " + huge + "\r\n\r\n", 431},
      {post("/", big), 413},
      {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + big + "\r\n0\r\n\r\n", 413}};
  for (const auto& [request, status] : rows) {
    Connection connection(served.port());
    connection.send(request);
    const HttpAnswer answer = connection.answer();
    EXPECT_EQ(answer.status, status) << request.substr(0, 100);
    EXPECT_THAT(answer.body, HasSubstr(R"({"error":{"message":")")) << request.substr(0, 100);
    connection.close();
    EXPECT_EQ(ask(served.port(), get("/next")).status, 200);
  }
}

TEST(HttpServer, RefusesABodyOfAHundredMegabytesAndTheClientReadsWhy) {
  Served served;
  Connection connection(served.port());
  connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n");
  const std::string megabyte(1 << 20, ' ');
  for (int i = 0; i < 100 && connection.send(megabyte); ++i) {
  }
  EXPECT_EQ(connection.answer().status, 413);
  EXPECT_EQ(ask(served.port(), get("/next")).status, 200);
}

TEST(HttpServer, DropsAClientThatStalls) {
  Served served({.timeout = 0.05});
  for (const char* half : {"", "GET / HT", "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"}) {
    Connection connection(served.port());
    connection.send(half);
    EXPECT_TRUE(connection.closed()) << half;
  }
  served.wait_for_log("dropped, the client stalled");
}

TEST(HttpServer, ForgetsAClientThatGoesAwayInTheMiddleOfItsRequest) {
  Served served;
  for (const char* half : {"GET / HT", "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"}) {
    Connection connection(served.port());
    connection.send(half);
    connection.close();
  }
  served.wait_for_log("POST / dropped, the client went away");
  EXPECT_EQ(ask(served.port(), get("/next")).status, 200);
}

TEST(HttpServer, TellsWhoeverWritesAnAnswerThatTheClientWentAway) {
  for (const bool streams : {false, true}) {
    for (const bool killed : {false, true}) {
      Served served;
      Connection connection(served.port());
      connection.send(get("/hold"));
      const auto reply = served.held();
      if (streams) {
        reply->stream("a line\n");
        while (connection.line() != "a line\n") {
        }
      }
      std::mutex mutex;
      std::condition_variable changed;
      bool gone = false;
      reply->on_gone([&] {
        const std::lock_guard lock(mutex);
        gone = true;
        changed.notify_all();
      });
      killed ? connection.abort() : connection.close();
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return gone; });
      reply->stream("to nobody");
      reply->end();
      EXPECT_EQ(ask(served.port(), get("/next")).status, 200);
    }
  }
}

TEST(HttpServer, BearsClientsThatHangUpWhilePiecesAreWritten) {
  Served served;
  for (int i = 0; i < 300; ++i) {
    Connection connection(served.port());
    connection.send(get("/hold"));
    const auto reply = served.held();
    for (int piece = 0; piece < 20; ++piece) {
      reply->stream("data: a\n\n");
      if (piece == i % 20) connection.close();
    }
    reply->end();
  }
  EXPECT_EQ(ask(served.port(), get("/next")).status, 200);
}

TEST(HttpServer, DropsAClientThatDoesNotReadItsAnswer) {
  Served served({.timeout = 0.05});
  Connection connection(served.port());
  connection.send(get("/hold"));
  const auto reply = served.held();
  reply->stream(std::string(64 << 20, 'x'));
  served.wait_for_log("GET /hold dropped, the client went away");
  EXPECT_EQ(ask(served.port(), get("/next")).status, 200);
}

TEST(HttpServer, StreamsPiecesInChunksAndToOldClientsUntilTheEnd) {
  Served served;
  Connection connection(served.port());
  connection.send(get("/hold"));
  auto reply = served.held();
  reply->stream("data: a\n\n");
  reply->stream("data: b\n\n");
  reply->end();
  const HttpAnswer answer = connection.answer();
  EXPECT_EQ(answer.body, "data: a\n\ndata: b\n\n");
  EXPECT_EQ(answer.fields.at("Content-Type"), "text/event-stream");
  connection.send(get("/next"));
  EXPECT_EQ(connection.answer().status, 200);

  Connection old(served.port());
  old.send("GET /hold HTTP/1.0\r\n\r\n");
  reply = served.held();
  reply->stream("data: a\n");
  reply->end();
  std::string last;
  for (std::string line = old.line(); !line.empty(); line = old.line()) last = line;
  EXPECT_EQ(last, "data: a\n");
}

TEST(HttpServer, RefusesMoreConnectionsThanItsLimitUntilOneEnds) {
  Served served({.connections = 2});
  std::optional<Connection> first(served.port()), second(served.port());
  for (auto* each : {&first, &second}) {
    (*each)->send(get("/a"));
    EXPECT_EQ((*each)->answer().status, 200);
  }
  Connection third(served.port());
  const HttpAnswer refused = third.answer();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.fields.at("Retry-After"), "1");
  EXPECT_THAT(refused.body, HasSubstr("2 connections are open"));
  third.close();
  first.reset();
  while (ask(served.port(), get("/a")).status != 200) {
  }
}

TEST(HttpServer, StopsAfterTheAnswersItOwes) {
  Served served;
  Connection idle(served.port()), busy(served.port());
  idle.send(get("/a"));
  EXPECT_EQ(idle.answer().status, 200);
  busy.send(get("/hold"));
  const auto reply = served.held();
  served.ask_to_stop();
  EXPECT_TRUE(idle.closed());
  reply->send(200, [] { return std::string("late"); });
  const HttpAnswer late = busy.answer();
  EXPECT_EQ(late.body, "late");
  EXPECT_EQ(late.fields.at("Connection"), "close");
  EXPECT_TRUE(busy.closed());
}

TEST(HttpServer, SaysWhereItCannotListen) {
  const serve::HttpServer first({});
  EXPECT_THROW(serve::HttpServer({.port = first.port()}), Error);
  EXPECT_THROW(serve::HttpServer({.host = "nowhere.example"}), Error);
  EXPECT_THROW(serve::HttpServer({.host = "192.0.2.1"}), Error);  // TEST-NET: no machine's
}

}  // namespace
}  // namespace linnet
