#include "migration/page_connections.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

awaitable<Result<Fd>> open_one(const Node& node, std::string address, json::object pages) {
  const Config& config = node.config();
  CO_TRY(Link link, co_await Link::connect(address, config.peer_port, node.peer_name(),
                                           config.timeouts.connect));
  CO_CHECK_OK(co_await link.send(Kind::kPages, std::move(pages), config.timeouts.request));
  CO_CHECK_OK(co_await link.expect(Kind::kResponse, config.timeouts.request));
  Fd fd = std::move(link).release();
  if (!fd) co_return fail(Errc::kUnavailable, "a page connection was closed at once");
  co_return fd;
}

}  // namespace

awaitable<Result<OpenedConnections>> open_page_connections(const Node& node, std::string address,
                                                           std::string migration, bool urgent) {
  OpenedConnections opened;
  const int shards = node.config().engine.connections;
  for (int shard = 0; shard < shards; ++shard) {
    json::object pages{{"migration", migration}, {"shard", shard}, {"shards", shards}};
    CO_TRY(Fd fd, co_await open_one(node, address, std::move(pages)));
    opened.shards.push_back(std::move(fd));
  }
  if (urgent) {
    json::object pages{{"migration", migration}, {"urgent", true}};
    CO_TRY(opened.urgent, co_await open_one(node, address, std::move(pages)));
  }
  co_return opened;
}

}  // namespace lifeboat
