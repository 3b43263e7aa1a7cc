#include "api_client.hpp"

namespace lifeboat {

using Socket = asio::local::stream_protocol;

Result<json::object> ApiClient::get(const std::string& path) {
  return request(http::verb::get, path, "");
}

Result<json::object> ApiClient::post(const std::string& path, const json::object& body) {
  return request(http::verb::post, path, json::serialize(body));
}

Result<json::object> ApiClient::request(http::verb verb, const std::string& path,
                                        std::string body) {
  asio::io_context context{1};
  Socket::socket socket(context);
  boost::system::error_code error;
  socket.connect(Socket::endpoint(socket_path_), error);
  if (error) {
    return fail(Errc::kUnavailable, "no lifeboatd answers on " + socket_path_ + " (" +
                                        error.message() +
                                        "); start it, or name its socket with --socket");
  }
  http::request<http::string_body> message(verb, path, 11);
  message.set(http::field::host, "lifeboat");
  message.set(http::field::content_type, "application/json");
  message.body() = std::move(body);
  message.prepare_payload();
  http::write(socket, message, error);
  if (error) return fail(Errc::kUnavailable, "lifeboatd: " + error.message());
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(64U << 20);
  http::read(socket, buffer, parser, error);
  if (error) return fail(Errc::kUnavailable, "lifeboatd gave no answer: " + error.message());
  TRY(json::object answer, parse_object(parser.get().body()));
  if (parser.get().result() == http::status::ok) return answer;
  auto details = get_object(answer, "error");
  if (!details) return fail(Errc::kSystem, "lifeboatd failed: " + parser.get().body());
  return fail(errc_from(string_or(**details, "code")), string_or(**details, "message"));
}

}  // namespace lifeboat
