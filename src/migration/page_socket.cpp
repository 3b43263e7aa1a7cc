#include "migration/page_socket.hpp"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <chrono>
#include <cstring>

namespace lifeboat {

void set_receive_timeout(int socket, int seconds) {
  const timeval limit{seconds, 0};
  (void)::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

namespace {

// The address of the other end, while it is connected to one.
std::string peer_of(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  char text[INET_ADDRSTRLEN] = "";
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      address.sin_family != AF_INET ||
      ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text) == nullptr) {
    return "the peer";
  }
  return text;
}

}  // namespace

Error page_socket_error(int socket, int error, const char* what) {
  const std::string where = std::string(what) + " " + peer_of(socket);
  if (error == EAGAIN || error == EWOULDBLOCK) {
    return Error(Errc::kTimeout, where + ": no progress before the deadline");
  }
  if (error == 0 || error == EPIPE || error == ECONNRESET) {
    return Error(Errc::kUnavailable, where + ": the peer closed the connection");
  }
  return Error(Errc::kUnavailable, where + ": " + std::strerror(error));
}

namespace {

// Until the socket takes bytes again.
Status wait_writable(int socket, int timeout_s, double& waiting_s) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  pollfd polled{socket, POLLOUT, 0};
  int ready = 0;
  do {
    ready = ::poll(&polled, 1, timeout_s > 0 ? timeout_s * 1000 : -1);
  } while (ready < 0 && errno == EINTR);
  waiting_s += std::chrono::duration<double>(Clock::now() - start).count();
  if (ready > 0) return {};
  return tl::unexpected<Error>(page_socket_error(socket, ready == 0 ? EAGAIN : errno, "send pages to"));
}

}  // namespace

Status send_all(int socket, std::vector<iovec>& parts, int timeout_s, double& waiting_s) {
  std::size_t first = 0;
  while (first < parts.size()) {
    msghdr message{};
    message.msg_iov = parts.data() + first;
    message.msg_iovlen = std::min<std::size_t>(parts.size() - first, IOV_MAX);
    ssize_t n = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      CHECK_OK(wait_writable(socket, timeout_s, waiting_s));
      continue;
    }
    if (n < 0) return tl::unexpected<Error>(page_socket_error(socket, errno, "send pages to"));
    while (first < parts.size() && static_cast<std::size_t>(n) >= parts[first].iov_len) {
      n -= static_cast<ssize_t>(parts[first++].iov_len);
    }
    if (n > 0) {
      parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + n;
      parts[first].iov_len -= static_cast<std::size_t>(n);
    }
  }
  parts.clear();
  return {};
}

}  // namespace lifeboat
