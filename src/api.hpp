// api.hpp - the operator's side: HTTP and JSON on a unix socket, so that
//   curl --unix-socket /run/lifeboat/api.sock http://lifeboat/v1/nodes
// works. The routes are a table in api.cpp; each names a method of the agent. Who may use them is told
// from the caller's user and groups (api_access.hpp).
#pragma once

#include <string>

#include "agent.hpp"
#include "api_access.hpp"
#include "base/asio.hpp"

namespace lifeboat {

// Serves until the context stops. Without groups in `access` the socket is root's alone; one left behind by
// a dead daemon is replaced, one that answers is an error.
awaitable<Status> serve_api(Agent& agent, std::string socket_path, ApiAccess access);

struct Route {
  http::verb verb;
  std::string_view path;  // "{x}" segments become the parameter x
  std::string_view method;
};

// The method for a request, with parameters from the path and the query (numbers stay text in the
// query, so they are converted where they look like one). Empty when there is no such route.
std::string match_route(http::verb verb, std::string_view target, json::object& params);

}  // namespace lifeboat
