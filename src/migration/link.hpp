// link.hpp - one connection to another daemon: frames with a time limit on each.
//
// Nothing is read that the limits of protocol.hpp do not allow, and before the Hello has been
// accepted not more than kHelloBytesMax. After an error a Link is of no further use.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/blocking.hpp"
#include "base/fd.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "migration/protocol.hpp"

namespace lifeboat {

struct Frame {
  protocol::Kind kind = protocol::Kind::kInvalid;
  std::vector<unsigned char> payload;

  [[nodiscard]] std::string_view text() const {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

// Who is at the other end, as said in its Hello.
struct PeerName {
  std::string cluster;
  std::string node;
};

class Link {
 public:
  // A connection accepted by a server; `remote` for messages.
  explicit Link(asio::ip::tcp::socket socket);

  // Connects and exchanges Hellos: kUnavailable when nobody answers at `address`, kRefused when
  // the peer is of another cluster or version.
  static awaitable<Result<Link>> connect(std::string address, std::uint16_t port, PeerName self,
                                         Milliseconds limit);
  // The server's side of the same.
  awaitable<Result<PeerName>> accept_hello(PeerName self, Milliseconds limit);

  awaitable<Status> send(protocol::Kind kind, json::object body, Milliseconds limit);
  // Image bytes; the hash is added here.
  awaitable<Status> send_data(std::uint32_t file, std::uint64_t offset, const unsigned char* bytes,
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

  // The connection itself, for blocking use; the link is of no further use.
  [[nodiscard]] Fd release() &&;
  // Ends the connection: what waits on it fails.
  void close();

  [[nodiscard]] const std::string& remote() const { return remote_; }
  [[nodiscard]] std::uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  awaitable<Status> write(std::vector<asio::const_buffer> buffers, Milliseconds limit);

  std::unique_ptr<beast::tcp_stream> stream_;
  std::unique_ptr<AsyncMutex> writing_;  // frames of several coroutines do not mix
  std::string remote_;
  std::uint64_t bytes_sent_ = 0;
  bool greeted_ = false;
};

// What a Failed frame carries.
json::object failed_body(const Error& error, std::string_view step);

// Checks one chunk's hash: false means it was damaged on its way.
bool hash_matches(const protocol::DataHeader& header, const unsigned char* bytes, std::size_t size);

}  // namespace lifeboat
