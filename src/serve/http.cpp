#include "serve/http.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/timing.h"
#include "serve/api_error.h"

namespace linnet::serve {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using net::ip::tcp;

constexpr int kThreads = 2;             // that read requests and write answers
constexpr uint32_t kHeader = 16 << 10;  // bytes of a request's line and fields
constexpr size_t kSlice = 256 << 10;    // bytes of an answer that a client is given the timeout for
constexpr auto kLinger = std::chrono::seconds(2);  // for a client to read why it was refused

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

class Session;

/// What all connections of a server share.
struct Shared {
  HttpOptions options;
  HttpHandler handler;
  std::mutex mutex;
  std::unordered_map<Session*, std::weak_ptr<Session>> sessions;
  std::atomic<bool> stopping = false;

  void log(std::string_view line) const {
    if (options.log) options.log(line);
  }
};

/// A path with the bytes that are written as %41 in it.
std::string decoded(std::string_view path) {
  std::string bytes;
  for (size_t i = 0; i < path.size(); ++i) {
    unsigned char byte = 0;
    const char* digits = path.data() + i + 1;
    if (path[i] == '%' && i + 2 < path.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      bytes += static_cast<char>(byte);
      i += 2;
    } else {
      bytes += path[i];
    }
  }
  return bytes;
}

/// A connection: requests one after the other. All of it runs on its strand.
class Session final : public HttpReply, public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket&& socket, Shared& shared)
      : shared_(shared), stream_(std::move(socket)), work_(stream_.get_executor()) {}

  ~Session() override {
    const std::lock_guard lock(shared_.mutex);
    shared_.sessions.erase(this);
  }

  /// Takes requests; else says that there are too many connections.
  void start(bool welcome) {
    run([this, welcome] {
      error_code ignored;
      stream_.socket().set_option(tcp::no_delay(true), ignored);
      if (welcome) return read_header();
      method_ = "connection";
      refuse(ApiError(503, fmt::format("{} connections are open, expected fewer: try again later",
                                       shared_.options.connections)));
    });
  }

  /// Closes the connection once it owes no answer.
  void stop() {
    run([this] {
      keep_ = false;
      if (state_ == State::kReading && parser_ && !parser_->got_some()) close();
    });
  }

  void send(int status, std::function<std::string()> body, std::string allow) override {
    run([this, status, body = std::move(body), allow = std::move(allow)] {
      answer(status, made(body), allow);
    });
  }

  void stream(std::string piece) override {
    run([this, piece = std::move(piece)] {
      if (state_ != State::kAnswering) return;
      if (!std::exchange(streams_, true)) {
        status_ = 200;
        if (!chunked_) keep_ = false;  // HTTP/1.0: the end of the connection is the end of the answer
        write(fmt::format(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n{}{}\r\n",
            chunked_ ? "Transfer-Encoding: chunked\r\n" : "", connection()));
      }
      write(chunked_ ? fmt::format("{:x}\r\n{}\r\n", piece.size(), piece) : piece);
    });
  }

  void end() override {
    run([this] {
      if (state_ != State::kAnswering) return;
      if (chunked_) write("0\r\n\r\n");
      answered();
    });
  }

  void on_gone(std::function<void()> gone) override {
    run([this, gone = std::move(gone)]() mutable {
      if (state_ == State::kAnswering) {
        gone_ = std::move(gone);
      } else if (state_ == State::kClosed) {
        gone();
      }
    });
  }

  void note(std::string text) override {
    run([this, text = std::move(text)]() mutable { note_ = std::move(text); });
  }

 private:
  enum class State { kReading, kAnswering, kFinishing, kClosed };

  template <class Work>
  void run(Work work) {
    net::post(stream_.get_executor(),
              [self = shared_from_this(), work = std::move(work)]() mutable { work(); });
  }

  /// A completion handler that keeps the session alive.
  template <class Work>
  auto then(Work work) {
    return [self = shared_from_this(), work = std::move(work)](error_code error, size_t bytes) mutable {
      work(error, bytes);
    };
  }

  void patience() { stream_.expires_after(milliseconds(shared_.options.timeout)); }

  void read_header() {
    if (shared_.stopping) return close();
    state_ = State::kReading;
    parser_.emplace();
    parser_->header_limit(kHeader);
    parser_->body_limit(shared_.options.body);
    patience();
    http::async_read_header(stream_, buffer_, *parser_,
                            then([this](error_code error, size_t) { header_read(error); }));
  }

  void header_read(error_code error) {
    watch_.restart();
    const auto& message = parser_->get();
    method_ = std::string(message.method_string());
    const std::string_view target(message.target().data(), message.target().size());
    path_ = decoded(target.substr(0, target.find('?')));
    head_ = message.method() == http::verb::head;
    chunked_ = message.version() >= 11;
    if (error) return not_read(error);
    if (message.version() != 10 && message.version() != 11)
      return refuse(ApiError(400, "not HTTP/1.1: another version"));
    if (beast::iequals(message[http::field::expect], "100-continue") && !parser_->is_done())
      write("HTTP/1.1 100 Continue\r\n\r\n");
    patience();
    http::async_read(stream_, buffer_, *parser_,
                     then([this](error_code failed, size_t) { body_read(failed); }));
  }

  void body_read(error_code error) {
    if (error) return not_read(error);
    state_ = State::kAnswering;
    keep_ = parser_->keep_alive() && !shared_.stopping;
    streams_ = false;
    note_.clear();
    stream_.expires_never();
    watch_for_end();
    HttpRequest request{method_, path_, std::move(parser_->get().body())};
    try {
      shared_.handler(std::move(request), shared_from_this());
    } catch (const std::exception& failed) {
      answer(500, ApiError(500, failed.what()).json());
    }
  }

  /// Of a request that did not come whole: what was wrong with it, unless nobody is there to be told.
  void not_read(error_code error) {
    const bool parsed = error.category() == http::make_error_code(http::error::bad_method).category();
    if (!parsed || error == http::error::end_of_stream || error == http::error::partial_message) {
      if (parser_->got_some())
        log(error == beast::error::timeout ? "dropped, the client stalled" : "dropped, the client went away");
      return close();
    }
    if (error == http::error::body_limit)
      return refuse(
          ApiError(413, fmt::format("the request's body is larger than {} bytes", shared_.options.body)));
    if (error == http::error::header_limit)
      return refuse(ApiError(431, fmt::format("the request's header is larger than {} bytes", kHeader)));
    refuse(ApiError(400, fmt::format("not HTTP/1.1: {}", error.message())));
  }

  /// Answers a request that was not read to its end, and hangs up.
  void refuse(const ApiError& error) {
    state_ = State::kAnswering;
    keep_ = false;
    answer(error.status(), error.json());
  }

  static std::string made(const std::function<std::string()>& body) {
    try {
      return body();
    } catch (const std::exception& error) {
      return ApiError(500, error.what()).json();
    }
  }

  void answer(int status, const std::string& body, const std::string& allow = {}) {
    if (state_ != State::kAnswering) return;
    status_ = status;
    const auto reason = http::obsolete_reason(static_cast<http::status>(status));
    write(fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}{}{}\r\n{}", status,
        std::string_view(reason.data(), reason.size()), body.size(),
        allow.empty() ? "" : fmt::format("Allow: {}\r\n", allow),
        status == 429 || status == 503 ? "Retry-After: 1\r\n" : "", connection(), head_ ? "" : body));
    answered();
  }

  const char* connection() const { return keep_ ? "Connection: keep-alive\r\n" : "Connection: close\r\n"; }

  void answered() {
    state_ = State::kFinishing;
    ++exchange_;
    gone_ = nullptr;
    log(std::to_string(status_));
    if (!writing_) finish();
  }

  /// Once all is written.
  void finish() {
    if (keep_) return read_header();
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(kLinger);
    linger();
  }

  /// Reads what a client still sends: closed at once, a connection takes back what was said on it.
  void linger() {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(kSlice), then([this](error_code error, size_t) {
                              if (error) return close();
                              linger();
                            }));
  }

  void write(std::string text) {
    for (size_t at = 0; at < text.size(); at += kSlice) waiting_.push_back(text.substr(at, kSlice));
    if (!writing_) write_next();
  }

  void write_next() {
    writing_ = !waiting_.empty();
    if (!writing_) {
      if (state_ == State::kFinishing) finish();
      return;
    }
    patience();
    net::async_write(stream_, net::buffer(waiting_.front()), then([this](error_code error, size_t) {
                       if (error) return lost();
                       if (state_ == State::kClosed) return;
                       waiting_.pop_front();
                       if (state_ == State::kAnswering) stream_.expires_never();
                       write_next();
                     }));
  }

  /// While an answer is being made: whether the client hangs up.
  void watch_for_end() {
    stream_.socket().async_wait(tcp::socket::wait_read,
                                [self = shared_from_this(), exchange = exchange_](error_code error) {
                                  if (exchange != self->exchange_ || self->state_ != State::kAnswering)
                                    return;
                                  error_code failed;
                                  // More bytes are the next request: whether anything ends behind them cannot
                                  // be seen.
                                  if (error || self->stream_.socket().available(failed) == 0 || failed)
                                    self->lost();
                                });
  }

  /// The client is gone, or takes nothing.
  void lost() {
    if (state_ == State::kAnswering) log("dropped, the client went away");
    close();
  }

  void close() {
    if (state_ == State::kClosed) return;
    state_ = State::kClosed;  // what waits to be written stays: a piece of it may be on its way
    work_.reset();
    stream_.close();
    if (auto gone = std::exchange(gone_, nullptr)) gone();
  }

  void log(std::string_view end) const {
    shared_.log(fmt::format("{} {} {}, {:.3f} s{}{}", printable(method_, 20), printable(path_, 80), end,
                            watch_.seconds(), note_.empty() ? "" : ", ", note_));
  }

  Shared& shared_;
  beast::tcp_stream stream_;
  net::executor_work_guard<beast::tcp_stream::executor_type> work_;  // while no read or write waits
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  State state_ = State::kReading;
  std::deque<std::string> waiting_;  // to be written, the first one on its way
  bool writing_ = false;
  bool keep_ = true;      // the connection, after this answer
  bool streams_ = false;  // the answer has begun in pieces
  bool head_ = false, chunked_ = true;
  uint64_t exchange_ = 0;  // answers given
  int status_ = 0;
  std::string method_, path_, note_;
  std::function<void()> gone_;
  Stopwatch watch_;
};

tcp::endpoint endpoint_of(const HttpOptions& options) {
  error_code error;
  const auto address = net::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, error);
  if (error)
    throw Error("--host", printable(options.host, 60), "an address such as 127.0.0.1, ::1 or 0.0.0.0");
  return {address, options.port};
}

}  // namespace

struct HttpServer::Impl {
  explicit Impl(HttpOptions asked) { shared.options = std::move(asked); }

  void listen() {
    endpoint = endpoint_of(shared.options);
    try {
      acceptor.open(endpoint.protocol());
      acceptor.set_option(net::socket_base::reuse_address(true));
      acceptor.bind(endpoint);
      acceptor.listen();
      endpoint = acceptor.local_endpoint();
    } catch (const boost::system::system_error& error) {
      throw Error("--port", fmt::format("{}: {}", shown(endpoint), error.code().message()),
                  "an address of this machine with a free port; 0 takes one");
    }
  }

  static std::string shown(const tcp::endpoint& endpoint) {
    const std::string address = endpoint.address().to_string();
    return fmt::format("{}:{}", endpoint.address().is_v6() ? '[' + address + ']' : address, endpoint.port());
  }

  void accept() {
    acceptor.async_accept(net::make_strand(context), [this](error_code error, tcp::socket socket) {
      if (shared.stopping) return;
      if (error) return accept_later();
      const auto session = std::make_shared<Session>(std::move(socket), shared);
      size_t open = 0;
      {
        const std::lock_guard lock(shared.mutex);
        shared.sessions[session.get()] = session;
        open = shared.sessions.size();
      }
      const auto most = static_cast<size_t>(shared.options.connections);
      if (open <= 2 * most) session->start(open <= most);  // past that there is not even a word
      accept();
    });
  }

  /// No file descriptor is left, most likely: after a while one may be.
  void accept_later() {
    again.expires_after(std::chrono::milliseconds(100));
    again.async_wait([this](error_code error) {
      if (!error && !shared.stopping) accept();
    });
  }

  void stop() {
    if (shared.stopping.exchange(true)) return;
    net::post(strand, [this] {
      error_code ignored;
      acceptor.close(ignored);
      again.cancel();
      signals.clear(ignored);
      std::vector<std::shared_ptr<Session>> open;
      {
        const std::lock_guard lock(shared.mutex);
        for (const auto& [key, session] : shared.sessions) {
          if (auto alive = session.lock()) open.push_back(std::move(alive));
        }
      }
      for (const auto& session : open) session->stop();
    });
  }

  /// A handler that throws, as where no memory is left, costs its own connection alone.
  void work() {
    for (;;) {
      try {
        context.run();
        return;
      } catch (const std::exception& error) {
        shared.log(error.what());
      }
    }
  }

  Shared shared;
  tcp::endpoint endpoint;  // with the port that was taken
  net::io_context context{kThreads};
  net::strand<net::io_context::executor_type> strand = net::make_strand(context);  // of these three
  tcp::acceptor acceptor{strand};
  net::signal_set signals{strand};
  net::steady_timer again{strand};
};

HttpServer::HttpServer(HttpOptions options) : impl_(new Impl(std::move(options))) { impl_->listen(); }
HttpServer::~HttpServer() = default;

std::string HttpServer::address() const { return Impl::shown(impl_->endpoint); }
uint16_t HttpServer::port() const { return impl_->endpoint.port(); }

void HttpServer::run(HttpHandler handler) {
  impl_->shared.handler = std::move(handler);
  net::post(impl_->strand, [this] { impl_->accept(); });
  std::vector<std::thread> others;
  for (int i = 1; i < kThreads; ++i) others.emplace_back([this] { impl_->work(); });
  impl_->work();
  for (std::thread& other : others) other.join();
}

void HttpServer::stop() { impl_->stop(); }

void HttpServer::stop_at_signals() {
  impl_->signals.add(SIGINT);
  impl_->signals.add(SIGTERM);
  impl_->signals.async_wait([this](error_code error, int) {
    if (error) return;
    error_code ignored;
    impl_->signals.clear(ignored);  // before it is said that the next one has its ordinary effect
    impl_->shared.log("ending once what is open has been answered; at once if told so once more");
    impl_->stop();
  });
}

}  // namespace linnet::serve
