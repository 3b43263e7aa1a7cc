// An encrypted page connection with somebody between its ends who changes, drops, repeats and adds bytes:
// what arrives is the beginning of what was sent, and nothing else, ever.
#include "migration/page_socket.hpp"

#include <sys/socket.h>

#include <algorithm>

#include "fuzz.hpp"

namespace {

using namespace lifeboat;

struct End {
  PageSocket socket;
  Fd wire;  // the other side of it
};

End make_end(PageSocket::End side, const PageKey& key) {
  int pair[2];
  fuzz::require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "a socket pair");
  constexpr std::uint64_t kRekeyBytes = 256;
  auto socket = PageSocket::encrypted(Fd(pair[0]), side, key, kRekeyBytes);
  fuzz::require(socket.has_value(), "TLS can be begun");
  return {std::move(*socket), Fd(pair[1])};
}

// What lies on the wire, as it goes on.
void carry(const Fd& from, const Fd& to, FuzzedDataProvider& input) {
  std::vector<unsigned char> bytes(64U << 10);
  const ssize_t n = ::recv(from.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (n <= 0) return;
  bytes.resize(static_cast<std::size_t>(n));
  const std::size_t at = input.ConsumeIntegralInRange<std::size_t>(0, bytes.size() - 1);
  const auto here = bytes.begin() + static_cast<std::ptrdiff_t>(at);
  switch (input.ConsumeIntegralInRange(0, 11)) {  // mostly nothing
    case 0: bytes[at] ^= input.ConsumeIntegralInRange<unsigned char>(1, 255); break;
    case 1: bytes.erase(here); break;
    case 2: bytes.resize(at); break;
    case 3: bytes.insert(bytes.end(), bytes.begin(), here); break;
    case 4: {
      const auto added = input.ConsumeBytes<unsigned char>(input.ConsumeIntegralInRange<std::size_t>(0, 200));
      bytes.insert(here, added.begin(), added.end());
      break;
    }
    default: break;
  }
  (void)::send(to.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto read = page_key_from(fuzz::text(data, std::min<std::size_t>(size, 64)));
  fuzz::require_good(read);
  if (read) fuzz::require(to_hex(*read) == fuzz::text(data, 64), "a key comes back as it was");
  FuzzedDataProvider input(data, size);
  PageKey key{};
  key.fill(7);
  End source = make_end(PageSocket::End::kSource, key);
  End target = make_end(PageSocket::End::kTarget, key);
  constexpr int kFlights = 4;
  for (int flight = 0; flight < kFlights; ++flight) {
    const auto source_done = source.socket.try_handshake();
    carry(source.wire, target.wire, input);
    const auto target_done = target.socket.try_handshake();
    carry(target.wire, source.wire, input);
    fuzz::require_good(source_done);
    fuzz::require_good(target_done);
    if (!source_done || !target_done) return 0;
  }
  // An end that waits for the other would wait here for ever: both must know that they are done.
  const auto ready = source.socket.try_handshake();
  const auto heard = target.socket.try_handshake();
  if (!ready || !heard || !*ready || !*heard) return 0;
  std::vector<unsigned char> sent;
  for (int i = 0; i < 3; ++i) {
    std::vector<unsigned char> bytes(input.ConsumeIntegralInRange<std::size_t>(1, 400));
    for (std::size_t at = 0; at < bytes.size(); ++at) bytes[at] = static_cast<unsigned char>(at * 31 + 7U * i);
    std::vector<iovec> parts{{bytes.data(), bytes.size()}};
    double waiting_s = 0;
    if (!source.socket.send(parts, 1, waiting_s)) return 0;
    sent.insert(sent.end(), bytes.begin(), bytes.end());
    carry(source.wire, target.wire, input);
  }
  ::shutdown(target.wire.get(), SHUT_WR);
  std::vector<unsigned char> got;
  for (;;) {
    unsigned char some[300];
    const auto n = target.socket.receive(some, {}, "receive from");
    fuzz::require_good(n);
    if (!n || *n == 0) break;
    got.insert(got.end(), some, some + *n);
  }
  fuzz::require(got.size() <= sent.size() && std::equal(got.begin(), got.end(), sent.begin()),
                "what arrives is the beginning of what was sent");
  return 0;
}
