// api_client.hpp - the local daemon as the command line sees it: one request at a time, blocking.
#pragma once

#include <string>

#include "base/asio.hpp"
#include "base/json.hpp"

namespace lifeboat {

class ApiClient {
 public:
  explicit ApiClient(std::string socket_path) : socket_path_(std::move(socket_path)) {}
  // kUnavailable with advice when no daemon answers; the daemon's own error when it says no.
  Result<json::object> get(const std::string& path);
  Result<json::object> post(const std::string& path, const json::object& body);

 private:
  Result<json::object> request(http::verb verb, const std::string& path, std::string body);
  std::string socket_path_;
};

}  // namespace lifeboat
