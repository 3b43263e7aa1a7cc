#include "container.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/file.hpp"
#include "base/netlink.hpp"
#include "base/netns.hpp"
#include "base/text.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

namespace {

constexpr Milliseconds kStartLimit{20'000};
constexpr Milliseconds kRemoveLimit{5'000};
constexpr Milliseconds kCarrierLimit{10'000};
constexpr std::size_t kOutputBytesMax = 1 << 20;

constexpr ContainerState kStates[] = {ContainerState::kStarting, ContainerState::kRunning,
                                      ContainerState::kLeaving,  ContainerState::kArriving,
                                      ContainerState::kInDoubt,  ContainerState::kDraining,
                                      ContainerState::kExited};

Result<ContainerState> state_from(const std::string& name) {
  for (ContainerState state : kStates) {
    if (name == to_string(state)) return state;
  }
  return fail(Errc::kInvalid, "unknown container state '" + name + "'");
}

TcpSettings tcp_settings(const Config& config) {
  TcpSettings settings;
  settings.rto_max = config.network.tcp_rto_max;
  settings.retries = static_cast<unsigned>(config.network.tcp_retries);
  return settings;
}

// The bridges are this node's; the rest of an endpoint moves with the container.
Result<std::vector<Endpoint>> local_endpoints(const ContainerSpec& spec, const Config& config) {
  std::vector<Endpoint> endpoints = spec.endpoints;
  for (Endpoint& endpoint : endpoints) {
    const FabricConfig* fabric = config.find_fabric(endpoint.fabric);
    if (fabric == nullptr) {
      return fail(Errc::kRefused, "container " + spec.id + " has an address on fabric " +
                                      endpoint.fabric + ", which this node does not have");
    }
    endpoint.bridge = fabric->bridge;
  }
  return endpoints;
}

// Until programs in the container are told that its interfaces can be used, which takes the kernel's link watch
// a millisecond, or seconds on a busy machine. UCX looks once, when a rank starts.
awaitable<Status> wait_for_carriers(const ContainerNet& net, const ContainerSpec& spec) {
  std::optional<Netlink> inner;
  const std::function<Status()> open = [&inner]() -> Status {
    TRY(inner, Netlink::open());
    return {};
  };
  CO_CHECK_OK(in_netns(net.netns_fd(), open));
  const auto end = SteadyClock::now() + kCarrierLimit;
  for (const Endpoint& endpoint : spec.endpoints) {
    for (;;) {
      CO_TRY(const NetDevice link, inner->link(endpoint.fabric));
      if (link.running) break;
      if (SteadyClock::now() > end) {
        co_return fail(Errc::kTimeout, "interface " + endpoint.fabric + " of container " + spec.id +
                                           " has no carrier; is the bridge of that fabric up on this node?");
      }
      co_await sleep_for(Milliseconds(1));
    }
  }
  co_return Status{};
}

std::string container_directory(const Config& config, const std::string& id) {
  return config.paths.run_dir + "/containers/" + id;
}

}  // namespace

Container::Container(ContainerSpec spec, Cgroup cgroup, ContainerNet net, std::string directory)
    : spec_(std::move(spec)),
      cgroup_(std::move(cgroup)),
      net_(std::move(net)),
      directory_(std::move(directory)) {}

Result<std::unique_ptr<Container>> Container::prepare(ContainerSpec spec, const Config& config,
                                                      NetPurpose purpose) {
  CHECK_OK(check_sources(spec));
  TRY(const std::vector<Endpoint> endpoints, local_endpoints(spec, config));
  const std::string directory = container_directory(config, spec.id);
  CHECK_OK(remove_tree(directory));
  CHECK_OK(make_directories(directory + "/root"));
  std::optional<LayerDirectory> layer;
  if (spec.writable_bytes > 0) {
    TRY(const std::string root, bundle_root(spec));
    TRY(layer, LayerDirectory::create(config.paths.layers_dir, spec.id, root));
  }
  auto cgroup = Cgroup::create(config.paths.cgroup, spec.id);
  if (!cgroup) {
    if (layer) layer->remove();
    return tl::unexpected<Error>(cgroup.error());
  }
  auto net = ContainerNet::create(spec.id, endpoints, tcp_settings(config), purpose);
  if (!net) {
    (void)cgroup->remove(kRemoveLimit);
    (void)remove_tree(directory);
    if (layer) layer->remove();
    return tl::unexpected<Error>(net.error());
  }
  cgroup->limit_memory(spec.memory_bytes);
  std::unique_ptr<Container> container(
      new Container(std::move(spec), std::move(*cgroup), std::move(*net), directory));
  container->layer_ = std::move(layer);
  return container;
}

namespace {

std::string crun_state(const Config& config) { return config.paths.run_dir + "/crun"; }

}  // namespace

awaitable<Status> Container::run_crun(const Config& config, std::string command, std::vector<std::string> arguments) {
  const std::string log = directory_ + "/crun.log";
  SpawnOptions options;
  options.argv = {config.paths.crun, "--root", crun_state(config), "--cgroup-manager=disabled", "--log", log, command};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.argv.push_back(spec_.id);
  options.cgroup = cgroup_.path();
  // crun refuses hybrid systems, though it is told to leave cgroups alone: show it cgroup2 only.
  CO_TRY(const std::string cgroup2, Cgroup::mount_point());
  options.private_mounts = true;
  if (cgroup2 != "/sys/fs/cgroup") options.bind_mounts.emplace_back(cgroup2, "/sys/fs/cgroup");
  if (layer_ && command == "create") options.overlay = layer_->overlay(directory_ + "/root");
  CO_TRY(Process runtime, co_await lifeboat::start(std::move(options)));
  auto status = co_await runtime.wait_for(kStartLimit);
  if (!status) runtime.kill_and_reap();
  if (status && *status && (*status)->code == 0) co_return Status{};
  const std::string text = read_file(log).value_or("");
  const std::string_view said = trimmed(text);
  co_return fail(Errc::kSystem, config.paths.crun + " could not " + command + " container " + spec_.id + ": " +
                                    std::string(said.empty() ? "no message" : said));
}

// Its process waits between the two, so that it is known before it can end.
awaitable<Status> Container::create_and_start(const Config& config) {
  std::vector<std::string> arguments{"--pid-file", directory_ + "/pid", "--bundle", directory_};
  CO_CHECK_OK(co_await run_crun(config, "create", std::move(arguments)));
  CO_TRY(const std::string pid, read_file(directory_ + "/pid", 32));
  auto init = Process::open(static_cast<pid_t>(std::strtol(pid.c_str(), nullptr, 10)));
  if (!init) co_return tl::unexpected<Error>(init.error().context("container " + spec_.id));
  set_init(std::move(*init));
  std::vector<std::string> none;
  co_return co_await run_crun(config, "start", std::move(none));
}

awaitable<Result<std::unique_ptr<Container>>> Container::start(ContainerSpec spec,
                                                               const Config& config) {
  CO_TRY(std::unique_ptr<Container> container,
         prepare(std::move(spec), config, NetPurpose::kStart));
  const std::string netns = "/proc/" + std::to_string(::getpid()) + "/fd/" +
                            std::to_string(container->net().netns_fd());
  const std::string& directory = container->directory_;
  CO_TRY(const std::string oci, oci_config(container->spec_, netns, directory + "/root"));
  CO_CHECK_OK(replace_file(directory + "/config.json", oci));
  CO_CHECK_OK(container->net().plug());
  CO_CHECK_OK(co_await wait_for_carriers(container->net(), container->spec()));

  CO_CHECK_OK(make_directories(crun_state(config)));
  const std::string state = crun_state(config) + "/" + container->spec_.id;
  (void)remove_tree(state);  // of a start that a daemon did not survive
  const Status started = co_await container->create_and_start(config);
  // The runtime's own record is of no use: from here on the container is ours.
  (void)remove_tree(state);
  CO_CHECK_OK(started);
  CO_CHECK_OK(container->set_state(ContainerState::kRunning));
  co_return container;
}

Result<std::unique_ptr<Container>> Container::adopt(const std::string& directory,
                                                    const Config& config) {
  TRY(const std::string text, read_file(directory + "/record.json"));
  TRY(const json::object record, parse_object(text));
  TRY(const json::object* spec_json, get_object(record, "spec"));
  TRY(ContainerSpec spec, container_spec_from(*spec_json));
  TRY(const std::uint64_t pid, get_u64(record, "pid"));
  TRY(const std::uint64_t start_time, get_u64(record, "start_time"));
  TRY(const std::string state_name, get_string(record, "state"));
  TRY(const ContainerState state, state_from(state_name));
  TRY(const std::vector<Endpoint> endpoints, local_endpoints(spec, config));
  TRY(Cgroup cgroup, Cgroup::open(config.paths.cgroup, spec.id));
  const auto init_pid = static_cast<pid_t>(pid);
  if (start_time == 0 || process_start_time(init_pid) != start_time) {
    return fail(Errc::kNotFound, "container " + spec.id + " has ended meanwhile");
  }
  TRY(Process init, Process::open(init_pid));
  TRY(ContainerNet net, ContainerNet::adopt(spec.id, endpoints, init_pid));
  std::unique_ptr<Container> container(
      new Container(std::move(spec), std::move(cgroup), std::move(net), directory));
  container->set_init(std::move(init));
  container->state_ = state;
  if (container->spec_.writable_bytes > 0) {
    // Its root is mounted already: what is below it does not matter any more.
    container->layer_.emplace(config.paths.layers_dir, container->spec_.id, "");
  }
  container->migration_ = string_or(record, "migration");
  container->migration_peer_ = string_or(record, "migration_peer");
  container->epoch_ = get_u64(record, "epoch").value_or(0);
  container->origin_ = {string_or(record, "came_from"),
                        std::chrono::system_clock::from_time_t(
                            static_cast<std::time_t>(number_or(record, "came_at")))};
  return container;
}

Container::~Container() {
  if (released_) {
    if (net_) net_->release();
  } else {
    destroy();
  }
}

void Container::destroy() {
  if (!net_) return;
  // Off the network first: whatever its sockets say while they die stays here.
  (void)net_->unplug();
  (void)cgroup_.remove(kRemoveLimit);
  if (init_.valid()) init_.kill_and_reap();
  net_.reset();
  (void)remove_tree(directory_);
  if (layer_) layer_->remove();
}

Status Container::set_state(ContainerState state, const std::string& migration,
                            const std::string& peer) {
  if (state_ == ContainerState::kArriving && state == ContainerState::kRunning) {
    origin_ = {migration_peer_, std::chrono::system_clock::now()};
  }
  state_ = state;
  migration_ = migration;
  migration_peer_ = peer;
  const json::object record{{"spec", to_json(spec_)},
                            {"pid", init_.pid()},
                            {"start_time", process_start_time(init_.pid())},
                            {"state", to_string(state)},
                            {"migration", migration},
                            {"migration_peer", peer},
                            {"epoch", epoch_},
                            {"came_from", origin_.node},
                            {"came_at", std::chrono::system_clock::to_time_t(origin_.at)}};
  return replace_file(directory_ + "/record.json", json::serialize(record));
}

void Container::set_init(Process init) {
  init_ = std::move(init);
  open_output();
}

void Container::open_output() {
  const std::string run = "/proc/" + std::to_string(init_.pid()) + "/root/run";
  output_directory_ = Fd(::open(run.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

unsigned Container::init_uid() const {
  struct stat info {};
  const std::string path = "/proc/" + std::to_string(init_.pid());
  return ::stat(path.c_str(), &info) == 0 ? info.st_uid : 0;
}

std::uint64_t Container::resident_bytes() const {
  std::uint64_t bytes = 0;
  for (const pid_t pid : cgroup_.pids()) bytes += lifeboat::resident_bytes(pid);
  return bytes;
}

Result<std::string> Container::output(std::uint64_t offset) const {
  Fd file(::openat(output_directory_.get(), "stdio.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return std::string();
  std::string text(kOutputBytesMax, '\0');
  const ssize_t n = ::pread(file.get(), text.data(), text.size(), static_cast<off_t>(offset));
  if (n < 0) return fail_errno("read the output of container " + spec_.id);
  text.resize(static_cast<std::size_t>(n));
  return text;
}

}  // namespace lifeboat
