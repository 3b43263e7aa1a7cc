// fd_passing.hpp - one message over a unix socket, and a descriptor with it.
#pragma once

#include <sys/types.h>

#include <cstddef>

#include "base/fd.hpp"

namespace lifeboat {

// As send(2), MSG_NOSIGNAL; `fd` < 0: no descriptor goes along.
ssize_t send_with_fd(int socket, const void* data, std::size_t size, int fd);

// As recv(2), again after EINTR. `fd` is set if a descriptor came along; any further ones are closed.
ssize_t receive_with_fd(int socket, void* out, std::size_t size, Fd& fd);

}  // namespace lifeboat
