#include "migration/page_connections.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

constexpr Milliseconds kLook{1};

// Between the threads that will use it this would happen by itself, but then while the container is frozen
// in a mode without rounds.
awaitable<Status> shake_hands(PageSocket& socket, Milliseconds limit) {
  const auto deadline = SteadyClock::now() + limit;
  for (;;) {
    CO_TRY(const bool complete, socket.try_handshake());
    if (complete) co_return Status{};
    if (SteadyClock::now() > deadline) co_return fail(Errc::kTimeout, "its encryption does not begin");
    co_await sleep_for(kLook);
  }
}

awaitable<Result<PageSocket>> open_one(const Node& node, Link link, json::object pages) {
  const Config& config = node.config();
  const bool encrypted = node.credentials() && config.security.encrypt_pages;
  pages["encrypted"] = encrypted;
  CO_CHECK_OK(co_await link.send(Kind::kPages, std::move(pages), config.timeouts.request));
  CO_CHECK_OK(co_await link.expect(Kind::kResponse, config.timeouts.request));
  PageKey key{};
  if (encrypted) {
    CO_TRY(key, link.export_key(kPageKeyLabel));
  }
  Fd fd = std::move(link).release();
  if (!fd) co_return fail(Errc::kUnavailable, "a page connection was closed at once");
  if (!encrypted) co_return PageSocket(std::move(fd));
  CO_TRY(PageSocket socket, PageSocket::encrypted(std::move(fd), PageSocket::End::kSource, key));
  CO_CHECK_OK(co_await shake_hands(socket, config.timeouts.connect));
  co_return socket;
}

}  // namespace

awaitable<Result<std::vector<Link>>> connect_for_pages(const Node& node, PeerAddress to, bool urgent) {
  const int count = node.config().engine.connections + (urgent ? 1 : 0);
  std::vector<Link> links;
  for (int i = 0; i < count; ++i) {
    CO_TRY(Link link, co_await Link::connect(to, node.link_self(), node.config().timeouts.connect));
    links.push_back(std::move(link));
  }
  co_return links;
}

awaitable<Result<OpenedConnections>> open_page_connections(const Node& node, std::vector<Link> links,
                                                           std::string migration, bool urgent) {
  OpenedConnections opened;
  const std::size_t shards = links.size() - (urgent ? 1 : 0);
  for (std::size_t shard = 0; shard < shards; ++shard) {
    json::object pages{{"migration", migration}, {"shard", shard}, {"shards", shards}};
    CO_TRY(PageSocket socket, co_await open_one(node, std::move(links[shard]), std::move(pages)));
    opened.shards.push_back(std::move(socket));
  }
  if (urgent) {
    json::object pages{{"migration", migration}, {"urgent", true}};
    CO_TRY(opened.urgent, co_await open_one(node, std::move(links.back()), std::move(pages)));
  }
  co_return opened;
}

}  // namespace lifeboat
