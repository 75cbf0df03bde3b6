// HTTP/1.1 as far as an API of JSON needs it, on Boost.Beast: requests whole and bounded in size and time,
// answers whole or in pieces (server-sent events), from any thread. What is no request never reaches the
// handler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace linnet::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address of this machine; 0.0.0.0: all
  uint16_t port = 0;               // 0: a free one
  size_t body = size_t{8} << 20;   // bytes of a request's, at most
  int connections = 128;           // at once; more get a 503
  double timeout = 30;  // seconds that a client may take to send a request or to read a piece of an answer
  std::function<void(std::string_view)> log;  // hears a line a request; called by any thread
};

struct HttpRequest {
  std::string method, path, body;  // the path without a query, %41 in it an A
};

/// Where the answer to one request goes. Thread-safe; what is sent to a client that went away is dropped.
/// Ends with send() or end(), once.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  /// A whole answer in JSON; `body` is called on a thread of the server's. `allow`: with a 405, the methods
  /// that the path has.
  virtual void send(int status, std::function<std::string()> body, std::string allow = {}) = 0;
  /// A piece of a stream of events; the first one begins it.
  virtual void stream(std::string piece) = 0;
  virtual void end() = 0;
  /// Called, if it is not too late, once the client went away before the end; by a thread of the server's.
  virtual void on_gone(std::function<void()> gone) = 0;
  /// What the request's line in the log says besides.
  virtual void note(std::string text) = 0;
};

/// Called for each request by a thread of the server's; the answer may come later.
using HttpHandler = std::function<void(HttpRequest request, const std::shared_ptr<HttpReply>& reply)>;

class HttpServer {
 public:
  /// Listens. Throws Error on an address that is none, or cannot be had.
  explicit HttpServer(HttpOptions options);
  /// Replies may outlive run(), but not the server.
  ~HttpServer();

  std::string address() const;  // "127.0.0.1:8080"
  uint16_t port() const;

  /// Serves until stop(), then until what is open has been answered.
  void run(HttpHandler handler);
  /// From any thread: no new connections, and the end once none is open that a request came in on.
  void stop();
  /// SIGINT and SIGTERM do what stop() does, the first of them; a second one has its ordinary effect.
  void stop_at_signals();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::serve
