#include "metrics_server.hpp"

#include "base/tcp_listen.hpp"
#include "http_server.hpp"
#include "metrics.hpp"

namespace lifeboat {

using asio::ip::tcp;

namespace {

constexpr std::size_t kClientsMax = 32;
constexpr Milliseconds kLimit{10'000};  // Prometheus itself gives up after as long

struct Server {
  std::function<std::string()> page;
  std::size_t clients = 0;
};

awaitable<HttpResponse> answer(const Server& server, const HttpRequest& request) {
  const auto target = request.target();
  const auto text = [&](http::status status, std::string body) {
    HttpResponse response = text_response(request, status, metrics::kContentType, std::move(body));
    response.keep_alive(false);
    return response;
  };
  if (target.substr(0, target.find('?')) != "/metrics") {
    co_return text(http::status::not_found, "only /metrics is here\n");
  }
  if (request.method() != http::verb::get) {
    HttpResponse response = text(http::status::method_not_allowed, "only GET\n");
    response.set(http::field::allow, "GET");
    co_return response;
  }
  co_return text(http::status::ok, server.page());
}

awaitable<void> serve_client(std::shared_ptr<Server> server, Stream::Socket socket) {
  if (server->clients >= kClientsMax) co_return;
  ++server->clients;
  const auto leave = [](Server* from) { --from->clients; };
  const std::unique_ptr<Server, decltype(leave)> on_leave(server.get(), leave);
  Stream stream(std::move(socket));
  const HttpLimits limits{0, kLimit, kLimit};
  HttpAnswer reply = [&](const HttpRequest& request) { return answer(*server, request); };
  co_await serve_http(stream, limits, std::move(reply));
  boost::system::error_code ignored;
  stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
}

}  // namespace

awaitable<Status> serve_metrics(ListenConfig config, std::function<std::string()> page) {
  if (config.port == 0) co_return Status{};
  const tcp::endpoint endpoint(asio::ip::make_address_v4(config.address), config.port);
  auto acceptor = co_await listen_tcp(endpoint, "metrics.listen");
  if (!acceptor) {
    co_return fail(acceptor.error().code,
                   acceptor.error().message + "; is the address one of this node, and the port free?");
  }
  auto server = std::make_shared<Server>();
  server->page = std::move(page);
  serve_each(std::move(*acceptor), "metrics",
             [server](Stream::Socket socket) { return serve_client(server, std::move(socket)); });
  co_return Status{};
}

}  // namespace lifeboat
