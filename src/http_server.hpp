// http_server.hpp - what all that is served over HTTP here has in common: requests on one connection, bounded in
// size and time, and how answers look. Who may ask, and what, is for the servers to say (api.hpp, page_server.hpp,
// metrics_server.hpp).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/asio.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/result.hpp"

namespace lifeboat {

using HttpRequest = http::request<http::string_body>;
using HttpResponse = http::response<http::string_body>;

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
template <class Stream>
awaitable<void> serve_http(Stream& stream, const HttpLimits& limits, HttpAnswer answer) {
  constexpr std::uint32_t kHeaderBytesMax = 8192;
  auto& lowest = beast::get_lowest_layer(stream);
  beast::flat_buffer buffer;
  for (;;) {
    http::request_parser<http::string_body> parser;
    parser.header_limit(kHeaderBytesMax);
    parser.body_limit(limits.body_bytes);
    lowest.expires_after(limits.read);
    auto [error, n] = co_await http::async_read(stream, buffer, parser, use_tuple);
    if (error) co_return;
    lowest.expires_never();
    const HttpRequest request = parser.release();
    const HttpResponse response = co_await answer(request);
    lowest.expires_after(limits.write);
    auto [write_error, written] = co_await http::async_write(stream, response, use_tuple);
    if (write_error || !response.keep_alive()) co_return;
  }
}

// Serves each connection in a coroutine of its own, until the context stops. `what` for the log.
template <class Acceptor, class Serve>
awaitable<void> accept_each(Acceptor acceptor, std::string what, Serve serve) {
  auto executor = co_await asio::this_coro::executor;
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(use_tuple);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      co_await sleep_for(Milliseconds(100));
      continue;
    }
    asio::co_spawn(executor, serve(std::move(socket)), [what](std::exception_ptr e) {
      if (e) log::error("serving " + what + " failed");
    });
  }
}

}  // namespace lifeboat
