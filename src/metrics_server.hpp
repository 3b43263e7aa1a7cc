// metrics_server.hpp - GET /metrics over HTTP, for Prometheus.
#pragma once

#include <functional>
#include <string>

#include "base/asio.hpp"
#include "base/result.hpp"
#include "config.hpp"

namespace lifeboat {

// Serves what `page` says until the context stops; nothing at all when no port is configured. One request
// per connection, bounded in number, size and time. kSystem: the address cannot be listened on.
awaitable<Status> serve_metrics(ListenConfig config, std::function<std::string()> page);

}  // namespace lifeboat
