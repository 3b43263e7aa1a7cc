#include "migration/link.hpp"

#define XXH_INLINE_ALL
#include <poll.h>
#include <xxhash.h>

#include <boost/asio/ssl/error.hpp>

#include "base/openssl.hpp"
#include "base/stream.hpp"
#include "migration/handshake_turns.hpp"

namespace lifeboat {

using asio::ip::tcp;
using protocol::Kind;

namespace {

Error network_error(const boost::system::error_code& error, const std::string& what,
                    const std::string& remote) {
  if (error == beast::error::timeout) {
    return Error(Errc::kTimeout, what + " " + remote + ": no progress before the deadline");
  }
  if (error == asio::error::eof || error == asio::error::connection_reset ||
      error == asio::error::broken_pipe || error == asio::ssl::error::stream_truncated) {
    return Error(Errc::kUnavailable, what + " " + remote + ": the peer closed the connection");
  }
  // With TLS 1.3 a client learns only after its handshake that its certificate was not taken.
  if (error.category() == asio::error::get_ssl_category()) {
    return Error(Errc::kRefused, what + " " + remote + ": TLS: " + error.message());
  }
  return Error(Errc::kUnavailable, what + " " + remote + ": " + error.message());
}

void tune(Stream::Socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  // A peer without power or cable says nothing: the kernel notices within about 15 s, also while
  // one side only waits for the other (a restore may take minutes).
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const int fd = socket.native_handle();
  for (const auto& [option, value] : {std::pair{TCP_KEEPIDLE, 5}, {TCP_KEEPINTVL, 2},
                                      {TCP_KEEPCNT, 5}, {TCP_USER_TIMEOUT, 15'000}}) {
    (void)::setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value);
  }
}

json::object hello_body(const LinkSelf& self) {
  return {{"cluster", self.cluster}, {"node", self.node}, {"version", protocol::kVersion}};
}

Result<PeerName> check_hello(const json::object& hello, const LinkSelf& self) {
  PeerName peer;
  TRY(peer.cluster, get_string(hello, "cluster"));
  TRY(peer.node, get_string(hello, "node"));
  TRY(const std::uint64_t version, get_u64(hello, "version"));
  if (version != protocol::kVersion) {
    return fail(Errc::kRefused, "node " + peer.node + " speaks protocol version " +
                                    std::to_string(version) + ", this one " +
                                    std::to_string(protocol::kVersion) +
                                    "; install the same Lifeboat on both");
  }
  if (peer.cluster != self.cluster) {
    return fail(Errc::kRefused, "node " + peer.node + " belongs to cluster '" + peer.cluster +
                                    "', this one to '" + self.cluster + "'");
  }
  return peer;
}

Error failed_error(const json::object& body) {
  const std::string step = string_or(body, "step");
  const std::string message = string_or(body, "message", "no reason given");
  return Error(errc_from(string_or(body, "code")), step.empty() ? message : step + ": " + message);
}

}  // namespace

json::object failed_body(const Error& error, std::string_view step) {
  return {{"code", to_string(error.code)},
          {"step", json::string_view(step.data(), step.size())},
          {"message", error.message}};
}

bool hash_matches(const protocol::DataHeader& header, const unsigned char* bytes,
                  std::size_t size) {
  return XXH3_64bits(bytes, size) == header.hash;
}

struct Link::Connection {
  explicit Connection(Stream::Socket socket) : stream(std::move(socket)) {}

  AsyncMutex writing;  // frames of several coroutines do not mix
  Stream stream;
};

Link::Link(Stream::Socket socket) : remote_(remote_address(socket)) {
  if (remote_.empty()) remote_ = "unknown";
  tune(socket);
  connection_ = std::make_unique<Connection>(std::move(socket));
}

Link::Link(Link&&) noexcept = default;
Link& Link::operator=(Link&&) noexcept = default;
Link::~Link() = default;

awaitable<Result<Link>> Link::connect(PeerAddress to, LinkSelf self, Milliseconds limit) {
  auto executor = co_await asio::this_coro::executor;
  boost::system::error_code bad;
  const auto ip = asio::ip::make_address(to.address, bad);
  if (bad) co_return fail(Errc::kInvalid, "'" + to.address + "' is not an IP address");
  Stream stream(executor);
  stream.expires_after(limit);
  const tcp::endpoint endpoint(ip, to.port);
  const auto error = co_await stream.connect(endpoint);
  if (error) {
    co_return tl::unexpected<Error>(
        network_error(error, "connect to", to.address + " port " + std::to_string(to.port)));
  }
  Link link(std::move(stream).release());
  auto& turns = asio::use_service<HandshakeTurns>(executor.context());
  const auto turn = co_await turns.take(limit);
  if (!turn) co_return fail(Errc::kConflict, "connect to " + to.address + ": this node begins many others");
  CO_CHECK_OK(co_await link.start_tls(self, false, limit));
  link.greeted_ = true;  // our own call: the answer may be as long as any frame
  json::object hello = hello_body(self);
  CO_CHECK_OK(co_await link.send(Kind::kHello, std::move(hello), limit));
  CO_TRY(const json::object answer, co_await link.expect(Kind::kHello, limit));
  CO_TRY(const PeerName peer, check_hello(answer, self));
  CO_CHECK_OK(link.check_peer(peer));
  if (peer.node != to.node) {
    co_return fail(Errc::kRefused, "at " + to.address + " is node " + peer.node + ", not " + to.node +
                                       "; are the addresses in `nodes` right?");
  }
  co_return link;
}

awaitable<Result<PeerName>> Link::accept_hello(LinkSelf self, Milliseconds limit) {
  CO_CHECK_OK(co_await start_tls(self, true, limit));
  CO_TRY(const json::object hello, co_await expect(Kind::kHello, limit));
  auto peer = check_hello(hello, self);
  if (peer) {
    const Status certified = check_peer(*peer);
    if (!certified) peer = tl::unexpected<Error>(certified.error());
  }
  if (!peer) {
    json::object body = failed_body(peer.error(), "hello");
    (void)co_await send(Kind::kFailed, std::move(body), limit);
    co_return peer;
  }
  if (certified_) peer->role = certified_->role;
  greeted_ = true;
  json::object answer = hello_body(self);
  CO_CHECK_OK(co_await send(Kind::kHello, std::move(answer), limit));
  co_return peer;
}

awaitable<Status> Link::start_tls(LinkSelf self, bool as_server, Milliseconds limit) {
  if (!self.credentials) co_return Status{};
  SSL* const ssl = self.credentials->new_connection();
  if (ssl == nullptr) co_return fail_openssl(Errc::kSystem, "TLS");
  Stream& stream = connection_->stream;
  stream.expires_after(limit);
  const auto error = co_await stream.encrypt(ssl, as_server ? Stream::Side::kServer : Stream::Side::kClient);
  if (error) {
    Error told = network_error(error, "TLS with", remote_);
    const long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK) {
      told.message += std::string(": ") + X509_verify_cert_error_string(verdict);
    }
    co_return tl::unexpected<Error>(std::move(told));
  }
  CO_TRY(certified_, name_of_peer(*ssl));
  co_return Status{};
}

Status Link::check_peer(const PeerName& peer) const {
  if (!certified_ || (certified_->node == peer.node && certified_->cluster == peer.cluster)) return {};
  return fail(Errc::kRefused, "a peer calls itself " + peer.node + " of cluster " + peer.cluster +
                                  ", but its certificate is of " + to_uri(*certified_));
}

awaitable<Status> Link::write(std::vector<asio::const_buffer> buffers, Milliseconds limit) {
  const AsyncMutex::Lock lock = co_await connection_->writing.lock();
  Stream& stream = connection_->stream;
  stream.expires_after(limit);
  const auto [error, n] = co_await stream.write(std::move(buffers));
  stream.expires_never();
  if (error) co_return tl::unexpected<Error>(network_error(error, "send to", remote_));
  bytes_sent_ += n;
  co_return Status{};
}

awaitable<Status> Link::read_all(asio::mutable_buffer buffer) {
  const auto error = co_await connection_->stream.read(buffer);
  if (error) co_return tl::unexpected<Error>(network_error(error, "receive from", remote_));
  co_return Status{};
}

awaitable<Status> Link::send(Kind kind, json::object body, Milliseconds limit) {
  const std::string text = json::serialize(body);
  if (text.size() > protocol::kJsonBytesMax) {
    co_return fail(Errc::kInvalid, "a " + std::string(to_string(kind)) + " message of " +
                                       std::to_string(text.size()) + " bytes is too long to send");
  }
  unsigned char header[protocol::kHeaderBytes];
  encode(protocol::Header{kind, static_cast<std::uint32_t>(text.size())}, header);
  std::vector<asio::const_buffer> buffers{asio::buffer(header), asio::buffer(text)};
  co_return co_await write(std::move(buffers), limit);
}

awaitable<Status> Link::send_data(Kind kind, protocol::DataHeader header, const unsigned char* bytes,
                                  std::size_t size, Milliseconds limit) {
  unsigned char headers[protocol::kHeaderBytes + protocol::kDataHeaderBytes];
  unsigned char frame[protocol::kHeaderBytes];
  const auto length = static_cast<std::uint32_t>(protocol::kDataHeaderBytes + size);
  encode(protocol::Header{kind, length}, frame);
  std::copy(std::begin(frame), std::end(frame), headers);
  header.hash = XXH3_64bits(bytes, size);
  encode(header, headers + protocol::kHeaderBytes);
  std::vector<asio::const_buffer> buffers{asio::buffer(headers), asio::buffer(bytes, size)};
  co_return co_await write(std::move(buffers), limit);
}

awaitable<Status> Link::send_bytes(Kind kind, const unsigned char* bytes, std::size_t size,
                                   Milliseconds limit) {
  unsigned char header[protocol::kHeaderBytes];
  encode(protocol::Header{kind, static_cast<std::uint32_t>(size)}, header);
  std::vector<asio::const_buffer> buffers{asio::buffer(header), asio::buffer(bytes, size)};
  co_return co_await write(std::move(buffers), limit);
}

Result<PageKey> Link::export_key(std::string_view label) const {
  SSL* const ssl = connection_->stream.ssl();
  if (ssl == nullptr) return fail(Errc::kInvalid, "this connection is not encrypted");
  PageKey key{};
  if (SSL_export_keying_material(ssl, key.data(), key.size(), label.data(),
                                 label.size(), nullptr, 0, 0) != 1) {
    return fail_openssl(Errc::kSystem, "a key for pages");
  }
  return key;
}

Fd Link::release() && {
  Stream::Socket socket = std::move(connection_->stream).release();
  boost::system::error_code error;
  socket.native_non_blocking(false, error);
  const int fd = socket.release(error);
  return error ? Fd() : Fd(fd);
}

void Link::close() {
  if (connection_) connection_->stream.close();
}

bool Link::closed_by_peer() const {
  if (!connection_ || !connection_->stream.socket().is_open()) return true;
  pollfd polled{connection_->stream.socket().native_handle(), POLLRDHUP, 0};
  return ::poll(&polled, 1, 0) > 0;
}

awaitable<Result<Frame>> Link::receive(Milliseconds limit) {
  connection_->stream.expires_after(limit);
  unsigned char raw[protocol::kHeaderBytes];
  CO_CHECK_OK(co_await read_all(asio::buffer(raw)));
  CO_TRY(const protocol::Header header, protocol::decode(raw));
  if (!greeted_ && header.length > protocol::kHelloBytesMax) {
    co_return fail(Errc::kProtocol, "a message of " + std::to_string(header.length) +
                                        " bytes before the greeting from " + remote_);
  }
  Frame frame;
  frame.kind = header.kind;
  frame.payload.resize(header.length);
  CO_CHECK_OK(co_await read_all(asio::buffer(frame.payload)));
  connection_->stream.expires_never();
  co_return frame;
}

awaitable<Result<json::object>> Link::expect(Kind kind, Milliseconds limit) {
  CO_TRY(const Frame frame, co_await receive(limit));
  co_return read(frame, kind);
}

Result<json::object> Link::read(const Frame& frame, Kind kind) const {
  if (frame.kind == Kind::kFailed || frame.kind == kind) {
    TRY(json::object body, parse_object(frame.text()));
    if (frame.kind == kind) return body;
    return tl::unexpected<Error>(failed_error(body));
  }
  return fail(Errc::kProtocol, remote_ + " sent " + std::string(to_string(frame.kind)) +
                                      " where " + std::string(to_string(kind)) + " was due");
}

}  // namespace lifeboat
