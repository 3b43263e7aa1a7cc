// The first phase of a migration, at the source: every check that can be made before anything is
// touched, and the connections.
#include "base/file.hpp"
#include "migration/phase.hpp"

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
  auto sockets = tcp_sockets(move.container->init().pid());
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

// The page connections, each taken over by the target's pager.
awaitable<Result<std::unique_ptr<MemorySource>>> open_memory(Node& node, const Move& move,
                                                             std::string address) {
  const Config& config = node.config();
  std::vector<Fd> connections;
  for (int shard = 0; shard < config.engine.connections; ++shard) {
    CO_TRY(Link link, co_await Link::connect(address, config.peer_port, node.peer_name(),
                                             config.timeouts.connect));
    json::object pages{{"migration", move.report->id},
                       {"shard", shard},
                       {"shards", config.engine.connections}};
    CO_CHECK_OK(co_await link.send(Kind::kPages, std::move(pages), config.timeouts.request));
    CO_CHECK_OK(co_await link.expect(Kind::kResponse, config.timeouts.request));
    Fd fd = std::move(link).release();
    if (!fd) co_return fail(Errc::kUnavailable, "a page connection was closed at once");
    connections.push_back(std::move(fd));
  }
  MemoryOptions options;
  options.bytes_per_s = move.bytes_per_s;
  options.timeout_s = static_cast<int>(config.timeouts.idle.count() / 1000 + 1);
  co_return std::make_unique<MemorySource>(move.container->cgroup(), std::move(connections), options,
                                           move.report->progress);
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
  const double criu_ms = move.report->mode == MigrationMode::kStopAndCopy ? 1300 * bytes / 1e9 : 0;
  return wire_ms + criu_ms + kFixedMs;
}

awaitable<Result<Connected>> connect(Node& node, Move move) {
  move.report->phase = "connect";
  CO_CHECK_OK(co_await wait_until_filled(move, node.config().timeouts.idle));
  CO_CHECK_OK(check_compatible(node.facts(), node.facts()));  // is there a working CRIU here?
  CO_CHECK_OK(check_user(move.container->init_uid()));
  CO_CHECK_OK(check_sources(move.container->spec()));
  CO_CHECK_OK(check_sockets(move, node));
  std::unique_ptr<LayerSender> layer;
  if (move.container->layer()) {
    CO_TRY(layer, co_await LayerSender::open(*move.container));
  }
  const Config& config = node.config();
  const std::string address = config.find_node(move.target)->addresses.at(move.fabric);
  auto link = co_await Link::connect(address, config.peer_port, node.peer_name(),
                                     config.timeouts.connect);
  if (!link) {
    co_return tl::unexpected<Error>(
        link.error().context("node " + move.target + " on fabric " + move.fabric));
  }
  json::object offer{{"migration", move.report->id},
                     {"source", node.name()},
                     {"spec", to_json(move.container->spec())},
                     {"resident_bytes", move.container->resident_bytes()},
                     {"layer_bytes", layer ? layer->bytes() : 0},
                     {"pages", move.report->mode == MigrationMode::kPreCopy},
                     {"facts", to_json(node.facts())}};
  CO_CHECK_OK(co_await link->send(Kind::kOffer, std::move(offer), config.timeouts.request));
  auto accepted = co_await link->expect(Kind::kAccepted, config.timeouts.request);
  if (!accepted) {
    co_return tl::unexpected<Error>(accepted.error().context("node " + move.target));
  }
  std::unique_ptr<MemorySource> memory;
  if (move.report->mode == MigrationMode::kPreCopy) {
    auto opened = co_await open_memory(node, move, address);
    if (!opened) {
      co_return tl::unexpected<Error>(opened.error().context("page connection to " + move.target));
    }
    memory = std::move(*opened);
  }
  Connected connected{std::move(move), std::move(*link), std::move(memory), std::move(layer)};
  co_return connected;
}

}  // namespace lifeboat
