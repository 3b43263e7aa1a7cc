// page_socket.hpp - the blocking socket of a page connection: time limits, and the time spent waiting.
#pragma once

#include <sys/uio.h>

#include <vector>

#include "base/result.hpp"

namespace lifeboat {

// Receiving fails after so long without a byte.
void set_receive_timeout(int socket, int seconds);

// Sends all `parts` and clears them; adds the time in which the socket took nothing to `waiting_s`.
// kTimeout after `timeout_s` (0: never) without progress, kUnavailable when the peer is gone.
Status send_all(int socket, std::vector<iovec>& parts, int timeout_s, double& waiting_s);

// `error`: errno, 0 for the end of the stream. `what`: "send pages to"; the peer's address follows.
Error page_socket_error(int socket, int error, const char* what);

}  // namespace lifeboat
