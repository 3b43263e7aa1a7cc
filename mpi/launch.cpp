#include "launch.hpp"

#include <fcntl.h>

#include <algorithm>
#include <sstream>

#include "base/file.hpp"

namespace lifeboat {
namespace {

constexpr std::string_view kLaunchPrefix = "HYDRA_LAUNCH: ";
constexpr std::string_view kLaunchEnd = "HYDRA_LAUNCH_END";

// Words separated by blanks; "quoted ones" stay together.
std::vector<std::string> split_words(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  bool quoted = false;
  bool any = false;
  for (char c : line) {
    if (c == '"') {
      quoted = !quoted;
      any = true;
    } else if (!quoted && (c == ' ' || c == '\t')) {
      if (any || !word.empty()) words.push_back(std::exchange(word, {}));
      any = false;
    } else {
      word += c;
    }
  }
  if (any || !word.empty()) words.push_back(std::move(word));
  return words;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> rank_environment(const JobSpec& job,
                                                                  const LaunchPlan& plan) {
  std::vector<std::pair<std::string, std::string>> env = {
      {"PATH", "/usr/local/bin:/usr/bin:/bin"},
      {"HOME", "/tmp"},
      // TCP and shared memory in the container can be moved; RDMA and SysV memory cannot.
      {"UCX_TLS", job.ranks_per_container > 1 ? "tcp,self,posix" : "tcp,self"},
      // Of the memory it receives in, 64 messages at a time rather than 512: 0.5 MB per rank instead of 4,
      // which CRIU carries while the container is frozen.
      {"UCX_POSIX_RX_BUFS_GROW", "64"},
      {"UCX_NET_DEVICES", job.fabric},
      // UCX arms TCP keepalive (10 s, 3 probes): a peer's kernel would reset the connection of a
      // rank that is frozen for longer, and neither rank would notice.
      {"UCX_TCP_KEEPIDLE", "inf"},
      {"UCX_TCP_KEEPINTVL", "inf"},
      {"UCX_KEEPALIVE_INTERVAL", "inf"},
      {"UCX_VFS_ENABLE", "n"},
      {"UCX_WARN_UNUSED_ENV_VARS", "n"},
      // One thread per rank unless the job says otherwise.
      {"OPENBLAS_NUM_THREADS", "1"},
      {"OMP_NUM_THREADS", "1"},
  };
  if (!plan.preload.empty()) env.emplace_back("LD_PRELOAD", plan.preload);
  for (const auto& [key, value] : job.env) {
    std::erase_if(env, [&](const auto& item) { return item.first == key; });
    env.emplace_back(key, value);
  }
  return env;
}

std::vector<std::string> mpiexec_command(const JobSpec& job, const LaunchPlan& plan) {
  std::string hosts;
  for (const std::string& address : plan.addresses) {
    if (!hosts.empty()) hosts += ",";
    hosts += address + ":" + std::to_string(job.ranks_per_container);
  }
  std::vector<std::string> command{"mpiexec.mpich", "-launcher", "manual",   "-iface",
                                   plan.bridge,     "-hosts",    hosts,      "-bind-to",
                                   "none",          "-genvnone",  "-wdir",
                                   job.cwd};
  for (const auto& [key, value] : rank_environment(job, plan)) {
    command.insert(command.end(), {"-genv", key, value});
  }
  const auto ranks = plan.addresses.size() * static_cast<std::size_t>(job.ranks_per_container);
  command.insert(command.end(), {"-n", std::to_string(ranks)});
  command.insert(command.end(), job.command.begin(), job.command.end());
  return command;
}

ProxyCommands parse_proxy_commands(const std::string& output) {
  ProxyCommands result;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(kLaunchPrefix, 0) == 0) {
      result.commands.push_back(split_words(line.substr(kLaunchPrefix.size())));
    } else if (line.rfind(kLaunchEnd, 0) == 0) {
      result.complete = true;
    }
  }
  return result;
}

std::string without_launch_lines(const std::string& output) {
  std::string kept;
  std::size_t start = 0;
  while (start < output.size()) {
    auto end = output.find('\n', start);
    end = end == std::string::npos ? output.size() : end + 1;
    if (output.compare(start, 12, "HYDRA_LAUNCH", 0, 12) != 0) kept.append(output, start, end - start);
    start = end;
  }
  return kept;
}

awaitable<Result<Launch>> launch_mpiexec(const JobSpec& job, const LaunchPlan& plan) {
  Fd output(::open(plan.output_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
  if (!output) co_return fail_errno("create " + plan.output_path);
  // Without room for the launch commands, mpiexec would print them in vain.
  constexpr off_t kLaunchBytes = 64 << 10;
  if (::fallocate(output.get(), FALLOC_FL_KEEP_SIZE, 0, kLaunchBytes) != 0 && errno != EOPNOTSUPP) {
    co_return fail_errno("make room for the job's output in " + plan.output_path);
  }
  SpawnOptions options;
  // The shell keeps the exit status where a restarted daemon finds it, and outlives mpiexec whatever
  // signal both get.
  options.argv = {"/bin/sh", "-c", R"(trap : TERM INT HUP; "$@"; echo $? >"$0.new"; mv "$0.new" "$0")", plan.exit_path};
  const std::vector<std::string> command = mpiexec_command(job, plan);
  options.argv.insert(options.argv.end(), command.begin(), command.end());
  options.stdout_fd = options.stderr_fd = output.get();
  Launch launch;
  CO_TRY(launch.mpiexec, co_await start(std::move(options)));

  constexpr int kTries = 500;  // of 20 ms
  for (int i = 0; i < kTries; ++i) {
    auto text = read_file(plan.output_path, 16 << 20);
    const ProxyCommands found = parse_proxy_commands(text.value_or(""));
    if (found.complete && found.commands.size() == plan.addresses.size()) {
      launch.proxies = found.commands;
      co_return launch;
    }
    if (!launch.mpiexec.running()) {
      co_return fail(Errc::kSystem, "mpiexec.mpich ended at once: " +
                                        (text && !text->empty() ? *text : "is mpich installed?"));
    }
    co_await sleep_for(Milliseconds(20));
  }
  launch.mpiexec.signal_group(SIGKILL);
  launch.mpiexec.kill_and_reap();
  co_return fail(Errc::kTimeout, "mpiexec.mpich did not print its launch commands");
}

}  // namespace lifeboat
