// unix_socket.hpp - local sockets with a name in the file system, for one user alone.
#pragma once

#include <string>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Listens at `path`, whatever was there before; only its owner may connect. `type`: SOCK_STREAM or SOCK_SEQPACKET.
Result<Fd> listen_at(const std::string& path, int type);
// kUnavailable when nobody listens there.
Result<Fd> connect_at(const std::string& path, int type);

}  // namespace lifeboat
