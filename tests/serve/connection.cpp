#include "tests/serve/connection.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stdexcept>

namespace linnet {

Connection::Connection(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("connect");
}

Connection::~Connection() { close(); }

void Connection::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

void Connection::abort() {
  const linger none = {1, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  close();
}

bool Connection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

bool Connection::more() {
  char buffer[65536];
  const ssize_t count = ::recv(socket_, buffer, sizeof buffer, 0);
  if (count > 0) received_.append(buffer, static_cast<size_t>(count));
  return count > 0;
}

bool Connection::closed() { return received_.empty() && !more(); }

std::string Connection::line() {
  size_t end = received_.find('\n');
  while (end == std::string::npos && more()) end = received_.find('\n');
  return bytes(end == std::string::npos ? 0 : end + 1);
}

std::string Connection::bytes(size_t count) {
  while (received_.size() < count && more()) {
  }
  std::string taken = received_.substr(0, count);
  received_.erase(0, count);
  return taken;
}

HttpAnswer Connection::answer(bool head) {
  HttpAnswer answer;
  const std::string first = line();
  if (first.empty()) return answer;
  answer.status = std::stoi(first.substr(first.find(' ')));
  for (std::string field = line(); field.size() > 2; field = line()) {
    const size_t colon = field.find(": ");
    answer.fields[field.substr(0, colon)] = field.substr(colon + 2, field.size() - colon - 4);
  }
  if (head || answer.status < 200) return answer;
  if (!answer.fields.contains("Transfer-Encoding")) {
    answer.body = bytes(std::stoul(answer.fields.at("Content-Length")));
    return answer;
  }
  for (;;) {
    const std::string size = line();
    if (size.empty()) throw std::runtime_error("a chunk is missing");
    const std::string chunk = bytes(std::stoul(size, nullptr, 16) + 2);
    if (chunk == "\r\n") return answer;
    answer.body += chunk.substr(0, chunk.size() - 2);
  }
}

std::string post(std::string_view path, std::string_view body) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
      path, body.size(), body);
}

std::string get(std::string_view path) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
}

HttpAnswer ask(uint16_t port, const std::string& request) {
  Connection connection(port);
  connection.send(request);
  return connection.answer();
}

}  // namespace linnet
