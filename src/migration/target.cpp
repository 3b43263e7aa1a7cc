#include "migration/target.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "base/log.hpp"
#include "criu_glue/cgroup_image.hpp"
#include "criu_glue/checkpoint.hpp"
#include "criu_glue/images.hpp"
#include "criu_glue/pager.hpp"
#include "criu_glue/timer_image.hpp"
#include "events.hpp"
#include "migration/arrival_memory.hpp"
#include "migration/decide.hpp"
#include "migration/hold_link.hpp"
#include "migration/network_state.hpp"
#include "migration/page_connections.hpp"
#include "migration/receive.hpp"
#include "registry/presence.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

// Which step of the target failed: told to the source.
struct StepError {
  StepError(std::string s, Error e) : step(std::move(s)), error(std::move(e)) {}
  std::string step;
  Error error;
};

// Not a failure: there will be a place for it later.
constexpr const char* kBusyStep = "busy";

template <class T>
using StepResult = tl::expected<T, StepError>;

tl::unexpected<StepError> failed_at(const char* step, Error error) {
  return tl::unexpected<StepError>(StepError(step, std::move(error)));
}

// A container on its way here. Dropped before a commit was tried, it leaves nothing behind.
class Arrival {
 public:
  Arrival(Node& node, std::string migration, std::shared_ptr<Container> container)
      : node_(&node), migration_(std::move(migration)), container_(std::move(container)) {}
  Arrival(Arrival&& other) noexcept = default;
  ~Arrival() {
    if (!container_) return;
    // The record first: this is what the source is told from here on, whatever happens.
    (void)node_->record_outcome(migration_, Outcome::kAborted);
    node_->remove(container_->spec().id);
    container_->destroy();
  }
  [[nodiscard]] const std::shared_ptr<Container>& container() const { return container_; }
  std::shared_ptr<Container> release() { return std::exchange(container_, nullptr); }

 private:
  Node* node_;
  std::string migration_;
  std::shared_ptr<Container> container_;
};

// The pager of an arrival, known to the node while page connections may come for it.
class ArrivingPager {
 public:
  ArrivingPager(Node& node, std::string migration, std::shared_ptr<PagerClient> client)
      : node_(&node), migration_(std::move(migration)), client_(std::move(client)) {
    node_->add_pager(migration_, client_);
  }
  ArrivingPager(ArrivingPager&& other) noexcept = default;
  ~ArrivingPager() {
    if (!client_) return;
    node_->remove_pager(migration_);
    // Not released: nothing was committed.
    client_->process().kill_and_reap();
  }
  [[nodiscard]] const std::shared_ptr<PagerClient>& shared() const { return client_; }
  std::shared_ptr<PagerClient> release() {
    node_->remove_pager(migration_);
    return std::exchange(client_, nullptr);
  }

 private:
  Node* node_;
  std::string migration_;
  std::shared_ptr<PagerClient> client_;
};

// Dropped in reverse order: restored tasks end before their pager, both before the container.
struct Prepared {
  std::string migration;
  std::string source;
  Arrival arrival;
  std::unique_ptr<ImageDirectory> images;
  std::uint64_t image_bytes_max;
  bool post_copy;                      // pages come after the commit, too
  MemoryAccount::Reservation memory;  // promised before the offer is accepted
  std::optional<ArrivingPager> pager;  // when memory does not come in CRIU's images
  std::unique_ptr<PreparedRestore> criu;
  std::unique_ptr<LayerReceiver> layers;
  std::shared_ptr<decision::Target> machine;
  Node::DecisionHold hold;  // others find the machine as long as this lives
  HeldFrames held = {};
  std::size_t delivered = 0;  // of these
};

struct Restored {
  Prepared prepared;
  HeldRestore held;
  NetworkState network;  // at the moment of the freeze
  OwnerRecord right;     // to commit
  double restore_ms;
};

// What a source says of the container that it wants to send.
struct Offer {
  std::string migration;
  std::string source;
  std::uint64_t memory_bytes = 0;  // of its processes and tmpfs mounts
  std::uint64_t layer_bytes = 0;
  std::vector<TmpfsMount> tmpfs;
  std::size_t anonymous = 0;  // files of such memory
  NodeFacts facts;
  ContainerSpec spec;
  bool pages = false;      // memory comes by page connections
  bool post_copy = false;  // some of it after the commit
};

Result<Offer> offer_from(const json::object& body) {
  Offer offer;
  TRY(offer.migration, get_string(body, "migration"));
  TRY(offer.source, get_string(body, "source"));
  TRY(const std::uint64_t resident, get_u64(body, "resident_bytes"));
  TRY(const json::object* facts, get_object(body, "facts"));
  TRY(offer.facts, node_facts_from(*facts));
  TRY(const json::object* spec, get_object(body, "spec"));
  TRY(offer.spec, container_spec_from(*spec));
  TRY(const json::array* tmpfs, get_array(body, "tmpfs"));
  TRY(offer.tmpfs, tmpfs_mounts_from(*tmpfs));
  TRY(const std::uint64_t tmpfs_bytes, get_u64(body, "tmpfs_bytes"));
  TRY(offer.layer_bytes, get_u64(body, "layer_bytes"));
  TRY(offer.anonymous, get_u64(body, "anonymous"));
  if (offer.anonymous > kAnonymousFilesMax) {
    return fail(Errc::kProtocol, "an offer of more anonymous memory than is carried");
  }
  constexpr std::uint64_t kBytesMax = 1ULL << 50;
  if (resident > kBytesMax || tmpfs_bytes > kBytesMax || offer.layer_bytes > kBytesMax) {
    return fail(Errc::kProtocol, "an offer of more memory or files than any machine has");
  }
  offer.memory_bytes = resident + tmpfs_bytes;
  offer.pages = flag(body, "pages");
  offer.post_copy = flag(body, "post_copy");
  return offer;
}

StepResult<Prepared> prepare(Node& node, Offer offer) {
  const char* const step = "preflight";
  if (auto ok = check_compatible(offer.facts, node.facts()); !ok) return failed_at(step, ok.error());
  if (auto ok = node.health().check_arrival(); !ok) return failed_at(step, ok.error());
  if (std::string why = node.why_wait(offer.migration, offer.spec); !why.empty()) {
    return failed_at(kBusyStep, Error(Errc::kConflict, std::move(why)));
  }
  if (auto ok = node.check_room(offer.spec, Incoming::kArriving); !ok) return failed_at(step, ok.error());
  const ArrivalMemory needed = arrival_memory(offer.memory_bytes, offer.pages);
  auto memory = node.arriving_memory().reserve(needed.reserved, memory_available_bytes());
  if (!memory) {
    const bool later = memory.error().code == Errc::kConflict;
    return failed_at(later ? kBusyStep : step, memory.error());
  }
  auto container = Container::prepare(std::move(offer.spec), node.config());
  if (!container) return failed_at(step, container.error());
  std::shared_ptr<Container> shared = std::move(*container);
  if (auto ok = shared->set_state(ContainerState::kArriving, offer.migration, offer.source); !ok) {
    return failed_at(step, ok.error());
  }
  auto images = ImageDirectory::create(node.config().paths.run_dir + "/images", offer.migration);
  if (!images) return failed_at(step, images.error());
  auto layers = LayerReceiver::open(*shared, std::move(offer.tmpfs), offer.layer_bytes, offer.anonymous);
  if (!layers) return failed_at(step, layers.error());
  if (auto ok = node.record_outcome(offer.migration, Outcome::kRunning); !ok) {
    return failed_at(step, ok.error());
  }
  node.add(shared);
  auto machine = std::make_shared<decision::Target>();
  return Prepared{offer.migration, offer.source, Arrival(node, offer.migration, shared),
                  std::make_unique<ImageDirectory>(std::move(*images)),
                  needed.received_max,
                  offer.post_copy,
                  std::move(*memory),
                  std::nullopt,
                  nullptr,
                  std::move(*layers),
                  machine,
                  node.hold_decision(offer.migration, {nullptr, machine})};
}

RestoreRequest restore_request(const Node& node, const Prepared& prepared,
                               std::vector<ExternalMount> mounts) {
  Container& container = *prepared.arrival.container();
  RestoreRequest request;
  request.paths.criu = node.config().paths.criu;
  request.paths.images = prepared.images->path();
  request.paths.log = container.directory() + "/restore.log";
  request.netns_fd = container.net().netns_fd();
  request.cgroup = container.cgroup().path();
  request.root = container.directory() + "/root";
  request.limit = node.config().timeouts.restore;
  request.mounts = std::move(mounts);
  for (const NewMount& mount : prepared.layers->mounts()) {
    request.new_mounts.emplace_back(mount.source, mount.root.get());
  }
  request.files = prepared.layers->memory();
  if (container.layer()) request.overlay = container.layer()->overlay(request.root);
  return request;
}

awaitable<Status> start_pager(Node& node, Prepared& prepared, bool wanted) {
  if (!wanted) co_return Status{};
  const std::shared_ptr<Container>& container = prepared.arrival.container();
  PagerOptions options;
  options.program = node.libexec() + "/lifeboat-pager";
  options.lazy_socket = container->directory() + "/lazy-pages.socket";
  options.control_socket = container->pager_socket();
  options.cgroup = container->cgroup().path();
  options.bytes_max = prepared.image_bytes_max;
  CO_TRY(PagerClient client, co_await PagerClient::start(std::move(options)));
  prepared.pager.emplace(node, prepared.migration, std::make_shared<PagerClient>(std::move(client)));
  co_return Status{};
}

// CRIU starts and looks at the kernel; one that does not work is found before anything is sent.
awaitable<Status> start_criu(Node& node, Prepared& prepared) {
  CO_TRY(std::vector<ExternalMount> mounts, external_mounts(prepared.arrival.container()->spec()));
  RestoreRequest request = restore_request(node, prepared, std::move(mounts));
  CO_TRY(PreparedRestore criu, co_await PreparedRestore::prepare(std::move(request)));
  prepared.criu = std::make_unique<PreparedRestore>(std::move(criu));
  co_return Status{};
}

// The right to commit, as the source gives it with the end of the images.
Result<OwnerRecord> right_from(const json::object& end, const Node& node, const Prepared& prepared) {
  TRY(const json::object* object, get_object(end, "right"));
  TRY(OwnerRecord right, owner_record_from(*object));
  const Ownership& owned = right.ownership;
  const bool fits = owned.container == prepared.arrival.container()->spec().id && owned.owner == prepared.source &&
                    owned.migration && owned.migration->id == prepared.migration &&
                    owned.migration->target == node.name();
  if (!fits) return fail(Errc::kProtocol, "the right to commit is not this migration's");
  return right;
}

// Should this daemon die from here on, the next one finds the processes by this record, and by the
// registry whether they are to run.
Status mark_restored(const Prepared& prepared, const HeldRestore& held, const OwnerRecord& right) {
  Container& container = *prepared.arrival.container();
  CHECK_OK(container.net().settle_mtu());
  TRY(Process found, Process::open(held.init_pid()));
  container.set_init(std::move(found));
  container.set_epoch(right.ownership.epoch);
  return container.set_state(ContainerState::kArriving, prepared.migration, prepared.source);
}

awaitable<StepResult<Restored>> restore(Node& node, Prepared prepared, Link& link) {
  ReceiveRequest request;
  request.images = prepared.images->path();
  request.bytes_max = prepared.image_bytes_max;
  request.held = &prepared.held;
  if (prepared.pager) request.pager = prepared.pager->shared();
  request.layers = prepared.layers.get();
  auto end = co_await receive_images(node.config(), std::move(request), link);
  const auto start = SteadyClock::now();
  if (!end) co_return failed_at("transfer", end.error());
  auto network = network_state_from(*end);
  if (!network) co_return failed_at("transfer", network.error());
  auto right = right_from(*end, node, prepared);
  if (!right) co_return failed_at("transfer", right.error());
  ContainerNet& net = prepared.arrival.container()->net();
  if (auto learned = net.learn(network->neighbours); !learned) {
    log::warn("the container must ask for its neighbours again",
              {{"container", prepared.arrival.container()->spec().id},
               {"reason", learned.error().message}});
  }
  if (auto ok = rearm_timers(prepared.images->path()); !ok) co_return failed_at("restore", ok.error());
  if (auto ok = leave_cgroups_out(prepared.images->path()); !ok) co_return failed_at("restore", ok.error());
  const RestoreMemory memory =
      prepared.pager ? RestoreMemory::kPager : RestoreMemory::kImages;
  // In post-copy the source: its pages are needed until the copy is held; after that the decision waits for it.
  const auto needed = std::make_shared<const Link*>(prepared.post_copy ? &link : nullptr);
  std::function<Status()> pager_lives;
  if (prepared.pager) {
    pager_lives = [pager = prepared.pager->shared(), needed]() -> Status {
      if (!pager->process().running()) return fail(Errc::kUnavailable, "the pager has ended; see pager.log");
      if (*needed == nullptr || !(*needed)->closed_by_peer()) return {};
      return fail(Errc::kUnavailable, "the source closed the connection, and with it its pages are gone");
    };
  }
  auto held = co_await std::move(*prepared.criu).start(memory, prepared.layers->given(), pager_lives);
  // Its guard ends CRIU, too, which then says nothing of the cause.
  if (!held && pager_lives) {
    if (auto lives = pager_lives(); !lives) co_return failed_at("restore", lives.error());
  }
  *needed = nullptr;
  if (!held) co_return failed_at("restore", held.error());
  if (auto ok = check_connections(*network, net); !ok) co_return failed_at("restore", ok.error());
  if (auto ok = co_await prepared.layers->settle(); !ok) co_return failed_at("restore", ok.error());
  if (auto ok = mark_restored(prepared, *held, *right); !ok) co_return failed_at("restore", ok.error());
  Restored restored{std::move(prepared), std::move(*held), std::move(*network), std::move(*right),
                    elapsed_ms(start)};
  co_return restored;
}

// Takes the pager's exit status: 0 when it has nothing more to do or its container has ended. Of one that
// an earlier daemon started (not our child) nothing is known.
awaitable<bool> ended_well(PagerClient& pager) {
  constexpr Milliseconds kLimit{5000};
  if (!pager.process().valid()) co_return false;
  auto status = co_await pager.process().wait_for(kLimit);
  co_return status && *status && !(*status)->signalled && (*status)->code == 0;
}

// Follows the pager until it has put every page in place; until then `memory` stays promised. `arrived_by`: the
// migration whose source may still ask; empty: none.
awaitable<void> watch_pager(Node& node, std::shared_ptr<PagerClient> pager, std::weak_ptr<Container> weak,
                            MemoryAccount::Reservation memory, std::string arrived_by) {
  const auto start = SteadyClock::now();
  std::string id;
  if (auto container = weak.lock()) id = container->spec().id;
  bool pushed = false;
  for (;;) {
    // Without it only what is touched comes, and the rest never.
    if (!pushed) pushed = (co_await pager->push()).has_value();
    co_await sleep_for(Milliseconds(20));
    auto status = co_await pager->status();
    const std::string phase = status ? string_or(*status, "phase") : "";
    // Slow is not gone, nor is one that could not be asked: while pages are missing it must not be moved on.
    const bool lives = pager->process().running() || (!status && status.error().code == Errc::kTimeout);
    if (status ? phase != "done" : lives) continue;
    memory = MemoryAccount::Reservation();
    if (auto container = weak.lock()) {
      container->set_filling(false);
      // The source is not needed any more, should it ask. By now the container may be leaving in turn, by a
      // migration of its own.
      const bool here = !arrived_by.empty() && container->migration() == arrived_by;
      if (here) (void)container->set_state(container->state());
    }
    if (status) {
      log::info("memory is in place", {{"container", id},
                                       {"ms", std::to_string(static_cast<long>(elapsed_ms(start)))},
                                       {"faults", std::to_string(get_u64(*status, "faults").value_or(0))}});
    }
    const bool well = co_await ended_well(*pager);
    if (!status && !well) {
      node.metrics().pager_died();
      log::error(events::kPagerDied,
                 "the pager of a container has ended; if pages were missing the container ends too",
                 {{"container", id}, {"reason", status.error().message}});
      if (auto container = weak.lock()) {
        container->set_lost("its pager ended while pages of its memory were missing: " + status.error().message);
      }
    }
    co_return;
  }
}

// Committed: the container is ours. Nothing may undo that any more, whatever becomes of this coroutine.
awaitable<json::object> take_over(Node& node, Restored& restored) {
  const auto start = SteadyClock::now();
  // Only now the plug: once its sockets have acknowledged a byte, no other copy may go on. CRIU still
  // holds the tasks, so they run the moment it lets go of them.
  std::shared_ptr<Container> container = restored.prepared.arrival.release();
  std::shared_ptr<PagerClient> pager;
  if (restored.prepared.pager) pager = restored.prepared.pager->release();
  const auto network_start = SteadyClock::now();
  auto plugged = container->net().plug();
  if (plugged) {
    constexpr std::chrono::microseconds kBeforeResume{500};
    Prepared& prepared = restored.prepared;
    prepared.delivered = container->net().deliver(prepared.held, 0, kBeforeResume);
  }
  if (!plugged) {
    log::error("the container runs here but is not on the network; it is tried again every 30 s",
               {{"container", container->spec().id}, {"reason", plugged.error().message}});
  } else if (auto announced = container->net().announce(); !announced) {
    log::warn("bridges are not told that a container is here now: peers may lose some frames",
              {{"container", container->spec().id}, {"reason", announced.error().message}});
  }
  const double network_ms = elapsed_ms(network_start);
  (void)container->cgroup().thaw();
  auto init = co_await std::move(restored.held).release();
  const double resume_ms = elapsed_ms(start) - network_ms;
  if (!init) {
    log::warn("criu complained after the commit", {{"reason", init.error().message}});
  }
  // The registry has it; this is for a source that cannot ask there.
  auto kept = node.record_outcome(restored.prepared.migration, Outcome::kCommitted);
  if (!kept) log::warn("an outcome is not kept", {{"reason", kept.error().message}});
  const bool post_copy = restored.prepared.post_copy;
  const bool remember = post_copy || !kept;  // see settle_outcomes()
  container->set_epoch(restored.right.ownership.epoch + 1);
  (void)container->set_state(ContainerState::kRunning, remember ? restored.prepared.migration : "",
                             remember ? restored.prepared.source : "");
  if (pager) {
    container->set_filling(true);
    if (post_copy) node.add_pager(restored.prepared.migration, pager);
    run_detached(node.executor(), "watching a pager",
                 watch_pager(node, std::move(pager), container, std::move(restored.prepared.memory),
                             container->migration()));
  }
  node.watch(container);
  json::object body{{"network_ms", network_ms}, {"resume_ms", resume_ms}};
  co_return body;
}

JournalEntry entry_of(const Node& node, const Prepared& prepared, const Container& container,
                      const char* phase) {
  const ContainerSpec& spec = container.spec();
  return {prepared.migration, spec.id, spec.job, prepared.source, node.name(), "target", phase, ""};
}

// Until it is decided whether the container is ours.
awaitable<void> decide(Node& node, Link& link, Restored& restored) {
  using Do = decision::Target::Do;
  const Prepared& prepared = restored.prepared;
  decision::Target& machine = *prepared.machine;
  Decision decision(restored.right);
  const PresenceWatch watch(node.executor(), node.owners(), prepared.source, [&link] { link.close(); });
  for (;;) {
    switch (machine.next()) {
      case Do::kReceive:
      case Do::kRun:
      case Do::kRemove: co_return;
      case Do::kListen: {
        auto asked = co_await expect_after_held(link, Kind::kCommit, restored.prepared.held,
                                                node.config().timeouts.commit);
        if (asked) {
          machine.commit_asked();
          break;
        }
        log::warn("the source of a container that is held here has fallen silent; the registry decides",
                  {{"migration", prepared.migration}, {"container", decision.container},
                   {"reason", asked.error().message}});
        machine.source_lost();
        break;
      }
      case Do::kWriteCommit:
      case Do::kLook:
        co_await step_at_target(node.owners(), decision, machine);
        if (prepared.pager && !prepared.pager->shared()->process().running()) (void)machine.renounce();
        break;
    }
  }
}

// From the offer to a copy that is held; an error has undone everything.
awaitable<StepResult<Restored>> take_in(Node& node, Link& link, const json::object& body) {
  using namespace asio::experimental::awaitable_operators;
  auto offer = offer_from(body);
  if (!offer) co_return failed_at("preflight", offer.error());
  const bool pages = offer->pages;
  auto prepared = prepare(node, std::move(*offer));
  if (!prepared) co_return tl::unexpected<StepError>(prepared.error());
  auto [pager, criu] = co_await (errors_of(start_pager(node, *prepared, pages), "start the pager") &&
                                    errors_of(start_criu(node, *prepared), "start criu"));
  for (const Status& started : {pager, criu}) {
    if (!started) co_return failed_at("preflight", started.error());
  }
  json::object accepted;
  auto sent = co_await link.send(Kind::kAccepted, std::move(accepted), node.config().timeouts.request);
  if (!sent) co_return failed_at("preflight", sent.error());
  co_return co_await restore(node, std::move(*prepared), link);
}

// The same where something throws: no thread to be had. Not for what comes after it: that a container is held, or
// runs here, must not look as if it had failed.
awaitable<StepResult<Restored>> take_in_or_fail(Node& node, Link& link, const json::object& body) {
  std::exception_ptr thrown;
  try {
    co_return co_await take_in(node, link, body);
  } catch (...) {
    thrown = std::current_exception();
  }
  co_return failed_at("prepare", error_of(thrown, "take it in"));
}

// The whole arrival; an error has undone everything, and nothing was committed.
awaitable<StepResult<bool>> arrive(Node& node, Link& link, const json::object& body) {
  const Timeouts& timeouts = node.config().timeouts;
  auto restored = co_await take_in_or_fail(node, link, body);
  if (!restored) co_return tl::unexpected<StepError>(restored.error());
  Prepared& prepared = restored->prepared;
  const std::shared_ptr<Container> container = prepared.arrival.container();
  decision::Target& machine = *prepared.machine;
  machine.staged(restored->right.version);
  json::object staged{{"restore_ms", restored->restore_ms}};
  auto sent = co_await link.send(Kind::kStaged, std::move(staged), timeouts.request);
  if (!sent) machine.source_lost();
  node.journal().note(entry_of(node, prepared, *container, "staged"));
  co_await decide(node, link, *restored);
  if (machine.state() != decision::Target::State::kCommitted) {
    node.journal().note(entry_of(node, prepared, *container, to_string(Outcome::kAborted)));
    co_return failed_at("commit", Error(Errc::kCancelled, "the source has taken the container back"));
  }
  json::object running = co_await take_over(node, *restored);
  // Should this not get through, the source asks for the outcome.
  (void)co_await link.send(Kind::kRunning, std::move(running), timeouts.request);
  node.journal().note(entry_of(node, prepared, *container, to_string(Outcome::kCommitted)));
  (void)co_await deliver_rest(link, container, std::move(prepared.held), prepared.delivered, timeouts.request);
  run_detached(node.executor(), "checking connections", check_connections_later(container, restored->network));
  node.metrics().arrival_ended(true);
  log::info(events::kContainerArrived, "container arrived",
            {{"migration", prepared.migration}, {"container", container->spec().id}});
  co_return true;
}

}  // namespace

awaitable<void> adopt_pager(Node& node, std::shared_ptr<Container> container) {
  auto client = co_await PagerClient::open(container->pager_socket());
  const bool running = container->state() == ContainerState::kRunning;
  if (!client) {
    // Its memory is in place, as nearly always.
    if (running && !container->migration().empty()) {
      (void)container->set_state(ContainerState::kRunning);
    }
    co_return;
  }
  container->set_filling(true);
  auto pager = std::make_shared<PagerClient>(std::move(*client));
  const std::string arrived_by = running ? container->migration() : "";
  if (!arrived_by.empty()) node.add_pager(arrived_by, pager);
  // What it holds has been allocated already: nothing to promise.
  MemoryAccount::Reservation none;
  co_await watch_pager(node, std::move(pager), container, std::move(none), arrived_by);
}

awaitable<Status> take_page_connection(Node& node, Link link, json::object pages, Milliseconds limit) {
  CO_TRY(const std::string migration, get_string(pages, "migration"));
  const bool encrypted = flag(pages, "encrypted");
  const bool urgent = pages.contains("urgent");
  const std::uint64_t shard = urgent ? 0 : get_u64(pages, "shard").value_or(1);
  const std::uint64_t shards = urgent ? 1 : get_u64(pages, "shards").value_or(0);
  constexpr std::uint64_t kShardsMax = 64;
  Status status;
  auto pager = node.find_pager(migration);
  if (encrypted != (node.credentials() && node.config().security.encrypt_pages)) {
    status = fail(Errc::kRefused, std::string("its pages come ") + (encrypted ? "encrypted" : "as they are") +
                                      "; security.pages must be the same on both nodes");
  } else if (!pager && node.is_filling(migration)) {
    status = fail(Errc::kUnavailable, "the pager of migration '" + migration + "' is being taken over");
  } else if (!pager) {
    status = fail(Errc::kNotFound, "no container waits for pages here by migration '" + migration + "'");
  } else if (shard >= shards || shards > kShardsMax) {
    status = fail(Errc::kProtocol, "page connection " + std::to_string(shard) + " of " +
                                       std::to_string(shards));
  }
  if (!status) {
    json::object body = failed_body(status.error(), "pages");
    (void)co_await link.send(Kind::kFailed, std::move(body), limit);
    co_return status;
  }
  // The answer first: afterwards the connection is the pager's.
  std::string key;
  if (encrypted) {
    CO_TRY(const PageKey secret, link.export_key(kPageKeyLabel));
    key = to_hex(secret);
  }
  json::object nothing;
  CO_CHECK_OK(co_await link.send(Kind::kResponse, std::move(nothing), limit));
  Fd socket = std::move(link).release();
  if (!socket) co_return fail(Errc::kUnavailable, "the page connection was closed");
  if (urgent) co_return co_await pager->add_urgent_connection(std::move(socket), std::move(key));
  co_return co_await pager->add_connection(std::move(socket), std::move(key),
                                           static_cast<unsigned>(shard), static_cast<unsigned>(shards));
}

awaitable<void> serve_migration(Node& node, Link link, json::object offer) {
  auto arrived = co_await arrive(node, link, offer);
  if (arrived) co_return;
  const StepError& failure = arrived.error();
  if (failure.step == kBusyStep) {  // the source asks again, several times a second
    json::object busy{{"busy", failure.error.message}};
    (void)co_await link.send(Kind::kAccepted, std::move(busy), node.config().timeouts.request);
    co_return;
  }
  node.metrics().arrival_ended(false);
  log::warn("arrival of a container failed, nothing is left of it here",
            {{"migration", string_or(offer, "migration")},
             {"from", link.remote()},
             {"step", failure.step},
             {"reason", failure.error.message}});
  json::object body = failed_body(failure.error, failure.step);
  body["renounced"] = true;
  (void)co_await link.send(Kind::kFailed, std::move(body), node.config().timeouts.request);
}

}  // namespace lifeboat
