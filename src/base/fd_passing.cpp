#include "base/fd_passing.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace lifeboat {

ssize_t send_with_fds(int socket, const void* data, std::size_t size, std::span<const int> fds) {
  if (fds.size() > kPassedFdsMax) {
    errno = EINVAL;
    return -1;
  }
  iovec part{const_cast<void*>(data), size};
  alignas(cmsghdr) char control[CMSG_SPACE(kPassedFdsMax * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL);
}

ssize_t receive_with_fds(int socket, void* out, std::size_t size, std::vector<Fd>& fds) {
  iovec part{out, size};
  alignas(cmsghdr) char control[CMSG_SPACE(kPassedFdsMax * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = 0;
  do {
    n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  for (cmsghdr* at = CMSG_FIRSTHDR(&message); n >= 0 && at != nullptr; at = CMSG_NXTHDR(&message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(at) + i * sizeof(int), sizeof number);
      fds.emplace_back(number);
    }
  }
  return n;
}

ssize_t send_with_fd(int socket, const void* data, std::size_t size, int fd) {
  return send_with_fds(socket, data, size, std::span(&fd, fd >= 0 ? 1 : 0));
}

ssize_t receive_with_fd(int socket, void* out, std::size_t size, Fd& fd) {
  std::vector<Fd> fds;
  const ssize_t n = receive_with_fds(socket, out, size, fds);
  if (!fds.empty()) fd = std::move(fds.front());
  return n;
}

}  // namespace lifeboat
