// api_routes.hpp - which method of the agent an HTTP request asks for. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/asio.hpp"
#include "base/json.hpp"

namespace lifeboat {

struct Route {
  http::verb verb;
  std::string_view path;  // "{x}" segments become the parameter x
  std::string_view method;
};

// The method for a request, with parameters from the path and the query (numbers stay text in the
// query, so they are converted where they look like one). Empty when there is no such route.
std::string match_route(http::verb verb, std::string_view target, json::object& params);

}  // namespace lifeboat
