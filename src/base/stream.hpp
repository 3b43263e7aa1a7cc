// stream.hpp - one connection over TCP or a unix socket, encrypted or not, with a limit on the time that things take.
//
// Errors are Asio's: eof when the other end has closed it, beast::error::timeout when the limit has passed.
#pragma once

#include <openssl/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/asio.hpp"

namespace lifeboat {

class Stream {
 public:
  using Socket = asio::generic::stream_protocol::socket;
  using Endpoint = asio::generic::stream_protocol::endpoint;
  using Error = boost::system::error_code;
  using Count = std::pair<Error, std::size_t>;
  enum class Side { kClient, kServer };

  explicit Stream(const asio::any_io_executor& executor);
  explicit Stream(Socket connected);
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  // For all that begins from now on, together.
  void expires_after(Milliseconds limit);
  void expires_never();

  awaitable<Error> connect(Endpoint to);
  // TLS from here on. Takes `ssl`, which is set up but for its connection.
  awaitable<Error> encrypt(SSL* ssl, Side side);
  awaitable<Count> read_some(asio::mutable_buffer buffer);
  awaitable<Error> read(asio::mutable_buffer whole);
  awaitable<Count> write(std::vector<asio::const_buffer> buffers);

  [[nodiscard]] SSL* ssl() const;  // null: not encrypted
  [[nodiscard]] Socket& socket() const;
  // What waits on it fails.
  void close();
  // The connection itself; the stream is of no further use.
  [[nodiscard]] Socket release() &&;

 private:
  struct Layers;
  std::unique_ptr<Layers> layers_;
};

// Serves each connection in a coroutine of its own, until the event loop stops. `what` they are, for the log.
using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;
void serve_each(Acceptor acceptor, std::string what, std::function<awaitable<void>(Stream::Socket)> serve);

// The IP address at the other end; empty when there is none.
[[nodiscard]] std::string remote_address(const Stream::Socket& socket);

}  // namespace lifeboat
