#include "migration/drain.hpp"

#include "base/blocking.hpp"
#include "base/log.hpp"
#include "events.hpp"
#include "migration/memory_source.hpp"
#include "migration/outcome.hpp"
#include "migration/page_connections.hpp"

namespace lifeboat {

namespace {

constexpr Milliseconds kLook{5};
constexpr Milliseconds kPause{100};
constexpr Milliseconds kRetry{500};

// A server on new connections, over the first fabric that works. kNotFound when the target wants no
// pages any more.
awaitable<Result<std::unique_ptr<PageServer>>> connect_again(
    Node& node, std::shared_ptr<Container> container, std::shared_ptr<MigrationReport> report) {
  const NodeConfig* target = node.config().find_node(report->target);
  if (target == nullptr) {
    co_return fail(Errc::kUnavailable, "node " + report->target + " is not configured any more");
  }
  Error last(Errc::kUnavailable, "node " + report->target + " has no address");
  for (const auto& [fabric, address] : target->addresses) {
    auto links = co_await connect_for_pages(node, node.peer_address(report->target, address), true);
    if (!links) {
      last = links.error();
      continue;
    }
    auto opened = co_await open_page_connections(node, std::move(*links), report->id, true);
    if (!opened) {
      last = opened.error();
      if (last.code == Errc::kNotFound) break;
      continue;
    }
    MemoryOptions options;
    options.compression = node.config().engine.compression;
    options.timeout_s = static_cast<int>(node.config().timeouts.idle.count() / 1000 + 1);
    MemorySource memory(container->cgroup(), std::move(opened->shards), options, report->progress);
    CO_TRY(const std::vector<OwnedMappings> owned, memory.note_owned());
    if (owned.empty()) co_return fail(Errc::kSystem, "its frozen processes are gone");
    co_return memory.serve_rest(std::move(opened->urgent));
  }
  co_return tl::unexpected<Error>(last);
}

// Returns a new server; null when there is nothing to serve any more.
awaitable<std::unique_ptr<PageServer>> reconnect(Node& node, std::shared_ptr<Container> container,
                                                 std::shared_ptr<MigrationReport> report) {
  for (;;) {
    auto server = co_await errors_of(connect_again(node, container, report), "serve its pages");
    if (server) co_return std::move(*server);
    if (server.error().code == Errc::kNotFound) co_return nullptr;
    if (container->cgroup().pids().empty()) co_return nullptr;
    co_await sleep_for(kRetry);
  }
}

// The copy waits for pages that no longer exist.
awaitable<void> end_copy(Node& node, std::shared_ptr<Container> container,
                         std::shared_ptr<MigrationReport> report, std::string reason) {
  report->error = reason + "; the container was ended";
  log::error(events::kContainerDestroyed, "pages of a container are lost, it is ended",
             {{"container", container->spec().id}, {"node", report->target}, {"reason", reason}});
  json::object params{{"id", container->spec().id}, {"lost", reason}};
  auto ended = co_await ask_node(node, report->target, "container.remove", std::move(params));
  if (!ended) {
    log::error("it could not be ended", {{"node", report->target}, {"reason", ended.error().message}});
  }
}

}  // namespace

awaitable<void> drain(Node& node, std::shared_ptr<Container> container,
                      std::shared_ptr<MigrationReport> report, std::unique_ptr<PageServer> server) {
  for (;;) {
    report->enter(server ? "draining" : "paused");
    if (!server) {
      server = co_await reconnect(node, container, report);
      if (!server) co_return;
      log::info("pages flow again", {{"migration", report->id}});
      continue;
    }
    while (!server->finished()) co_await sleep_for(kLook);
    report->memory.pages_wanted += server->wanted_pages();
    report->bytes_sent += server->bytes_on_wire();
    const Status result = server->result();
    server.reset();
    if (result) co_return;
    if (result.error().code == Errc::kSystem) {
      co_await end_copy(node, container, report, result.error().message);
      co_return;
    }
    log::warn("the container that runs elsewhere pauses where it needs pages from here",
              {{"migration", report->id},
               {"container", container->spec().id},
               {"node", report->target},
               {"reason", result.error().message}});
    co_await sleep_for(kPause);  // a pager that is ending takes connections for a moment longer
  }
}

awaitable<void> finish_draining(Node& node, std::shared_ptr<Container> container) {
  // CRIU, which ends by itself without its daemon, must have let go.
  while (container->init().running() && is_traced(container->init().pid())) {
    co_await sleep_for(Milliseconds(20));
  }
  auto report = std::make_shared<MigrationReport>();
  report->id = container->migration();
  report->container = container->spec().id;
  report->target = container->migration_peer();
  co_await drain(node, container, report, nullptr);
  report->source = node.name();
  report->enter(to_string(Outcome::kCommitted));
  node.journal().end(journal_entry(*report));
  node.remove(container->spec().id);
  container->destroy();
}

}  // namespace lifeboat
