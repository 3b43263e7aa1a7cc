// The first phase of a migration, at the source: every check that can be made before anything is
// touched, and the connections.
#include <boost/asio/experimental/awaitable_operators.hpp>

#include "base/file.hpp"
#include "migration/page_connections.hpp"
#include "migration/phase.hpp"
#include "preflight_memory.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

std::string seconds_text(double ms) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", ms / 1000);
  return text;
}

// Connections that would not survive the freeze: their own timers would end them.
Status check_sockets(const Move& move, const Node& node) {
  auto sockets = move.container->net().tcp_sockets();
  if (!sockets) return {};
  const double downtime = predicted_downtime_ms(move, node);
  std::erase_if(*sockets, [&](const TcpSocket& socket) {
    return static_cast<double>(socket.expires.count()) > downtime;
  });
  const auto risks = keepalive_risks(*sockets);
  if (risks.empty()) return {};
  return fail(Errc::kRefused,
              "about " + seconds_text(downtime) +
                  " of downtime would outlast the keepalive timer of " +
                  std::to_string(risks.size()) + " connection(s), first " + risks.front() +
                  "; start the job with keepalive off (lifeboat run does) or use a faster fabric");
}

// `links`: those that were made meanwhile.
awaitable<Status> open_memory(Node& node, Connected& connected, std::vector<Link> links, PeerAddress target) {
  const Move& move = connected.move;
  const bool urgent = is_post_copy(move.report->mode);
  if (links.empty()) {
    CO_TRY(links, co_await connect_for_pages(node, std::move(target), urgent));
  }
  CO_TRY(OpenedConnections opened, co_await open_page_connections(node, std::move(links), move.report->id, urgent));
  MemoryOptions options;
  options.bytes_per_s = move.bytes_per_s;
  options.tracking = node.config().engine.tracking;
  options.compression = node.config().engine.compression;
  options.timeout_s = static_cast<int>(node.config().timeouts.idle.count() / 1000 + 1);
  connected.memory = std::make_unique<MemorySource>(
      move.container->cgroup(), std::move(opened.shards), options, move.report->progress);
  connected.urgent = std::move(opened.urgent);
  co_return Status{};
}

// A container that has just arrived must have all its memory before it can be taken away again.
awaitable<Status> wait_until_filled(const Move& move, Milliseconds limit) {
  const auto deadline = SteadyClock::now() + limit;
  while (move.container->filling()) {
    CO_CHECK_OK(move.report->cancellation.check());
    if (SteadyClock::now() > deadline) {
      co_return fail(Errc::kTimeout, "its memory has not fully arrived yet from its last migration");
    }
    co_await sleep_for(Milliseconds(2));
  }
  co_return Status{};
}

}  // namespace

// What the freeze of this migration will take, roughly and rather too much.
double predicted_downtime_ms(const Move& move, const Node& node) {
  const auto bytes = static_cast<double>(move.container->resident_bytes());
  const FabricConfig* fabric = node.config().find_fabric(move.fabric);
  // With pre-copy, in the worst case: all of it is dirty in the end, and is sent once more.
  const double wire_ms = bytes * 8 / static_cast<double>(fabric->rate_bits_per_s) * 1000;
  constexpr double kFixedMs = 100;
  const double criu_ms = move.report->mode == MigrationMode::kCriuImages ? 1300 * bytes / 1e9 : 0;
  return (is_post_copy(move.report->mode) ? 0 : wire_ms) + criu_ms + kFixedMs;
}

awaitable<Result<Connected>> connect(Node& node, Move move) {
  using namespace asio::experimental::awaitable_operators;
  move.report->enter("connect");
  CO_CHECK_OK(co_await wait_until_filled(move, node.config().timeouts.idle));
  CO_CHECK_OK(check_compatible(node.facts(), node.facts()));  // is there a working CRIU here?
  CO_CHECK_OK(check_user(node.facts(), move.container->init_uid()));
  CO_CHECK_OK(check_memory_use(move.container->cgroup().pids()));
  CO_CHECK_OK(check_sources(move.container->spec()));
  CO_CHECK_OK(check_sockets(move, node));
  CO_TRY(std::unique_ptr<LayerSender> layers, co_await LayerSender::open(*move.container));
  const Config& config = node.config();
  const PeerAddress address =
      node.peer_address(move.target, config.find_node(move.target)->addresses.at(move.fabric));
  auto link = co_await Link::connect(address, node.link_self(), config.timeouts.connect);
  if (!link) {
    co_return tl::unexpected<Error>(
        link.error().context("node " + move.target + " on fabric " + move.fabric));
  }
  const bool with_pages = move.report->mode != MigrationMode::kCriuImages;
  json::object offer{{"migration", move.report->id},
                     {"source", node.name()},
                     {"spec", to_json(move.container->spec())},
                     {"resident_bytes", move.container->resident_bytes()},
                     {"tmpfs", to_json(layers->tmpfs())},
                     {"layer_bytes", layers->upper_bytes()},
                     {"tmpfs_bytes", layers->tmpfs_bytes()},
                     {"anonymous", layers->anonymous_max()},
                     {"pages", with_pages},
                     {"post_copy", is_post_copy(move.report->mode)},
                     {"facts", to_json(node.facts())}};
  CO_CHECK_OK(co_await link->send(Kind::kOffer, std::move(offer), config.timeouts.request));
  // The target takes longer for its part than the connections for theirs. For one that was busy they wait until it is not.
  const bool at_once = with_pages && !move.asked_before;
  const auto connect_meanwhile = [&]() -> awaitable<Result<std::vector<Link>>> {
    if (!at_once) co_return std::vector<Link>{};
    co_return co_await connect_for_pages(node, address, is_post_copy(move.report->mode));
  };
  auto [accepted, links] = co_await (errors_of(link->expect(Kind::kAccepted, config.timeouts.request), "offer") &&
                                       errors_of(connect_meanwhile(), "connect"));
  if (!accepted) {
    co_return tl::unexpected<Error>(accepted.error().context("node " + move.target));
  }
  std::string busy = string_or(*accepted, "busy");
  if (!busy.empty()) {
    move.report->target_busy = true;
    co_return fail(Errc::kConflict, std::move(busy));
  }
  const std::string target = move.target;
  Connected connected(std::move(move), std::move(*link));
  if (with_pages) {
    Status opened;
    if (links) opened = co_await open_memory(node, connected, std::move(*links), address);
    if (!links) opened = tl::unexpected<Error>(links.error());
    if (!opened) {
      co_return tl::unexpected<Error>(opened.error().context("page connection to " + target));
    }
  }
  WireUse use;
  use.fabric = connected.move.fabric;
  use.fabric_bytes_per_s = config.find_fabric(use.fabric)->rate_bits_per_s / 8;
  use.limit_bytes_per_s = connected.move.bytes_per_s;
  std::function<void(std::uint64_t)> set_limit;
  if (connected.memory) {
    set_limit = [pages = connected.memory.get()](std::uint64_t rate) { pages->limit(rate); };
  }
  connected.stream = node.wire().join(std::move(use), std::move(set_limit));
  // CRIU is told of it by a library that it has only where it leaves pages to us.
  if (connected.memory) layers->carry_shared_memory();
  connected.layers = std::move(layers);
  connected.images = std::make_unique<ImageSender>(connected.move.container->resident_bytes());
  co_return connected;
}

}  // namespace lifeboat
