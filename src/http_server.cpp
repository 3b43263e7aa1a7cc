#include "http_server.hpp"

namespace lifeboat {

namespace {

http::status http_status(Errc code) {
  switch (code) {
    case Errc::kInvalid:
    case Errc::kProtocol: return http::status::bad_request;
    case Errc::kNotFound: return http::status::not_found;
    case Errc::kConflict: return http::status::conflict;
    case Errc::kRefused: return http::status::unprocessable_entity;
    case Errc::kUnavailable: return http::status::bad_gateway;
    case Errc::kTimeout: return http::status::gateway_timeout;
    case Errc::kSystem:
    case Errc::kCancelled: return http::status::internal_server_error;
  }
  return http::status::internal_server_error;
}

}  // namespace

HttpResponse text_response(const HttpRequest& request, http::status status, std::string_view content_type,
                           std::string text) {
  HttpResponse response(status, request.version());
  response.set(http::field::content_type, beast::string_view(content_type.data(), content_type.size()));
  response.keep_alive(request.keep_alive());
  response.body() = std::move(text);
  response.prepare_payload();
  return response;
}

HttpResponse json_response(const HttpRequest& request, const Result<json::object>& result) {
  constexpr std::string_view kType = "application/json";
  if (result) return text_response(request, http::status::ok, kType, json::serialize(*result) + "\n");
  const Error& error = result.error();
  const json::object body{{"error", json::object{{"code", to_string(error.code)}, {"message", error.message}}}};
  return text_response(request, http_status(error.code), kType, json::serialize(body) + "\n");
}

awaitable<void> serve_http(Stream& stream, const HttpLimits& limits, HttpAnswer answer) {
  constexpr std::uint32_t kHeaderBytesMax = 8192;
  beast::flat_buffer buffer;
  for (;;) {
    HttpRequestParser parser;
    parser.header_limit(kHeaderBytesMax);
    parser.body_limit(limits.body_bytes);
    stream.expires_after(limits.read);
    if (co_await read_http(stream, buffer, parser)) co_return;
    stream.expires_never();
    const HttpRequest request = parser.release();
    const HttpResponse response = co_await answer(request);
    stream.expires_after(limits.write);
    const auto lost = co_await write_http(stream, response);
    if (lost || !response.keep_alive()) co_return;
  }
}

}  // namespace lifeboat
