#include "migration/page_socket.hpp"

#include <limits.h>
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

Error page_socket_error(int error, const char* what) {
  if (error == EAGAIN || error == EWOULDBLOCK) {
    return Error(Errc::kTimeout, std::string(what) + " pages: no progress before the deadline");
  }
  if (error == 0 || error == EPIPE || error == ECONNRESET) {
    return Error(Errc::kUnavailable, std::string(what) + " pages: the peer closed the connection");
  }
  return Error(Errc::kUnavailable, std::string(what) + " pages: " + std::strerror(error));
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
  return tl::unexpected<Error>(page_socket_error(ready == 0 ? EAGAIN : errno, "send"));
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
    if (n < 0) return tl::unexpected<Error>(page_socket_error(errno, "send"));
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
