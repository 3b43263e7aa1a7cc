#include "node.hpp"

#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>

#include "base/file.hpp"
#include "base/log.hpp"
#include "events.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMigrationsKept = 2000;
constexpr std::size_t kExitedKept = 64;

// Short, sortable by time, unique on this node: milliseconds since 2020 in base 36.
std::string time_code(std::uint64_t number) {
  std::string text;
  for (; number > 0; number /= 36) text += "0123456789abcdefghijklmnopqrstuvwxyz"[number % 36];
  std::reverse(text.begin(), text.end());
  return text;
}

// What cannot be guessed of an id: 51 bits.
std::string random_code() {
  constexpr std::uint64_t kCodes = 3'656'158'440'062'976;  // 36 to the power of 10
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) std::abort();  // cannot fail from Linux 5.6 on
  std::string code = time_code(kCodes + random % kCodes);
  return code.substr(1);
}

std::uint64_t now_ms() {
  constexpr std::uint64_t kEpoch2020 = 1'577'836'800'000;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<Milliseconds>(now).count()) -
         kEpoch2020;
}

bool is_migration_id(const std::string& id) {
  return !id.empty() && id.size() <= 64 && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-';
  });
}

}  // namespace

namespace {

// Without a record there is no answer, and a source that cannot reach the registry waits for it: only what
// nobody asks for any more may go.
void forget_old(const std::string& directory) {
  static std::atomic<unsigned> calls = 0;
  if (calls++ % 256 != 0) return;
  const auto now = fs::file_time_type::clock::now();
  constexpr std::chrono::hours kKept{24 * 90};
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    std::error_code gone;
    const auto age = now - entry.last_write_time(gone);
    if (!gone && age > kKept) fs::remove(entry.path(), gone);
  }
}

Status write_outcome(const std::string& directory, const std::string& migration, Outcome outcome) {
  CHECK_OK(make_directories(directory));
  forget_old(directory);
  return replace_file(directory + "/" + migration, to_string(outcome));
}

}  // namespace

Node::Node(asio::any_io_executor executor, Config config, std::string name)
    : executor_(std::move(executor)),
      config_(std::move(config)),
      name_(std::move(name)),
      health_(config_.health, name_),
      queue_({static_cast<std::size_t>(config_.limits.migrations_per_node),
              static_cast<std::size_t>(config_.limits.migrations_per_fabric)}),
      gate_(static_cast<std::size_t>(config_.limits.arrivals_per_node)),
      wire_(static_cast<std::size_t>(config_.limits.frozen_per_node)) {}

std::shared_ptr<Container> Node::find(const std::string& id) const {
  const auto at = containers_.find(id);
  return at == containers_.end() ? nullptr : at->second;
}

std::uint64_t Node::memory_reserved_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [id, container] : containers_) bytes += container->spec().memory_bytes;
  return bytes;
}

bool Node::is_leaving(const Container& container) const {
  if (container.state() == ContainerState::kDraining) return true;
  const auto at = migrations_.find(container.migration());
  const bool on_its_way =
      container.state() == ContainerState::kLeaving || container.state() == ContainerState::kInDoubt;
  return on_its_way && at != migrations_.end() && at->second->outcome == Outcome::kRunning;
}

Status Node::check_fits(const ContainerSpec& spec, bool without_leaving) const {
  const NodeConfig& node = self();
  std::uint64_t reserved = 0;
  int count = 0;
  for (const auto& [id, container] : containers_) {
    if (without_leaving && is_leaving(*container)) continue;
    reserved += container->spec().memory_bytes;
    ++count;
  }
  if (count >= node.slots) {
    return fail(Errc::kRefused, "node " + name_ + " has no room: all " +
                                    std::to_string(node.slots) + " slots are taken");
  }
  if (reserved > node.memory_bytes || spec.memory_bytes > node.memory_bytes - reserved) {
    constexpr std::uint64_t kMiB = 1 << 20;
    return fail(Errc::kRefused,
                "node " + name_ + " has no room: container " + spec.id + " needs " +
                    std::to_string(spec.memory_bytes / kMiB) + " MiB, " +
                    std::to_string((node.memory_bytes - std::min(reserved, node.memory_bytes)) /
                                   kMiB) +
                    " of " + std::to_string(node.memory_bytes / kMiB) + " MiB are free");
  }
  return {};
}

std::string Node::why_wait(const std::string& migration, const ContainerSpec& spec) {
  const auto arriving = std::count_if(containers_.begin(), containers_.end(), [](const auto& item) {
    return item.second->state() == ContainerState::kArriving;
  });
  const double now_s = std::chrono::duration<double>(SteadyClock::now().time_since_epoch()).count();
  if (!gate_.admit(migration, static_cast<std::size_t>(arriving), now_s)) {
    return "node " + name_ + ", which takes in others (limits.arrivals_per_node)";
  }
  const auto same = find(spec.id);
  if (same && same->state() == ContainerState::kDraining) {
    return "what is left on " + name_ + " of the container's time here";
  }
  const Status fits = check_fits(spec, false);
  const bool will_fit = check_fits(spec, true).has_value();
  if (!fits && (will_fit ? memory_available_bytes() < spec.memory_bytes
                         : gate_.ask_again(migration, now_s))) {
    return "others to leave " + name_ + ": " + fits.error().message;
  }
  return {};
}

Status Node::check_room(const ContainerSpec& spec, Incoming incoming) const {
  const NodeConfig& node = self();
  if (node.role != NodeRole::kCompute) {
    return fail(Errc::kRefused, "node " + name_ + " is a head node: it runs no containers");
  }
  if (containers_.contains(spec.id)) {
    return fail(Errc::kConflict, "node " + name_ + " has a container " + spec.id + " already");
  }
  Status fits = check_fits(spec, false);
  if (!fits && incoming == Incoming::kArriving && check_fits(spec, true)) fits = {};
  CHECK_OK(fits);
  for (const auto& [id, other] : containers_) {
    for (const Endpoint& theirs : other->spec().endpoints) {
      for (const Endpoint& wanted : spec.endpoints) {
        if (theirs.fabric == wanted.fabric && theirs.address == wanted.address) {
          return fail(Errc::kConflict, "address " + wanted.address + " is in use by container " +
                                           id + " on node " + name_);
        }
      }
    }
  }
  return {};
}

void Node::add(std::shared_ptr<Container> container) {
  containers_[container->spec().id] = std::move(container);
}

void Node::watch(const std::shared_ptr<Container>& container) {
  run_detached(executor_, "watching a container", watch_exit(container, container->spec().id));
}

awaitable<void> Node::watch_exit(std::weak_ptr<Container> weak, std::string id) {
  std::optional<ExitStatus> status;
  for (bool ended = false; !ended;) {
    auto container = weak.lock();
    if (!container) co_return;
    auto init = Process::open(container->init().pid());
    ended = !container->init().running();
    container.reset();  // a migration may end it while we wait
    if (init) {
      status = co_await init->wait();
      ended = true;
    } else if (!ended) {  // no descriptor to watch it with
      co_await sleep_for(Milliseconds(200));
    }
  }
  // A migration decides first what becomes of it.
  for (;;) {
    auto container = weak.lock();
    if (!container || find(id) != container) co_return;
    if (container->state() == ContainerState::kRunning) break;
    container.reset();
    co_await sleep_for(Milliseconds(20));
  }
  auto container = weak.lock();
  if (!container) co_return;
  ExitedContainer ended{id, container->spec().job, status, container->output(0).value_or(""),
                        container->lost()};
  log::info(events::kContainerEnded, "container ended",
            {{"container", id}, {"status", status ? std::to_string(status->code) : "unknown"}});
  remember_exit(std::move(ended));
  remove(id);
  container->destroy();
  container.reset();
  (void)co_await owners_->end(id, name_);  // if it cannot be reached, reconcile() does it later
}

void Node::remember_exit(ExitedContainer ended) {
  ended.at = timestamp_now();
  if (!ended.lost.empty()) metrics_.container_lost();
  exited_.push_back(std::move(ended));
  if (exited_.size() > kExitedKept) exited_.pop_front();
}

std::string Node::new_migration_id() {
  last_migration_number_ = std::max(last_migration_number_ + 1, now_ms());
  return name_ + "-" + time_code(last_migration_number_) + random_code();
}

std::shared_ptr<MigrationReport> Node::new_migration(const Container& container,
                                                     const std::string& target,
                                                     const std::string& fabric) {
  auto report = std::make_shared<MigrationReport>();
  report->id = new_migration_id();
  report->container = container.spec().id;
  report->job = container.spec().job;
  report->source = name_;
  report->target = target;
  report->fabric = fabric;
  report->phase = "queued";
  report->started_at = timestamp_now();
  report->on_phase = [this](const MigrationReport& changed) { journal_.note(journal_entry(changed)); };
  journal_.note(journal_entry(*report));
  metrics_.migration_began(report);
  report->resident_bytes = container.resident_bytes();
  report->nominal_bytes_per_s = static_cast<double>(config_.find_fabric(fabric)->rate_bits_per_s) / 8;
  migrations_[report->id] = report;
  while (migrations_.size() > kMigrationsKept &&
         migrations_.begin()->second->outcome != Outcome::kRunning) {
    migrations_.erase(migrations_.begin());
  }
  return report;
}

std::size_t Node::leaving() const {
  return static_cast<std::size_t>(
      std::count_if(containers_.begin(), containers_.end(), [](const auto& item) {
        return item.second->state() == ContainerState::kLeaving ||
               item.second->state() == ContainerState::kInDoubt;
      }));
}

std::shared_ptr<PagerClient> Node::find_pager(const std::string& migration) const {
  const auto at = pagers_.find(migration);
  return at == pagers_.end() ? nullptr : at->second.lock();
}

bool Node::is_filling(const std::string& migration) const {
  return std::any_of(containers_.begin(), containers_.end(), [&](const auto& item) {
    return item.second->state() == ContainerState::kRunning &&
           item.second->migration() == migration;
  });
}

std::string Node::libexec() const {
  if (!config_.paths.libexec.empty()) return config_.paths.libexec;
  std::error_code error;
  const fs::path beside = fs::read_symlink("/proc/self/exe", error).parent_path();
  const fs::path installed = beside.parent_path() / "libexec/lifeboat";
  return fs::exists(installed, error) ? installed : beside;
}

Status Node::record_outcome(const std::string& migration, Outcome outcome) {
  if (!is_migration_id(migration)) {
    return fail(Errc::kProtocol, "'" + migration + "' is no migration id");
  }
  if (outcome == Outcome::kCommitted) {
    const auto keep = [directory = config_.paths.state_dir + "/outcomes", migration] {
      if (auto kept = write_outcome(directory, migration, Outcome::kCommitted); !kept) {
        log::warn("after a power cut this node will not know of a commit", {{"reason", kept.error().message}});
      }
    };
    (void)disk_.post(keep);
  }
  return write_outcome(config_.paths.run_dir + "/outcomes", migration, outcome);
}

Outcome Node::outcome_of(const std::string& migration, bool renounce) {
  if (const Deciding* machines = deciding(migration); machines != nullptr && machines->target) {
    decision::Target& machine = *machines->target;
    if (renounce) (void)machine.renounce();
    if (machine.state() == decision::Target::State::kCommitted) return Outcome::kCommitted;
    if (machine.state() != decision::Target::State::kAborted) return Outcome::kRunning;
    // What was said holds after a restart, too. What cannot be written down is not said before it is removed.
    return record_outcome(migration, Outcome::kAborted) ? Outcome::kAborted : Outcome::kRunning;
  }
  for (const auto& [id, container] : containers_) {
    if (container->migration() == migration && container->state() == ContainerState::kArriving) {
      return Outcome::kRunning;
    }
  }
  // A source asks for what was accepted here. Without a record of it this machine has lost its power since:
  // only the registry can tell.
  return recorded_outcome(migration).value_or(Outcome::kRunning);
}

std::optional<Outcome> Node::recorded_outcome(const std::string& migration) const {
  if (!is_migration_id(migration)) return std::nullopt;
  for (const std::string& place : {config_.paths.run_dir, config_.paths.state_dir}) {
    auto text = read_file(place + "/outcomes/" + migration, 64);
    for (const Outcome known : {Outcome::kRunning, Outcome::kCommitted, Outcome::kAborted}) {
      if (text && *text == to_string(known)) return known;
    }
  }
  return std::nullopt;
}

void Node::settle_outcomes() {
  std::map<std::string, ContainerState> held;
  for (const auto& [id, container] : containers_) held[container->migration()] = container->state();
  std::vector<std::string> open;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(config_.paths.run_dir + "/outcomes", error)) {
    const std::string migration = entry.path().filename();
    if (recorded_outcome(migration) == Outcome::kRunning) open.push_back(migration);
  }
  for (const std::string& migration : open) {
    const auto at = held.find(migration);
    if (at == held.end()) (void)record_outcome(migration, Outcome::kAborted);
    // Its commit could not be written down.
    const bool runs = at != held.end() && at->second == ContainerState::kRunning;
    if (runs) (void)record_outcome(migration, Outcome::kCommitted);
  }
}

void Node::adopt_one(const std::string& directory) {
  auto adopted = Container::adopt(directory, config_);
  if (!adopted) {
    log::warn("container not adopted, cleaning up after it",
              {{"record", directory}, {"reason", adopted.error().message}});
    (void)remove_tree(directory);
    return;
  }
  std::shared_ptr<Container> container = std::move(*adopted);
  const std::string& id = container->spec().id;
  // Arriving, it is restored, or it would have no process; see resolve_arrival(), resume_left_over(),
  // resolve() and finish_draining().
  add(container);
  watch(container);
  if (container->state() == ContainerState::kRunning) {
    (void)container->net().plug();
    (void)container->cgroup().thaw();
  }
  log::info("adopted container", {{"container", id}, {"state", to_string(container->state())}});
}

void Node::sweep() {
  for (const std::string& name : Cgroup::children(config_.paths.cgroup)) {
    if (containers_.contains(name)) continue;
    auto cgroup = Cgroup::open(config_.paths.cgroup, name);
    if (cgroup && cgroup->remove(Milliseconds(2000))) {
      metrics_.removed(Leftover::kCgroup);
      log::warn(events::kLeftoverRemoved, "removed a cgroup that was left behind", {{"cgroup", name}});
    }
  }
  auto ends = host_ends_present();
  for (const std::string& end : ends ? *ends : std::vector<std::string>{}) {
    const bool owned = std::any_of(containers_.begin(), containers_.end(), [&](const auto& item) {
      const auto mine = item.second->net().host_ends();
      return std::find(mine.begin(), mine.end(), end) != mine.end();
    });
    if (!owned && remove_host_end(end)) {
      metrics_.removed(Leftover::kLink);
      log::warn(events::kLeftoverRemoved, "removed a network end that was left behind", {{"link", end}});
    }
  }
  (void)remove_tree(config_.paths.run_dir + "/images");
  for (const std::string& id : layers_present(config_.paths.layers_dir)) {
    if (containers_.contains(id)) continue;
    LayerDirectory(config_.paths.layers_dir, id, "").remove();
    metrics_.removed(Leftover::kLayer);
    log::warn(events::kLeftoverRemoved, "removed a writable layer that was left behind", {{"container", id}});
  }
}

// They are removed with what needed them, unless there was no descriptor to read the directory with.
void Node::sweep_images() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(config_.paths.run_dir + "/images", error)) {
    const std::string migration = entry.path().filename();
    const bool wanted = std::any_of(containers_.begin(), containers_.end(), [&](const auto& item) {
      return item.second->migration() == migration;
    });
    if (wanted || !remove_tree(entry.path())) continue;
    metrics_.removed(Leftover::kImages);
    log::warn(events::kLeftoverRemoved, "removed images that were left behind", {{"migration", migration}});
  }
}

awaitable<void> Node::adopt_all() {
  std::error_code error;
  std::vector<std::string> directories;
  for (const auto& entry : fs::directory_iterator(config_.paths.run_dir + "/containers", error)) {
    directories.push_back(entry.path());
  }
  for (const std::string& directory : directories) adopt_one(directory);
  sweep();
  co_return;
}

}  // namespace lifeboat
