// What an operator's socket and the page's port are sent: the request as Beast takes it, what it shows of a token,
// its route, the JSON of its body.
#include "api_routes.hpp"
#include "fuzz.hpp"
#include "page_access.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  http::request_parser<http::string_body> parser;
  constexpr std::uint64_t kBodyMax = 4096;
  parser.body_limit(kBodyMax);
  parser.eager(true);
  boost::system::error_code error;
  std::size_t at = 0;
  while (at < size && !error && !parser.is_done()) {
    const std::size_t taken = parser.put(asio::buffer(data + at, size - at), error);
    if (taken == 0) break;
    at += taken;
  }
  if (error || !parser.is_done()) return 0;
  const auto request = parser.release();
  fuzz::require(request.body().size() <= kBodyMax, "a body is within the limit");
  fuzz::require(shown_token(request).size() <= size, "a token is a part of the header");
  fuzz::require(token_of_form(request.body()).size() <= request.body().size(), "a form's field is a part of it");
  (void)check_not_led(request);
  json::object params;
  if (!request.body().empty()) {
    auto body = parse_object(request.body());
    fuzz::require_good(body);
    if (!body) return 0;
    params = std::move(*body);
  }
  const auto target = request.target();
  const std::string method =
      match_route(request.method(), std::string_view(target.data(), target.size()), params);
  if (method.empty()) return 0;
  fuzz::require(target.starts_with("/v1/"), "a route begins with its version");
  fuzz::require(parse_object(json::serialize(params)).has_value(), "parameters are JSON");
  return 0;
}
