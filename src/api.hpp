// api.hpp - the operator's side: HTTP and JSON on a unix socket, so that
//   curl --unix-socket /run/lifeboat/api.sock http://lifeboat/v1/nodes
// works. The routes are a table in api_routes.cpp; each names a method of the agent. Who may use them is
// told from the caller's user and groups (api_access.hpp).
#pragma once

#include <string>

#include "agent.hpp"
#include "api_access.hpp"
#include "base/asio.hpp"

namespace lifeboat {

// Serves until the context stops. Without groups in `access` the socket is root's alone; one left behind by
// a dead daemon is replaced, one that answers is an error.
awaitable<Status> serve_api(Agent& agent, std::string socket_path, ApiAccess access);

}  // namespace lifeboat
