#include "api.hpp"

#include <sys/stat.h>

#include <map>

#include "api_routes.hpp"
#include "base/log.hpp"

namespace lifeboat {

using Socket = asio::local::stream_protocol;

namespace {

constexpr std::size_t kBodyBytesMax = 1 << 20;
constexpr std::uint32_t kHeaderBytesMax = 8192;
constexpr Milliseconds kIdleLimit{60'000};
constexpr Milliseconds kStrangerLimit{2'000};  // who may do nothing gets no more time than that
constexpr std::size_t kClientsMax = 256;
constexpr std::size_t kClientsPerUser = 64;

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

using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

Response make_response(const Request& request, http::status status, const json::object& body) {
  Response response(status, request.version());
  response.set(http::field::content_type, "application/json");
  response.keep_alive(request.keep_alive());
  response.body() = json::serialize(body) + "\n";
  response.prepare_payload();
  return response;
}

json::object error_body(const Error& error) {
  return {{"error", json::object{{"code", to_string(error.code)}, {"message", error.message}}}};
}

struct Clients {
  explicit Clients(ApiAccess who) : access(std::move(who)) {}
  ApiAccess access;
  std::size_t count = 0;
  std::map<uid_t, std::size_t> by_user;  // root is not counted: it can always see what is wrong
};

awaitable<Response> answer(Agent& agent, const ApiAccess& access, const ApiCaller& caller,
                           const Request& request) {
  const Status allowed = access.check(caller, request.method() == http::verb::get);
  if (!allowed) co_return make_response(request, http::status::forbidden, error_body(allowed.error()));
  json::object params;
  if (!request.body().empty()) {
    auto body = parse_object(request.body());
    if (!body) co_return make_response(request, http::status::bad_request, error_body(body.error()));
    params = std::move(*body);
  }
  const auto target = request.target();
  std::string method =
      match_route(request.method(), std::string_view(target.data(), target.size()), params);
  if (method.empty()) {
    const Error error(Errc::kNotFound, "no such route; try GET /v1/status");
    co_return make_response(request, http::status::not_found, error_body(error));
  }
  if (method == "metrics") {
    Response response(http::status::ok, request.version());
    response.set(http::field::content_type, metrics::kContentType);
    response.keep_alive(request.keep_alive());
    response.body() = agent.metrics();
    response.prepare_payload();
    co_return response;
  }
  auto result = co_await agent.handle(std::move(method), std::move(params), Caller::kOperator);
  if (result) co_return make_response(request, http::status::ok, *result);
  co_return make_response(request, http_status(result.error().code), error_body(result.error()));
}

awaitable<void> serve_client(Agent& agent, std::shared_ptr<Clients> clients, Socket::socket socket) {
  const Result<ApiCaller> caller = api_caller(socket.native_handle());
  if (!caller) co_return;
  std::size_t& same = clients->by_user[caller->uid];
  if (caller->uid != 0 && (clients->count >= kClientsMax || same >= kClientsPerUser)) co_return;
  ++clients->count;
  ++same;
  const auto leave = [&](Clients* all) {
    --all->count;
    --same;
  };
  const std::unique_ptr<Clients, decltype(leave)> on_leave(clients.get(), leave);
  const Milliseconds patience = clients->access.check(*caller, true) ? kIdleLimit : kStrangerLimit;
  beast::basic_stream<Socket> stream(std::move(socket));
  beast::flat_buffer buffer;
  for (;;) {
    http::request_parser<http::string_body> parser;
    parser.header_limit(kHeaderBytesMax);
    parser.body_limit(kBodyBytesMax);
    stream.expires_after(patience);
    auto [error, n] = co_await http::async_read(stream, buffer, parser, use_tuple);
    if (error) co_return;
    stream.expires_never();
    const Request request = parser.release();
    const Response response = co_await answer(agent, clients->access, *caller, request);
    stream.expires_after(kIdleLimit);
    auto [write_error, written] = co_await http::async_write(stream, response, use_tuple);
    const bool refused = response.result() == http::status::forbidden;
    if (write_error || refused || !response.keep_alive()) co_return;
  }
}

awaitable<void> accept_clients(Agent& agent, std::shared_ptr<Clients> clients, Socket::acceptor acceptor) {
  auto executor = co_await asio::this_coro::executor;
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(use_tuple);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      co_await sleep_for(Milliseconds(100));
      continue;
    }
    asio::co_spawn(executor, serve_client(agent, clients, std::move(socket)), [](std::exception_ptr e) {
      if (e) log::error("serving an operator failed");
    });
  }
}

}  // namespace

awaitable<Status> serve_api(Agent& agent, std::string socket_path, ApiAccess access) {
  auto executor = co_await asio::this_coro::executor;
  const Socket::endpoint endpoint(socket_path);
  Socket::socket probe(executor);
  auto [answered] = co_await probe.async_connect(endpoint, use_tuple);
  if (!answered) {
    co_return fail(Errc::kConflict, "another lifeboatd answers on " + socket_path);
  }
  ::unlink(socket_path.c_str());
  Socket::acceptor acceptor(executor);
  boost::system::error_code error;
  // With groups anybody may connect, and is told which group a request needs.
  const mode_t old = ::umask(access.root_only() ? 0177 : 0111);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(64, error);
  ::umask(old);
  // The socket is all that others may reach in there.
  const std::string directory = socket_path.substr(0, socket_path.rfind('/'));
  if (!error && !access.root_only() && ::chmod(directory.c_str(), 0711) != 0) {
    co_return fail_errno("chmod " + directory);
  }
  if (error) co_return fail(Errc::kSystem, "listen on " + socket_path + ": " + error.message());
  auto clients = std::make_shared<Clients>(std::move(access));
  asio::co_spawn(executor, accept_clients(agent, std::move(clients), std::move(acceptor)), asio::detached);
  co_return Status{};
}

}  // namespace lifeboat
