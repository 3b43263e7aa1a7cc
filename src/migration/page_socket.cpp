#include "migration/page_socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/text.hpp"
#include "migration/page_tls.hpp"
#include "migration/page_wait.hpp"

namespace lifeboat {

namespace {

constexpr const char* kSending = "send pages to";

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

std::string to_hex(const PageKey& key) {
  std::string text;
  for (const unsigned char byte : key) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

Result<PageKey> page_key_from(std::string_view hex) {
  PageKey key{};
  bool good = hex.size() == 2 * key.size();
  for (std::size_t i = 0; good && i < key.size(); ++i) {
    const int high = hex_digit(hex[2 * i]);
    const int low = hex_digit(hex[2 * i + 1]);
    good = high >= 0 && low >= 0;
    key[i] = static_cast<unsigned char>(high * 16 + low);
  }
  // As to_hex() writes it, and in no other way.
  if (!good || to_hex(key) != hex) return fail(Errc::kProtocol, "a page connection's key that is none");
  return key;
}

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

Status wait_for_socket(int socket, short events, int timeout_s, const char* what) {
  pollfd polled{socket, events, 0};
  int ready = 0;
  do {
    ready = ::poll(&polled, 1, timeout_s > 0 ? timeout_s * 1000 : -1);
  } while (ready < 0 && errno == EINTR);
  if (ready > 0) return {};
  return tl::unexpected<Error>(page_socket_error(socket, ready == 0 ? EAGAIN : errno, what));
}

Status send_plain(int socket, std::vector<iovec>& parts, int timeout_s, double& waiting_s) {
  using Clock = std::chrono::steady_clock;
  std::size_t first = 0;
  while (first < parts.size()) {
    msghdr message{};
    message.msg_iov = parts.data() + first;
    message.msg_iovlen = std::min<std::size_t>(parts.size() - first, IOV_MAX);
    ssize_t n = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      const auto start = Clock::now();
      const Status writable = wait_for_socket(socket, POLLOUT, timeout_s, kSending);
      waiting_s += std::chrono::duration<double>(Clock::now() - start).count();
      CHECK_OK(writable);
      continue;
    }
    if (n < 0) return tl::unexpected<Error>(page_socket_error(socket, errno, kSending));
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

PageSocket::PageSocket() = default;
PageSocket::PageSocket(Fd socket) : fd_(std::move(socket)) {}
PageSocket::PageSocket(PageSocket&&) noexcept = default;
PageSocket& PageSocket::operator=(PageSocket&&) noexcept = default;
PageSocket::~PageSocket() = default;

Result<PageSocket> PageSocket::encrypted(Fd socket, End end, const PageKey& key,
                                         std::uint64_t rekey_bytes) {
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return fail_errno("page connection");
  }
  PageSocket made(std::move(socket));
  TRY(made.tls_, Tls::make(made.fd(), end, key, rekey_bytes));
  return made;
}

Result<bool> PageSocket::try_handshake() {
  if (!tls_) return true;
  return tls_->try_handshake();
}

void PageSocket::set_receive_timeout(int seconds) {
  if (tls_) tls_->receive_timeout_s = seconds;
  const timeval limit{seconds, 0};
  (void)::setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

Status PageSocket::send(std::vector<iovec>& parts, int timeout_s, double& waiting_s) {
  if (!tls_) return send_plain(fd(), parts, timeout_s, waiting_s);
  const Status sent = tls_->send(parts, timeout_s, waiting_s);
  parts.clear();
  return sent;
}

Result<std::size_t> PageSocket::receive(std::span<unsigned char> out, std::span<unsigned char> ahead,
                                        const char* what) {
  if (tls_) return tls_->receive(out, what);  // reads ahead by itself
  iovec parts[2] = {{out.data(), out.size()}, {ahead.data(), ahead.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  ssize_t n = 0;
  do {
    n = ::recvmsg(fd(), &message, 0);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return tl::unexpected<Error>(page_socket_error(fd(), errno, what));
  return static_cast<std::size_t>(n);
}

Status PageSocket::receive_all(std::span<unsigned char> out, const char* what) {
  while (!out.empty()) {
    TRY(const std::size_t n, receive(out, {}, what));
    if (n == 0) return tl::unexpected<Error>(page_socket_error(fd(), 0, what));
    out = out.subspan(n);
  }
  return {};
}

void PageSocket::shut_down(int how) const { (void)::shutdown(fd(), how); }

}  // namespace lifeboat
