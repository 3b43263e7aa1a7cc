// What a registry answers, etcd's gateway as the bytes of its connection, another daemon as a frame: what
// is taken is what was asked for, and no list is without end.
#include "fuzz.hpp"
#include "registry/etcd.hpp"
#include "registry/remote.hpp"

namespace {

using namespace lifeboat;
using asio::ip::tcp;

constexpr Milliseconds kLimit{2000};

// Answers each connection with the same bytes, whatever it is asked.
awaitable<void> answer_as_etcd(tcp::acceptor& acceptor, std::string_view bytes) {
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(use_tuple);
    if (error) co_return;
    char asked[4096];
    auto [lost, n] = co_await socket.async_read_some(asio::buffer(asked), use_tuple);
    if (!lost) co_await asio::async_write(socket, asio::buffer(bytes.data(), bytes.size()), use_tuple);
    boost::system::error_code ignored;
    socket.shutdown(tcp::socket::shutdown_send, ignored);
    // Its end of the connection, so that nothing unread turns into a reset.
    while (!lost) std::tie(lost, n) = co_await socket.async_read_some(asio::buffer(asked), use_tuple);
  }
}

awaitable<void> answer_as_daemon(tcp::acceptor& acceptor, std::string_view bytes) {
  const LinkSelf self{"lab", "n2", nullptr};
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(use_tuple);
    if (error) co_return;
    Link link(std::move(socket));
    if (!co_await link.accept_hello(self, kLimit)) continue;
    while (co_await link.receive(kLimit)) {
      const auto* const first = reinterpret_cast<const unsigned char*>(bytes.data());
      if (!co_await link.send_bytes(protocol::Kind::kResponse, first, bytes.size(), kLimit)) break;
    }
  }
}

awaitable<void> ask_all(Registry& registry) {
  const auto entry = co_await registry.get("container/a");
  fuzz::require_good(entry);
  if (entry && *entry) fuzz::require((*entry)->key == "container/a", "the entry is that of the key");
  SwapRequest request;
  request.key = "container/a";
  request.value = "value";
  const auto swapped = co_await registry.try_swap(std::move(request));
  fuzz::require_good(swapped);
  if (swapped) {
    fuzz::require(!swapped->found || swapped->found->key == "container/a", "what is found is that of the key");
  }
  const auto list = co_await registry.list("container/");
  fuzz::require_good(list);
  if (list) {
    std::string last;
    for (const Entry& one : *list) {
      fuzz::require(one.key.starts_with("container/") && one.key > last, "a list is in order");
      last = one.key;
    }
  }
  fuzz::require_good(co_await registry.grant(kLimit));
  fuzz::require_good(co_await registry.keep_alive(7));
  fuzz::require_good(co_await registry.revoke(7));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool etcd = data[0] % 2 == 0;
  const std::string_view bytes = fuzz::text(data + 1, size - 1);
  asio::io_context io(1);
  tcp::acceptor acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const std::uint16_t port = acceptor.local_endpoint().port();
  std::unique_ptr<Registry> registry;
  if (etcd) {
    EtcdHttp::Settings settings;
    settings.endpoints = {{"127.0.0.1", std::to_string(port), false}};
    settings.timeout = kLimit;
    auto http = EtcdHttp::create(io.get_executor(), std::move(settings));
    fuzz::require(http.has_value(), "a client is made");
    registry = std::make_unique<EtcdRegistry>(io.get_executor(), std::move(*http), "lab/");
    asio::co_spawn(io, answer_as_etcd(acceptor, bytes), asio::detached);
  } else {
    RemoteRegistry::Settings settings;
    settings.addresses = {{"1g", "127.0.0.1"}};
    settings.port = port;
    settings.node = "n2";
    settings.self = {"lab", "n1", nullptr};
    settings.timeout = kLimit;
    registry = std::make_unique<RemoteRegistry>(io.get_executor(), settings);
    asio::co_spawn(io, answer_as_daemon(acceptor, bytes), asio::detached);
  }
  asio::co_spawn(io, ask_all(*registry), [&io](std::exception_ptr thrown) {
    io.stop();
    if (thrown) std::rethrow_exception(thrown);
  });
  io.run();
  return 0;
}
