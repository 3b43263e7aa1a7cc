#include "metrics_server.hpp"

#include "base/log.hpp"
#include "base/tcp_listen.hpp"
#include "metrics.hpp"

namespace lifeboat {

using asio::ip::tcp;

namespace {

constexpr std::size_t kClientsMax = 32;
constexpr std::uint32_t kHeaderBytesMax = 8192;
constexpr Milliseconds kLimit{10'000};  // of a whole connection; Prometheus itself gives up after as long

struct Server {
  std::function<std::string()> page;
  std::size_t clients = 0;
};

http::response<http::string_body> answer(const Server& server, const http::request<http::empty_body>& request) {
  http::response<http::string_body> response(http::status::ok, request.version());
  response.set(http::field::content_type, metrics::kContentType);
  response.keep_alive(false);
  const auto target = request.target();
  if (target.substr(0, target.find('?')) != "/metrics") {
    response.result(http::status::not_found);
    response.body() = "only /metrics is here\n";
  } else if (request.method() != http::verb::get) {
    response.result(http::status::method_not_allowed);
    response.set(http::field::allow, "GET");
    response.body() = "only GET\n";
  } else {
    response.body() = server.page();
  }
  response.prepare_payload();
  return response;
}

awaitable<void> serve_client(std::shared_ptr<Server> server, tcp::socket socket) {
  if (server->clients >= kClientsMax) co_return;
  ++server->clients;
  const auto leave = [](Server* from) { --from->clients; };
  const std::unique_ptr<Server, decltype(leave)> on_leave(server.get(), leave);
  beast::tcp_stream stream(std::move(socket));
  stream.expires_after(kLimit);
  beast::flat_buffer buffer;
  http::request_parser<http::empty_body> parser;
  parser.header_limit(kHeaderBytesMax);
  auto [error, n] = co_await http::async_read(stream, buffer, parser, use_tuple);
  if (error) co_return;
  const auto response = answer(*server, parser.get());
  (void)co_await http::async_write(stream, response, use_tuple);
  boost::system::error_code ignored;
  stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
}

awaitable<void> accept_clients(std::shared_ptr<Server> server, tcp::acceptor acceptor) {
  auto executor = co_await asio::this_coro::executor;
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(use_tuple);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      co_await sleep_for(Milliseconds(100));
      continue;
    }
    asio::co_spawn(executor, serve_client(server, std::move(socket)), [](std::exception_ptr e) {
      if (e) log::error("serving metrics failed");
    });
  }
}

}  // namespace

awaitable<Status> serve_metrics(MetricsConfig config, std::function<std::string()> page) {
  if (config.port == 0) co_return Status{};
  const tcp::endpoint endpoint(asio::ip::make_address_v4(config.address), config.port);
  auto acceptor = co_await listen_tcp(endpoint, "metrics.listen");
  if (!acceptor) {
    co_return fail(acceptor.error().code,
                   acceptor.error().message + "; is the address one of this node, and the port free?");
  }
  auto server = std::make_shared<Server>();
  server->page = std::move(page);
  const auto executor = co_await asio::this_coro::executor;
  asio::co_spawn(executor, accept_clients(std::move(server), std::move(*acceptor)), asio::detached);
  co_return Status{};
}

}  // namespace lifeboat
