// A client of plain sockets, for what no well-behaved one would send.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace linnet {

struct HttpAnswer {
  int status = 0;                             // 0: closed without one
  std::map<std::string, std::string> fields;  // names as they were written
  std::string body;                           // of chunks, put together
};

class Connection {
 public:
  explicit Connection(uint16_t port);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// False once the server takes no more.
  bool send(std::string_view bytes);
  /// The next answer; `head`: one without a body, whatever its length.
  HttpAnswer answer(bool head = false);
  /// A line of what comes, with its end; "" once the server hung up.
  std::string line();
  /// Whether nothing more comes.
  bool closed();
  void close();
  /// With an RST, as a process that is killed does.
  void abort();

 private:
  bool more();
  std::string bytes(size_t count);

  int socket_;
  std::string received_;
};

/// A request with a body of JSON.
std::string post(std::string_view path, std::string_view body);
std::string get(std::string_view path);
/// On a connection of its own.
HttpAnswer ask(uint16_t port, const std::string& request);

}  // namespace linnet
