// tcp_listen.hpp - ports that this node listens on.
#pragma once

#include "base/asio.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Waits up to 5 s for a port in use: a daemon that was killed may still be ending, or the helper that it had just
// forked (criu_glue/inject.cpp), which has its descriptors. kSystem: "`what` ADDRESS:PORT: why".
awaitable<Result<asio::ip::tcp::acceptor>> listen_tcp(asio::ip::tcp::endpoint endpoint, std::string what);

}  // namespace lifeboat
