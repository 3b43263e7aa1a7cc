// A connection as whoever dials in may use it: the greeting, then frames. Before the greeting is
// accepted nothing long is read; what is no frame ends it.
#include "migration/link.hpp"

#include <sys/socket.h>

#include "fuzz.hpp"

namespace {

using namespace lifeboat;

awaitable<void> serve(Link& link) {
  const LinkSelf self{"lab", "n1", nullptr};
  const Milliseconds limit(1000);
  const auto peer = co_await link.accept_hello(self, limit);
  fuzz::require_good(peer);
  if (!peer) co_return;
  fuzz::require(peer->cluster == "lab", "nobody of another cluster is greeted");
  for (;;) {
    const auto frame = co_await link.receive(limit);
    fuzz::require_good(frame);
    if (!frame) co_return;
    fuzz::require(frame->payload.size() <= protocol::kJsonBytesMax, "a frame is within the limit");
    fuzz::require_good(link.read(*frame, protocol::Kind::kRequest));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  int ends[2];
  fuzz::require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "a socket pair");
  const Fd peer(ends[0]);
  // All of it is there, and then the end: nothing waits.
  (void)::send(peer.get(), data, std::min<std::size_t>(size, 64U << 10),
               MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(peer.get(), SHUT_WR);
  asio::io_context io(1);
  asio::ip::tcp::socket socket(io);
  socket.assign(asio::ip::tcp::v4(), ends[1]);
  Link link(std::move(socket));
  asio::co_spawn(io, serve(link), asio::detached);
  io.run();
  return 0;
}
