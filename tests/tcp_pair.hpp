// tcp_pair.hpp - two ends of a TCP connection over the loopback: only TCP has a rate limit and queues.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/fd.hpp"

namespace lifeboat {

inline std::pair<Fd, Fd> tcp_pair() {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  Fd server;
  if (::bind(listener.get(), generic, size) == 0 && ::listen(listener.get(), 1) == 0 &&
      ::getsockname(listener.get(), generic, &size) == 0 && ::connect(client.get(), generic, size) == 0) {
    server = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  if (!server) throw std::system_error(errno, std::generic_category(), "a TCP connection over the loopback");
  return {std::move(client), std::move(server)};
}

}  // namespace lifeboat
