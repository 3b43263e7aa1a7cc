#include "jobs.hpp"

#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "agent.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "cluster_view.hpp"
#include "launch.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

namespace {

constexpr Milliseconds kLookInterval{2'000};
constexpr int kLooksUntilLost = 5;
constexpr std::size_t kListMax = 65536;
constexpr int kLooksUntilLostSilent = 15;

json::object describe(const Job& job) {
  json::array containers;
  for (const std::string& id : job.containers) containers.emplace_back(id);
  json::object out{{"name", job.spec.name},
                   {"state", job.running ? "running" : "ended"},
                   {"started_at", job.started_at},
                   {"containers", std::move(containers)},
                   {"ranks", job.spec.containers * job.spec.ranks_per_container},
                   {"error", job.error}};
  if (job.exit_code) out["exit_code"] = *job.exit_code;
  if (job.slurm_job != 0) {
    out["slurm_job"] = job.slurm_job;
    out["allocation"] = to_array(job.allocation);
  }
  return out;
}

// Containers that did not end by themselves on a node, since the job began, and why.
void collect_lost(const json::object& info, const std::string& node, const Job& job,
                  std::map<std::string, std::string>& reasons) {
  auto lost = get_array(info, "lost");
  if (!lost) return;
  for (const json::value& item : **lost) {
    if (!item.is_object() || string_or(item.get_object(), "at") < job.started_at) continue;
    reasons[string_or(item.get_object(), "id")] = string_or(item.get_object(), "reason") + " (node " + node + ")";
  }
}

bool may_be_on(const Job& job, const std::string& node) {
  return job.slurm_job == 0 ||
         std::find(job.allocation.begin(), job.allocation.end(), node) != job.allocation.end();
}

unsigned prefix_of(const std::string& subnet) {
  return static_cast<unsigned>(std::stoul(subnet.substr(subnet.find('/') + 1)));
}

// The addresses that containers hold anywhere, by fabric.
void collect_addresses(const json::object& info,
                       std::map<std::string, std::set<std::string>>& used) {
  auto containers = get_array(info, "containers");
  if (!containers) return;
  for (const json::value& item : **containers) {
    if (!item.is_object()) continue;
    auto addresses = get_object(item.get_object(), "addresses");
    if (!addresses) continue;
    for (const auto& pair : **addresses) {
      if (!pair.value().is_string()) continue;
      used[std::string(pair.key())].insert(std::string(pair.value().get_string()));
    }
  }
}

// Before mpiexec runs there is nothing that kill() could end.
Status not_killed(const Job& job) {
  if (!job.error.empty()) return fail(Errc::kCancelled, job.error);
  return {};
}

}  // namespace

// Empty, whatever an earlier job of this name has left.
awaitable<Status> Jobs::make_place(std::shared_ptr<Job> job) {
  std::function<Status()> work = [directory = job->directory]() -> Status {
    CHECK_OK(remove_tree(directory));
    return make_directories(directory);
  };
  co_return co_await run_blocking(disk_, std::move(work));
}

awaitable<Status> Jobs::save(std::shared_ptr<Job> job) {
  json::object record = describe(*job);
  record["mpiexec_pid"] = job->mpiexec.pid();
  record["asked_by"] = job->asked_by;
  record["mpiexec_start_time"] = process_start_time(job->mpiexec.pid());
  std::function<Status()> work = [directory = job->directory, yaml = to_yaml(job->spec),
                                  text = json::serialize(record)]() -> Status {
    CHECK_OK(replace_file(directory + "/job.yaml", yaml));
    return replace_file(directory + "/record.json", text);
  };
  co_return co_await run_blocking(disk_, std::move(work));
}

Result<std::shared_ptr<Job>> Jobs::find(const json::object& params) const {
  TRY(const std::string name, get_string(params, "name"));
  const auto at = jobs_.find(name);
  if (at == jobs_.end()) return fail(Errc::kNotFound, "no job '" + name + "' on node " + node_.name());
  return at->second;
}

awaitable<Result<json::object>> Jobs::run(json::object params) {
  CO_TRY(const std::string yaml, get_string(params, "yaml"));
  auto job = std::make_shared<Job>();
  CO_TRY(job->spec, parse_job(yaml, string_or(params, "file", "job.yaml")));
  JobSpec& spec = job->spec;
  job->asked_by = string_or(params, "asked_by");
  if (node_.config().slurm.enabled && params.contains("slurm_job")) {
    CO_TRY(job->slurm_job, get_u64(params, "slurm_job"));
    CO_CHECK_OK(co_await take_allocation(job));
  }
  if (const auto at = jobs_.find(spec.name); at != jobs_.end() && at->second->running) {
    co_return fail(Errc::kConflict, "job '" + spec.name + "' is running; end it first: lifeboat "
                                   "kill " + spec.name);
  }
  if (spec.fabric.empty()) spec.fabric = node_.config().default_fabric;
  if (node_.config().find_fabric(spec.fabric) == nullptr) {
    co_return fail(Errc::kInvalid, "job '" + spec.name + "': no fabric '" + spec.fabric + "'");
  }
  job->started_at = timestamp_now();
  job->directory = node_.config().paths.state_dir + "/jobs/" + job->spec.name;
  job->running = true;  // from now on the name is taken
  const std::shared_ptr<Job> before = std::exchange(jobs_[spec.name], job);
  if (const Status made = co_await make_place(job); !made) {
    if (before) {
      jobs_[spec.name] = before;
    } else {
      jobs_.erase(spec.name);
    }
    co_return tl::unexpected<Error>(made.error());
  }
  Status started;
  {
    // The next one must see the room and the addresses that this one takes.
    const AsyncMutex::Lock turn = co_await starting_.lock();
    started = co_await start(job);
  }
  if (!started) {
    job->running = false;
    job->error = started.error().message;
    job->mpiexec.signal_group(SIGKILL);
    co_await remove_containers(job->containers);
    log::error("job could not be started", {{"job", job->spec.name}, {"reason", job->error}});
    co_return tl::unexpected<Error>(started.error().context("start job '" + job->spec.name + "'"));
  }
  run_detached(node_.executor(), "following a job", follow(job));
  co_return describe(*job);
}

awaitable<Result<std::vector<ContainerSpec>>> Jobs::plan_containers(
    const Job& job, std::vector<std::string>& nodes) {
  const Config& config = node_.config();
  const std::vector<std::string> compute = compute_nodes();
  const auto answers = co_await agent_.call_all(compute, "node.info", json::object{});
  std::vector<NodeRoom> rooms;
  std::map<std::string, std::set<std::string>> used;
  for (std::size_t i = 0; i < compute.size(); ++i) {
    if (!answers[i]) continue;
    const json::object& info = *answers[i];
    if (may_be_on(job, compute[i])) rooms.push_back(room_from(compute[i], info));
    collect_addresses(info, used);
  }
  const auto count = static_cast<unsigned>(job.spec.containers);
  CO_TRY(nodes, place(std::move(rooms), count, job.spec.memory_bytes, job.spec.nodes));

  std::vector<ContainerSpec> specs(count);
  for (unsigned i = 0; i < count; ++i) {
    ContainerSpec& spec = specs[i];
    spec.id = job.spec.name + "-" + std::to_string(i);
    spec.job = job.spec.name;
    spec.bundle = job.spec.bundle;
    spec.cwd = job.spec.cwd;
    spec.memory_bytes = job.spec.memory_bytes;
    spec.writable_bytes = job.spec.writable_bytes;
    for (const auto& mount : job.spec.mounts) {
      spec.mounts.push_back({mount.source, mount.target, mount.readonly});
    }
    if (job.spec.user) spec.user = {job.spec.user->uid, job.spec.user->gid};
  }
  for (const FabricConfig& fabric : config.fabrics) {
    std::set<std::string>& taken = used[fabric.name];
    for (const NodeConfig& node : config.nodes) taken.insert(node.addresses.at(fabric.name));
    CO_TRY(const std::vector<std::string> addresses,
           free_addresses(fabric, count, taken));
    for (unsigned i = 0; i < count; ++i) {
      Endpoint endpoint;
      endpoint.fabric = fabric.name;
      endpoint.address = addresses[i];
      endpoint.prefix = prefix_of(fabric.subnet);
      endpoint.mac = mac_for(config.cluster + "/" + specs[i].id, fabric.name);
      specs[i].endpoints.push_back(std::move(endpoint));
    }
  }
  co_return specs;
}

awaitable<Status> Jobs::start(std::shared_ptr<Job> job) {
  std::vector<std::string> nodes;
  CO_TRY(std::vector<ContainerSpec> specs, co_await plan_containers(*job, nodes));
  LaunchPlan plan;
  for (const ContainerSpec& spec : specs) {
    for (const Endpoint& endpoint : spec.endpoints) {
      if (endpoint.fabric == job->spec.fabric) plan.addresses.push_back(endpoint.address);
    }
  }
  plan.bridge = node_.config().find_fabric(job->spec.fabric)->bridge;
  plan.output_path = job->directory + "/output";
  plan.exit_path = job->directory + "/exit";
  CO_TRY(const std::string root, bundle_root(specs.front()));
  for (const char* const library : kFinalizeLibraries) {
    if (plan.preload.empty() && fs::exists(root + library)) plan.preload = library;
  }
  CO_CHECK_OK(not_killed(*job));
  CO_TRY(Launch launch, co_await launch_mpiexec(job->spec, plan));
  job->mpiexec = std::move(launch.mpiexec);
  CO_CHECK_OK(not_killed(*job));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    specs[i].command = launch.proxies[i];
    job->containers.push_back(specs[i].id);
    json::object params{{"spec", to_json(specs[i])}};
    auto created = co_await agent_.call(nodes[i], "container.create", std::move(params));
    if (!created) {
      co_return tl::unexpected<Error>(
          created.error().context("container " + specs[i].id + " on node " + nodes[i]));
    }
  }
  log::info("job started", {{"job", job->spec.name},
                            {"containers", std::to_string(job->containers.size())}});
  co_return co_await save(job);
}

// mpiexec hears nothing from a container whose node has lost its power: it would wait for ever. A
// container that no node has had for a while is lost; one whose node is merely silent gets longer.
awaitable<std::string> Jobs::find_lost(const Job& job, std::map<std::string, int>& missed) {
  std::vector<std::string> compute = compute_nodes();
  const auto answers = co_await agent_.call_all(compute, "node.info", json::object{});
  std::set<std::string> present;
  std::map<std::string, std::string> reasons;
  std::string silent;
  for (std::size_t i = 0; i < compute.size(); ++i) {
    if (!answers[i]) silent += " " + compute[i];
    if (answers[i]) collect_lost(*answers[i], compute[i], job, reasons);
    auto list = answers[i] ? get_array(*answers[i], "containers")
                           : Result<const json::array*>(tl::unexpected<Error>(answers[i].error()));
    if (!list) continue;
    for (const json::value& item : **list) {
      if (item.is_object()) present.insert(string_or(item.get_object(), "id"));
    }
  }
  for (const std::string& id : job.containers) {
    int& looks = missed[id];
    looks = present.contains(id) ? 0 : looks + 1;
    if (looks == 0) continue;
    const auto reason = reasons.find(id);
    if (reason != reasons.end() && looks > 1) co_return "container " + id + " is lost: " + reason->second;
    if (looks < (silent.empty() ? kLooksUntilLost : kLooksUntilLostSilent)) continue;
    auto record = co_await node_.owners().find(id);
    std::string last;
    if (record && *record) last = "; it was last on node " + (*record)->ownership.owner;
    co_return "container " + id + " is on no node" +
        (silent.empty() ? "" : " that answers; silent:" + silent) + last;
  }
  co_return "";
}

// A job that fails may have heard of the end of a container before we looked; empty: none was lost.
awaitable<std::string> Jobs::why_lost(const Job& job) {
  const std::vector<std::string> compute = compute_nodes();
  const auto answers = co_await agent_.call_all(compute, "node.info", json::object{});
  std::map<std::string, std::string> reasons;
  for (std::size_t i = 0; i < compute.size(); ++i) {
    if (answers[i]) collect_lost(*answers[i], compute[i], job, reasons);
  }
  for (const std::string& id : job.containers) {
    if (const auto at = reasons.find(id); at != reasons.end()) {
      co_return "container " + id + " was lost: " + at->second;
    }
  }
  co_return "";
}

std::vector<std::string> Jobs::compute_nodes() const {
  std::vector<std::string> names;
  for (const NodeConfig& node : node_.config().nodes) {
    if (node.role == NodeRole::kCompute) names.push_back(node.name);
  }
  return names;
}

awaitable<void> Jobs::follow(std::shared_ptr<Job> job) {
  std::map<std::string, int> missed;
  while (job->mpiexec.valid() && job->mpiexec.running()) {
    auto ended = co_await job->mpiexec.wait_for(kLookInterval);
    if (ended) break;
    const std::string lost = co_await find_lost(*job, missed);
    if (lost.empty()) continue;
    job->error = lost;
    log::error("job lost a container, ending it", {{"job", job->spec.name}, {"reason", lost}});
    job->mpiexec.signal_group(SIGKILL);
  }
  auto code = read_file(job->directory + "/exit", 16);
  if (code) job->exit_code = static_cast<int>(std::strtol(code->c_str(), nullptr, 10));
  if (job->error.empty() && job->exit_code.value_or(1) != 0) job->error = co_await why_lost(*job);
  // mpiexec may call its own end by a signal a success.
  if (!job->error.empty() && job->exit_code.value_or(0) == 0) job->exit_code = 128 + SIGTERM;
  co_await remove_containers(job->containers);
  job->running = false;
  (void)co_await save(job);
  log::info("job ended", {{"job", job->spec.name},
                          {"exit_code", job->exit_code ? std::to_string(*job->exit_code) : "unknown"}});
}

awaitable<void> Jobs::remove_containers(std::vector<std::string> ids) {
  const std::vector<std::string> compute = compute_nodes();
  for (const std::string& id : ids) {
    json::object params{{"id", id}};
    (void)co_await agent_.call_all(compute, "container.remove", std::move(params));
    // Where a node did not answer: if it comes back with one, it ends it.
    auto ended = co_await node_.owners().end_anywhere(id);
    if (!ended) log::warn("a container is not ended in the registry", {{"reason", ended.error().message}});
  }
}

Result<json::object> Jobs::get(const json::object& params) const {
  TRY(const std::shared_ptr<Job> job, find(params));
  return describe(*job);
}

Result<json::object> Jobs::list() const {
  json::array jobs;
  for (const auto& [name, job] : jobs_) jobs.push_back(describe(*job));
  return json::object{{"jobs", std::move(jobs)}};
}

Result<json::object> Jobs::logs(const json::object& params) const {
  constexpr std::size_t kChunkBytes = 256 * 1024;
  TRY(const std::shared_ptr<Job> job, find(params));
  const auto offset = get_u64(params, "offset").value_or(0);
  Fd file(::open((job->directory + "/output").c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(kChunkBytes, '\0');
  const ssize_t n =
      file ? ::pread(file.get(), text.data(), text.size(), static_cast<off_t>(offset)) : 0;
  if (n < 0) return fail_errno("read the output of job '" + job->spec.name + "'");
  text.resize(static_cast<std::size_t>(n));
  // Whole lines while it runs, so that launch lines can be told from output.
  if (job->running) text.resize(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1);
  return json::object{{"text", without_launch_lines(text)},
                      {"offset", offset + text.size()},
                      {"running", job->running},
                      {"error", job->error}};
}

awaitable<Result<json::object>> Jobs::kill(json::object params) {
  CO_TRY(const std::shared_ptr<Job> job, find(params));
  if (!job->running) {
    co_return fail(Errc::kConflict, "job '" + job->spec.name + "' has ended already");
  }
  // mpiexec is a child of the shell that keeps its status; the shell leads the process group.
  job->error = "ended by lifeboat kill";
  job->mpiexec.signal_group(SIGTERM);
  constexpr Milliseconds kGrace{3000};
  auto process = Process::open(job->mpiexec.pid());
  if (process) {
    auto ended = co_await process->wait_for(kGrace);
    if (!ended) job->mpiexec.signal_group(SIGKILL);
  }
  co_return describe(*job);
}

void Jobs::adopt_all() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(node_.config().paths.state_dir + "/jobs", error)) {
    const std::string directory = entry.path();
    auto text = read_file(directory + "/record.json");
    auto yaml = read_file(directory + "/job.yaml");
    if (!text || !yaml) continue;
    auto record = parse_object(*text);
    auto spec = parse_job(*yaml, directory + "/job.yaml");
    if (!record || !spec) continue;
    auto job = std::make_shared<Job>();
    job->spec = std::move(*spec);
    job->directory = directory;
    job->started_at = string_or(*record, "started_at");
    job->error = string_or(*record, "error");
    job->containers = get_strings(*record, "containers", kListMax).value_or(std::vector<std::string>{});
    job->slurm_job = get_u64(*record, "slurm_job").value_or(0);
    job->allocation = get_strings(*record, "allocation", kListMax).value_or(std::vector<std::string>{});
    job->asked_by = string_or(*record, "asked_by");
    const auto pid = static_cast<pid_t>(get_u64(*record, "mpiexec_pid").value_or(0));
    const auto start_time = get_u64(*record, "mpiexec_start_time").value_or(0);
    const bool was_running = string_or(*record, "state") == "running";
    if (was_running && start_time != 0 && process_start_time(pid) == start_time) {
      if (auto process = Process::open(pid)) job->mpiexec = std::move(*process);
    }
    job->running = was_running;
    jobs_[job->spec.name] = job;
    if (was_running) {
      run_detached(node_.executor(), "following a job", follow(job));
    } else if (auto code = read_file(directory + "/exit", 16)) {
      job->exit_code = static_cast<int>(std::strtol(code->c_str(), nullptr, 10));
    }
  }
}

}  // namespace lifeboat
