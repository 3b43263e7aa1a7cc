#include "base/stream.hpp"

#include <algorithm>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <cstring>

#include "base/log.hpp"

namespace lifeboat {

struct Stream::Layers {
  using Plain = beast::basic_stream<asio::generic::stream_protocol>;
  using Tls = asio::ssl::stream<Plain&>;

  template <class From>
  explicit Layers(From&& from) : plain(std::forward<From>(from)) {}

  Plain plain;
  std::unique_ptr<Tls> tls;  // null: not encrypted
};

Stream::Stream(const asio::any_io_executor& executor) : layers_(std::make_unique<Layers>(executor)) {}
Stream::Stream(Socket connected) : layers_(std::make_unique<Layers>(std::move(connected))) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

void Stream::expires_after(Milliseconds limit) { layers_->plain.expires_after(limit); }
void Stream::expires_never() { layers_->plain.expires_never(); }

awaitable<Stream::Error> Stream::connect(Endpoint to) {
  auto [error] = co_await layers_->plain.async_connect(to, use_tuple);
  co_return error;
}

awaitable<Stream::Error> Stream::encrypt(SSL* ssl, Side side) {
  layers_->tls = std::make_unique<Layers::Tls>(layers_->plain, ssl);
  const auto type = side == Side::kServer ? asio::ssl::stream_base::server : asio::ssl::stream_base::client;
  auto [error] = co_await layers_->tls->async_handshake(type, use_tuple);
  co_return error;
}

awaitable<Stream::Count> Stream::read_some(asio::mutable_buffer buffer) {
  if (layers_->tls) {
    auto [error, n] = co_await layers_->tls->async_read_some(buffer, use_tuple);
    co_return Count(error, n);
  }
  auto [error, n] = co_await layers_->plain.async_read_some(buffer, use_tuple);
  co_return Count(error, n);
}

awaitable<Stream::Error> Stream::read(asio::mutable_buffer whole) {
  while (whole.size() > 0) {
    const auto [error, n] = co_await read_some(whole);
    if (error) co_return error;
    whole += n;
  }
  co_return Error();
}

awaitable<Stream::Count> Stream::write(std::vector<asio::const_buffer> buffers) {
  if (layers_->tls) {
    auto [error, n] = co_await asio::async_write(*layers_->tls, buffers, use_tuple);
    co_return Count(error, n);
  }
  auto [error, n] = co_await asio::async_write(layers_->plain, buffers, use_tuple);
  co_return Count(error, n);
}

SSL* Stream::ssl() const { return layers_->tls ? layers_->tls->native_handle() : nullptr; }
Stream::Socket& Stream::socket() const { return layers_->plain.socket(); }
void Stream::close() { layers_->plain.close(); }
Stream::Socket Stream::release() && { return layers_->plain.release_socket(); }

namespace {

awaitable<void> accept_each(Acceptor acceptor, std::string what,
                            std::function<awaitable<void>(Stream::Socket)> serve) {
  const auto executor = co_await asio::this_coro::executor;
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(use_tuple);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {
      log::warn("accepting " + what + " failed", {{"reason", error.message() + advice_for(error.value())}});
      co_await sleep_for(Milliseconds(100));
      continue;
    }
    run_detached(executor, "serving " + what, serve(std::move(socket)));
  }
}

}  // namespace

void serve_each(Acceptor acceptor, std::string what, std::function<awaitable<void>(Stream::Socket)> serve) {
  const auto executor = acceptor.get_executor();
  run_detached(executor, "listening for " + what, accept_each(std::move(acceptor), what, std::move(serve)));
}

std::string remote_address(const Stream::Socket& socket) {
  Stream::Error error;
  const Stream::Endpoint remote = socket.remote_endpoint(error);
  asio::ip::tcp::endpoint endpoint;
  const int family = error ? AF_UNSPEC : remote.data()->sa_family;
  if (family != AF_INET && family != AF_INET6) return "";
  std::memcpy(endpoint.data(), remote.data(), std::min(remote.size(), endpoint.capacity()));
  return endpoint.address().to_string();
}

}  // namespace lifeboat
