#include "migration/outcome.hpp"

#include "base/log.hpp"
#include "criu_glue/repair.hpp"

namespace lifeboat {

using protocol::Kind;

awaitable<Outcome> ask_outcome(Node& node, const std::string& target, const std::string& migration,
                               std::size_t attempts_max) {
  const Config& config = node.config();
  const NodeConfig* peer = config.find_node(target);
  // A node that is no longer configured may still run the container: then only a person, or a
  // configuration that names it again, ends the doubt.
  const std::map<std::string, std::string> nowhere;
  for (std::size_t attempt = 0; attempt < attempts_max; ++attempt) {
    for (const auto& [fabric, address] : peer != nullptr ? peer->addresses : nowhere) {
      auto link = co_await Link::connect(address, config.peer_port, node.peer_name(),
                                         config.timeouts.connect);
      if (!link) continue;
      json::object request{{"method", "migration.outcome"}, {"params", json::object{{"id", migration}}}};
      auto sent = co_await link->send(Kind::kRequest, std::move(request), config.timeouts.request);
      if (!sent) continue;
      auto answer = co_await link->expect(Kind::kResponse, config.timeouts.request);
      const std::string outcome = answer ? string_or(*answer, "outcome") : "";
      if (outcome == to_string(Outcome::kCommitted)) co_return Outcome::kCommitted;
      if (outcome == to_string(Outcome::kAborted)) co_return Outcome::kAborted;
    }
    if (attempt == 0) {
      log::warn("the target has not said how the migration ended; asking on",
                {{"migration", migration}, {"target", target}});
    }
    co_await sleep_for(Milliseconds(attempt < 10 ? 200 : 2000));
  }
  co_return Outcome::kInDoubt;
}

awaitable<void> resume_left_over(std::shared_ptr<Container> container) {
  // CRIU thaws and freezes the cgroup by itself while it works: acting before it is done would be
  // undone.
  while (container->init().running() && is_traced(container->init().pid())) {
    co_await sleep_for(Milliseconds(20));
  }
  (void)end_repair_mode(container->cgroup().pids());
  (void)container->net().settle_mtu();
  (void)container->net().plug();
  (void)container->cgroup().thaw();
  (void)container->net().announce();
  (void)container->set_state(ContainerState::kRunning);
  log::info("container goes on after an interrupted migration",
            {{"container", container->spec().id}});
}

awaitable<void> resolve(Node& node, std::shared_ptr<Container> container) {
  const Outcome outcome =
      co_await ask_outcome(node, container->migration_peer(), container->migration());
  log::info("in-doubt migration resolved", {{"migration", container->migration()},
                                            {"container", container->spec().id},
                                            {"outcome", to_string(outcome)}});
  if (outcome == Outcome::kCommitted) {
    node.remove(container->spec().id);
    container->destroy();
    co_return;
  }
  co_await resume_left_over(container);
}

}  // namespace lifeboat
