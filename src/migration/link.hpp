// link.hpp - one connection to another daemon: frames with a time limit on each.
//
// It is TLS 1.3 with a certificate at both ends (credentials.hpp), and the node that a peer says it is must
// be the one that its certificate names. Nothing is read that the limits of protocol.hpp do not allow,
// and before the Hello has been accepted not more than kHelloBytesMax. After an error a Link is of no
// further use.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/blocking.hpp"
#include "base/fd.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "base/stream.hpp"
#include "credentials.hpp"
#include "migration/page_socket.hpp"
#include "migration/protocol.hpp"

namespace lifeboat {

struct Frame {
  protocol::Kind kind = protocol::Kind::kInvalid;
  std::vector<unsigned char> payload;

  [[nodiscard]] std::string_view text() const {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

// This node, as its links introduce it.
struct LinkSelf {
  std::string cluster;
  std::string node;
  std::shared_ptr<Credentials> credentials = nullptr;  // null: nothing is encrypted, nobody is sure who is who
};

// Who is at the other end, as said in its Hello and, if there is one, by its certificate.
struct PeerName {
  std::string cluster;
  std::string node;
  std::optional<NodeRole> role = std::nullopt;  // as the certificate says
};

struct PeerAddress {
  std::string node;  // who is expected there
  std::string address;
  std::uint16_t port = 0;
};

class Link {
 public:
  // A connection accepted by a server.
  explicit Link(Stream::Socket socket);
  Link(Link&&) noexcept;
  Link& operator=(Link&&) noexcept;
  ~Link();

  // Connects and exchanges Hellos: kUnavailable when nobody answers at `to`, kRefused when the peer is
  // another node, of another cluster or version, or one side does not trust the other's certificate;
  // kConflict when this node begins so many that it was not this one's turn (handshake_turns.hpp).
  // `limit` is for each step: connection, its turn, TLS, Hello.
  static awaitable<Result<Link>> connect(PeerAddress to, LinkSelf self, Milliseconds limit);
  // The server's side of the same.
  awaitable<Result<PeerName>> accept_hello(LinkSelf self, Milliseconds limit);

  awaitable<Status> send(protocol::Kind kind, json::object body, Milliseconds limit);
  // A frame of a kind that has a DataHeader: its hash is added here.
  awaitable<Status> send_data(protocol::Kind kind, protocol::DataHeader header, const unsigned char* bytes,
                              std::size_t size, Milliseconds limit);

  // Bytes of a kind that has no header of its own.
  awaitable<Status> send_bytes(protocol::Kind kind, const unsigned char* bytes, std::size_t size,
                               Milliseconds limit);

  // Any frame. kUnavailable when the peer closed the connection.
  awaitable<Result<Frame>> receive(Milliseconds limit);
  // The JSON of a frame that must be of this kind. A Failed frame becomes its error, with the
  // peer's own code, step and text.
  awaitable<Result<json::object>> expect(protocol::Kind kind, Milliseconds limit);
  // The same of a frame that is here.
  Result<json::object> read(const Frame& frame, protocol::Kind kind) const;

  // A key that only the two ends of this connection know, for `label` alone (RFC 8446, 7.5). kInvalid
  // where nothing is encrypted.
  [[nodiscard]] Result<PageKey> export_key(std::string_view label) const;
  // The connection itself, for blocking use; the link is of no further use. Nothing that the other end
  // has sent must be on its way.
  [[nodiscard]] Fd release() &&;
  // Ends the connection: what waits on it fails.
  void close();
  // Whether the other end has ended it, whatever it sent before.
  [[nodiscard]] bool closed_by_peer() const;

  [[nodiscard]] const std::string& remote() const { return remote_; }
  [[nodiscard]] std::uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  struct Connection;

  awaitable<Status> start_tls(LinkSelf self, bool as_server, Milliseconds limit);
  Status check_peer(const PeerName& peer) const;
  awaitable<Status> write(std::vector<asio::const_buffer> buffers, Milliseconds limit);
  awaitable<Status> read_all(asio::mutable_buffer buffer);

  std::unique_ptr<Connection> connection_;
  std::optional<CertificateName> certified_;
  std::string remote_;
  std::uint64_t bytes_sent_ = 0;
  bool greeted_ = false;
};

// What a Failed frame carries.
json::object failed_body(const Error& error, std::string_view step);

// Checks one chunk's hash: false means it was damaged on its way.
bool hash_matches(const protocol::DataHeader& header, const unsigned char* bytes, std::size_t size);

}  // namespace lifeboat
