// page_wait.hpp - what plain and encrypted page connections share: waiting for a socket, sending bytes.
#pragma once

#include <sys/uio.h>

#include <vector>

#include "base/result.hpp"

namespace lifeboat {

// `error`: errno, 0 for the end of the stream. `what`: "send pages to"; the peer's address follows.
Error page_socket_error(int socket, int error, const char* what);

// Until poll(2) says one of `events`. kTimeout after `timeout_s` (0: never).
Status wait_for_socket(int socket, short events, int timeout_s, const char* what);

// PageSocket::send() of bytes as they are.
Status send_plain(int socket, std::vector<iovec>& parts, int timeout_s, double& waiting_s);

}  // namespace lifeboat
