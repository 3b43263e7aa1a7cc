// page_socket.hpp - the blocking socket of a page connection: time limits, the time spent waiting, and
// encryption.
//
// Encrypted it is TLS 1.3 (RFC 8446) with a pre-shared key (2.2, psk_dhe_ke) and AES-128-GCM. The key comes
// from the link that the connection was until then, so that it is known to the two daemons who have seen
// each other's certificates, and to the pager that the target's daemon gave it to: the certificates
// themselves never leave the daemons. One thread may send while another one receives.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

using PageKey = std::array<unsigned char, 32>;
[[nodiscard]] std::string to_hex(const PageKey& key);
Result<PageKey> page_key_from(std::string_view hex);

class PageSocket {
 public:
  enum class End { kSource, kTarget };

  PageSocket();
  // A connected stream socket, as it is.
  PageSocket(Fd socket);  // NOLINT: an Fd is one
  PageSocket(PageSocket&&) noexcept;
  PageSocket& operator=(PageSocket&&) noexcept;
  ~PageSocket();
  // Encrypted from its first byte on. After `rekey_bytes` sent the key is changed: far below the
  // 388 GB up to which one of AES-128-GCM is good (RFC 8446, 5.5).
  static Result<PageSocket> encrypted(Fd socket, End end, const PageKey& key,
                                      std::uint64_t rekey_bytes = 64ULL << 30);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] explicit operator bool() const { return fd_.valid(); }

  // Goes on with the handshake without waiting; true once it is complete, or when there is none.
  // Optional: sending and receiving do it, too.
  Result<bool> try_handshake();

  // Receiving fails after so long without a byte.
  void set_receive_timeout(int seconds);
  // Sends all `parts` and clears them; adds the time in which the socket took nothing to `waiting_s`.
  // kTimeout after `timeout_s` (0: never) without progress, kUnavailable when the peer is gone.
  Status send(std::vector<iovec>& parts, int timeout_s, double& waiting_s);
  // At least one byte into `out`, the rest into `ahead` if there is more; 0 at the end of the stream.
  // `what`: "receive pages from", for errors.
  Result<std::size_t> receive(std::span<unsigned char> out, std::span<unsigned char> ahead, const char* what);
  // All of `out`; kUnavailable when the stream ends before.
  Status receive_all(std::span<unsigned char> out, const char* what);
  // shutdown(2), from any thread.
  void shut_down(int how) const;

 private:
  class Tls;

  Fd fd_;
  std::unique_ptr<Tls> tls_;
};

}  // namespace lifeboat
