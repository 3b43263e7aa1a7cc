#include "page_server.hpp"

#include "api_routes.hpp"
#include "base/log.hpp"
#include "base/openssl.hpp"
#include "base/tcp_listen.hpp"
#include "credentials.hpp"
#include "http_server.hpp"
#include "page_access.hpp"
#include "page_files.hpp"

namespace lifeboat {

using asio::ip::tcp;

namespace {

constexpr Milliseconds kHandshakeLimit{5'000};
constexpr Milliseconds kStrangerLimit{10'000};
constexpr std::uint64_t kFormBytesMax = 1024;
// A browser has up to six connections. Wrong tokens are answered at this rate, all together.
constexpr PeerGate::Limits kGate{128, 96, 2};
const std::string kKnown = "known";
const std::string kWrong = "wrong";

struct Server {
  Agent& agent;
  PageConfig config;
  std::shared_ptr<Credentials> credentials;  // null: no TLS, on a loopback address
  PeerGate gate{kGate};
};

// One connection.
struct Visit {
  Visit(Server& to, PeerGate::Pass place, std::string address)
      : server(to), pass(std::move(place)), from(std::move(address)) {}
  Server& server;
  PeerGate::Pass pass;
  std::string from;
  bool known = false;  // has shown the token
  HttpLimits limits{kFormBytesMax, kStrangerLimit, kStrangerLimit};
};

HttpResponse plain(const HttpRequest& request, http::status status, std::string text) {
  HttpResponse response = text_response(request, status, "text/plain; charset=utf-8", std::move(text));
  set_page_headers(response);
  return response;
}

// Whether `token` is the one; a wrong one takes its time.
awaitable<bool> is_right(Visit& visit, std::string token) {
  Server& server = visit.server;
  const auto right = read_page_token(server.config.token_file);
  if (!right) log::error("nobody is let in to the page", {{"reason", right.error().message}});
  if (right && is_same_token(token, *right)) co_return true;
  log::warn("a wrong token for the page", {{"from", visit.from}});
  const double now_s = std::chrono::duration<double>(SteadyClock::now().time_since_epoch()).count();
  const double wait_s = 1 / kGate.requests_per_s + server.gate.delay_s(kWrong, now_s);
  co_await sleep_for(Milliseconds(static_cast<int>(1000 * wait_s)));
  co_return false;
}

// Its place is among those who are known from now on. False: there are too many.
bool admit(Visit& visit) {
  if (visit.known) return true;
  visit.known = visit.server.gate.admit(visit.pass, kKnown);
  if (visit.known) visit.limits.read = visit.limits.write = HttpLimits{}.read;
  return visit.known;
}

awaitable<HttpResponse> log_in(Visit& visit, const HttpRequest& request) {
  std::string token = token_of_form(request.body());
  if (!co_await is_right(visit, token)) {
    co_return page_response(request, *find_page_file("/login"), http::status::unauthorized);
  }
  HttpResponse response = plain(request, http::status::see_other, "");
  response.set(http::field::location, "/");
  response.set(http::field::set_cookie, login_cookie(token));
  co_return response;
}

// Nothing: it may look.
awaitable<std::optional<HttpResponse>> refusal(Visit& visit, const HttpRequest& request) {
  if (visit.server.config.token_file.empty()) {
    const Status led = check_not_led(request);
    if (!led) co_return plain(request, http::status::forbidden, led.error().message + "\n");
  } else {
    const std::string token = shown_token(request);
    bool right = false;
    if (!token.empty()) right = co_await is_right(visit, token);
    if (!right) {
      // A browser is shown the form, everybody else the reason.
      constexpr http::status kNo = http::status::unauthorized;
      HttpResponse response = plain(request, kNo, "it takes the token (page.token_file)\n");
      if (request.target() == "/") response = page_response(request, *find_page_file("/login"), kNo);
      response.set(http::field::www_authenticate, "Bearer");
      if (!token.empty()) response.set(http::field::set_cookie, login_cookie(""));
      co_return response;
    }
  }
  if (admit(visit)) co_return std::nullopt;
  HttpResponse response = plain(request, http::status::service_unavailable, "too many are watching\n");
  response.keep_alive(false);
  co_return response;
}

awaitable<HttpResponse> answer(Visit& visit, const HttpRequest& request) {
  const std::string_view target(request.target().data(), request.target().size());
  if (request.method() == http::verb::post && target == "/login" && !visit.server.config.token_file.empty()) {
    co_return co_await log_in(visit, request);
  }
  if (request.method() != http::verb::get) {
    HttpResponse response = plain(request, http::status::method_not_allowed, "only GET\n");
    response.set(http::field::allow, "GET");
    response.keep_alive(false);
    co_return response;
  }
  const PageFile* const file = find_page_file(target);
  if (file != nullptr && target != "/") co_return page_response(request, *file);  // says nothing of this cluster
  std::optional<HttpResponse> refused = co_await refusal(visit, request);
  if (refused) co_return std::move(*refused);
  if (file != nullptr) co_return page_response(request, *file);
  json::object params;
  std::string method = match_route(request.method(), target, params);
  if (method != "view" && method != "node.plan") {
    co_return plain(request, http::status::not_found, "only the page and what it shows is here\n");
  }
  Agent& agent = visit.server.agent;
  const auto result = co_await agent.handle(std::move(method), std::move(params), Caller::kOperator);
  HttpResponse response = json_response(request, result);
  set_page_headers(response);
  co_return response;
}

awaitable<void> serve_client(std::shared_ptr<Server> server, Stream::Socket socket) {
  std::string from = remote_address(socket);
  if (from.empty()) co_return;
  auto pass = server->gate.enter(from);
  if (!pass) co_return;
  Visit visit(*server, std::move(*pass), std::move(from));
  Stream stream(std::move(socket));
  if (server->credentials) {
    SSL* const ssl = server->credentials->new_connection();
    if (ssl == nullptr) co_return;
    SSL_set_verify(ssl, SSL_VERIFY_NONE, nullptr);  // a browser has no certificate, and is not asked for one
    stream.expires_after(kHandshakeLimit);
    if (co_await stream.encrypt(ssl, Stream::Side::kServer)) co_return;
  }
  HttpAnswer reply = [&visit](const HttpRequest& request) { return answer(visit, request); };
  co_await serve_http(stream, visit.limits, std::move(reply));
}

}  // namespace

awaitable<Status> serve_page(Agent& agent) {
  const PageConfig& config = agent.node().config().page;
  if (config.listen.port == 0) co_return Status{};
  if (!config.token_file.empty()) {
    const auto token = read_page_token(config.token_file);
    if (!token) co_return tl::unexpected<Error>(token.error());
  }
  const tcp::endpoint endpoint(asio::ip::make_address_v4(config.listen.address), config.listen.port);
  auto acceptor = co_await listen_tcp(endpoint, "page.listen");
  if (!acceptor) {
    co_return fail(acceptor.error().code,
                   acceptor.error().message + "; is the address one of this node, and the port free?");
  }
  std::shared_ptr<Server> server(new Server{agent, config, agent.node().credentials()});
  serve_each(std::move(*acceptor), "the page",
             [server](Stream::Socket socket) { return serve_client(server, std::move(socket)); });
  co_return Status{};
}

}  // namespace lifeboat
