#include "api.hpp"

#include <sys/stat.h>

#include <map>

#include "api_routes.hpp"
#include "http_server.hpp"
#include "metrics.hpp"
#include "page_access.hpp"
#include "page_files.hpp"

namespace lifeboat {

using Socket = asio::local::stream_protocol;

namespace {

constexpr std::uint64_t kBodyBytesMax = 1 << 20;
constexpr Milliseconds kIdleLimit{60'000};
constexpr Milliseconds kStrangerLimit{2'000};  // who may do nothing gets no more time than that
constexpr std::size_t kClientsMax = 256;
constexpr std::size_t kClientsPerUser = 64;

struct Clients {
  explicit Clients(ApiAccess who) : access(std::move(who)) {}
  ApiAccess access;
  std::size_t count = 0;
  std::map<uid_t, std::size_t> by_user;  // root is not counted: it can always see what is wrong
};

HttpResponse forbidden(const HttpRequest& request, const Error& why) {
  HttpResponse response = json_response(request, tl::unexpected<Error>(why));
  response.result(http::status::forbidden);
  response.keep_alive(false);
  return response;
}

awaitable<HttpResponse> answer(Agent& agent, const ApiAccess& access, const ApiCaller& caller,
                               const HttpRequest& request) {
  const Status allowed = access.check(caller, request.method() == http::verb::get);
  if (!allowed) co_return forbidden(request, allowed.error());
  // With ssh -L a browser comes here with all that its user may do.
  const Status led = check_not_led(request);
  if (!led) co_return forbidden(request, led.error());
  const std::string_view target(request.target().data(), request.target().size());
  const PageFile* const file = request.method() == http::verb::get ? find_page_file(target) : nullptr;
  if (file != nullptr) co_return page_response(request, *file);
  json::object params;
  if (!request.body().empty()) {
    auto body = parse_object(request.body());
    if (!body) co_return json_response(request, body);
    params = std::move(*body);
  }
  std::string method = match_route(request.method(), target, params);
  if (method.empty()) {
    co_return json_response(request, fail(Errc::kNotFound, "no such route; try GET /v1/status"));
  }
  if (method == "metrics") {
    co_return text_response(request, http::status::ok, metrics::kContentType, agent.metrics());
  }
  const auto result = co_await agent.handle(std::move(method), std::move(params), Caller::kOperator);
  HttpResponse response = json_response(request, result);
  set_page_headers(response);
  co_return response;
}

awaitable<void> serve_client(Agent& agent, std::shared_ptr<Clients> clients, Stream::Socket socket) {
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
  HttpLimits limits{kBodyBytesMax, kIdleLimit, kIdleLimit};
  if (!clients->access.check(*caller, true)) limits.read = kStrangerLimit;
  Stream stream(std::move(socket));
  HttpAnswer reply = [&](const HttpRequest& request) {
    return answer(agent, clients->access, *caller, request);
  };
  co_await serve_http(stream, limits, std::move(reply));
}

}  // namespace

awaitable<Status> serve_api(Agent& agent, std::string socket_path, ApiAccess access) {
  auto executor = co_await asio::this_coro::executor;
  const Socket::endpoint endpoint(socket_path);
  Stream probe(executor);
  const auto unanswered = co_await probe.connect(endpoint);
  if (!unanswered) {
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
  serve_each(std::move(acceptor), "an operator", [&agent, clients](Stream::Socket socket) {
    return serve_client(agent, clients, std::move(socket));
  });
  co_return Status{};
}

}  // namespace lifeboat
