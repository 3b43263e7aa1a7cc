// http_server.hpp - what all that is served over HTTP here has in common: requests on one connection, bounded in
// size and time, and how answers look. Who may ask, and what, is for the servers to say (api.hpp, page_server.hpp,
// metrics_server.hpp).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/http.hpp"
#include "base/json.hpp"
#include "base/result.hpp"

namespace lifeboat {

struct HttpLimits {
  std::uint64_t body_bytes = 0;
  Milliseconds read{60'000};   // for a whole request, its connection's idle time before it included
  Milliseconds write{60'000};  // for taking the answer
};

HttpResponse text_response(const HttpRequest& request, http::status status, std::string_view content_type,
                           std::string text);
// 200 with the object; or the status that fits the error, with {"error": {"code","message"}}.
HttpResponse json_response(const HttpRequest& request, const Result<json::object>& result);

using HttpAnswer = std::function<awaitable<HttpResponse>(const HttpRequest&)>;

// Answers one request after the other until either side has enough, or a limit is reached. `limits` may change
// between requests.
awaitable<void> serve_http(Stream& stream, const HttpLimits& limits, HttpAnswer answer);

}  // namespace lifeboat
