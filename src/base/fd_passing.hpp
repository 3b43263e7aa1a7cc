// fd_passing.hpp - one message over a unix socket, and descriptors with it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <vector>

#include "base/fd.hpp"

namespace lifeboat {

inline constexpr std::size_t kPassedFdsMax = 64;

// As send(2), MSG_NOSIGNAL. Makes system calls only. At most kPassedFdsMax descriptors, else EINVAL.
ssize_t send_with_fds(int socket, const void* data, std::size_t size, std::span<const int> fds);
// As recv(2), again after EINTR. `fds` gets those that came along.
ssize_t receive_with_fds(int socket, void* out, std::size_t size, std::vector<Fd>& fds);

// The same with one descriptor; `fd` < 0: none.
ssize_t send_with_fd(int socket, const void* data, std::size_t size, int fd);
// `fd` is set if a descriptor came along; any further ones are closed.
ssize_t receive_with_fd(int socket, void* out, std::size_t size, Fd& fd);

}  // namespace lifeboat
