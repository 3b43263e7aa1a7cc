#include "preflight.hpp"

#include <linux/magic.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/process.hpp"
#include "base/text.hpp"
#include "criu_glue/diagnosis.hpp"
#include "criu_glue/dirty_tracker.hpp"

namespace lifeboat {
namespace {

std::vector<std::string> read_cpu_flags() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("flags", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::vector<std::string> flags{std::istream_iterator<std::string>(words), {}};
    std::sort(flags.begin(), flags.end());
    return flags;
  }
  return {};
}

// "Version: 4.2.1\n..." -> 40201
unsigned parse_criu_version(const std::string& text) {
  const auto at = text.find("Version: ");
  if (at == std::string::npos) return 0;
  unsigned major = 0;
  unsigned minor = 0;
  unsigned patch = 0;
  if (std::sscanf(text.c_str() + at, "Version: %u.%u.%u", &major, &minor, &patch) < 1) return 0;
  return major * 10000 + minor * 100 + patch;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

awaitable<void> look_at_criu(const Config& config, NodeFacts& facts) {
  constexpr Milliseconds kLimit{20'000};
  SpawnOptions version_options;
  version_options.argv = {config.paths.criu, "--version"};
  auto version = co_await run_tool(std::move(version_options), kLimit);
  if (!version) {
    facts.criu_problem = version.error().message + "; install CRIU or set paths.criu";
    co_return;
  }
  const unsigned number = parse_criu_version(version->text);
  if (number < kCriuVersionMin) {
    facts.criu_problem = config.paths.criu + " is too old or no CRIU (it says '" +
                         first_line(version->text) + "'); Lifeboat needs " +
                         criu_version_text(kCriuVersionMin) + " or newer";
    co_return;
  }
  SpawnOptions check_options;
  check_options.argv = {config.paths.criu, "check"};
  auto check = co_await run_tool(std::move(check_options), kLimit);
  if (!check || check->status.code != 0) {
    const std::string text = check ? check->text : check.error().message;
    facts.criu_problem = "CRIU " + criu_version_text(number) + " does not work on kernel " +
                         facts.kernel + ":" + criu_log_excerpt(text);
    const std::string advice = criu_advice(text);
    if (!advice.empty()) facts.criu_problem += "\n  likely cause: " + advice;
    co_return;
  }
  facts.criu_version = number;
}

// What the kernel can, this program may still not: for want of a privilege, or of a system call that a service
// manager keeps from it. So it is tried, on a process that is started as containers are.
awaitable<void> look_at_tracking(Tracking tracking, NodeFacts& facts) {
  SpawnOptions options;
  options.argv = {"sleep", "60"};
  auto process = co_await start(std::move(options));
  if (!process) {
    facts.tracking_problem = process.error().message;
    co_return;
  }
  const auto tracker = DirtyTracker::attach(process->pid(), tracking);
  if (!tracker) facts.tracking_problem = tracker.error().message;
  constexpr Milliseconds kLimit{2'000};
  process->signal(SIGKILL);
  (void)co_await process->wait_for(kLimit);
}

// CRIU's capabilities: those of a process that is started as it is, which need not be this one's.
awaitable<void> look_at_rights(NodeFacts& facts) {
  constexpr Milliseconds kLimit{10'000};
  constexpr unsigned kCapSysResource = 24;
  SpawnOptions options;
  options.argv = {"cat", "/proc/self/status"};
  const auto status = co_await run_tool(std::move(options), kLimit);
  if (!status) co_return;
  if ((effective_capabilities(status->text) >> kCapSysResource & 1U) == 0) facts.only_of_uid = ::geteuid();
}

}  // namespace

bool is_on_tmpfs(const std::string& directory) {
  struct statfs info {};
  return ::statfs(directory.c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC;
}

std::string criu_version_text(unsigned version) {
  std::string text =
      std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100);
  if (version % 100 != 0) text += "." + std::to_string(version % 100);
  return text;
}

awaitable<NodeFacts> gather_facts(const Config& config) {
  NodeFacts facts;
  utsname names{};
  ::uname(&names);
  facts.kernel = names.release;
  facts.machine = names.machine;
  facts.cpu_flags = read_cpu_flags();
  co_await look_at_criu(config, facts);
  co_await look_at_rights(facts);
  if (config.engine.tracking != Tracking::kNone) co_await look_at_tracking(config.engine.tracking, facts);
  co_return facts;
}

json::object to_json(const NodeFacts& facts) {
  json::array flags;
  for (const std::string& flag : facts.cpu_flags) flags.emplace_back(flag);
  return {{"kernel", facts.kernel},
          {"machine", facts.machine},
          {"cpu_flags", std::move(flags)},
          {"criu_version", facts.criu_version},
          {"criu_problem", facts.criu_problem}};
}

Result<NodeFacts> node_facts_from(const json::object& object) {
  NodeFacts facts;
  TRY(facts.kernel, get_string(object, "kernel"));
  TRY(facts.machine, get_string(object, "machine"));
  TRY(const std::uint64_t version, get_u64(object, "criu_version"));
  facts.criu_version = static_cast<unsigned>(version);
  facts.criu_problem = string_or(object, "criu_problem");
  TRY(const json::array* flags, get_array(object, "cpu_flags"));
  if (flags->size() > 4096) return fail(Errc::kProtocol, "cpu_flags: too many");
  for (const json::value& flag : *flags) {
    if (flag.is_string()) facts.cpu_flags.emplace_back(flag.get_string());
  }
  std::sort(facts.cpu_flags.begin(), facts.cpu_flags.end());
  return facts;
}

Status check_compatible(const NodeFacts& source, const NodeFacts& target) {
  if (source.criu_version == 0) return fail(Errc::kRefused, "at the source: " + source.criu_problem);
  if (target.criu_version == 0) return fail(Errc::kRefused, target.criu_problem);
  if (target.criu_version / 100 < source.criu_version / 100) {
    return fail(Errc::kRefused, "CRIU " + criu_version_text(target.criu_version) +
                                    " here is older than CRIU " +
                                    criu_version_text(source.criu_version) + " at the source");
  }
  if (source.machine != target.machine) {
    return fail(Errc::kRefused, "this node is " + target.machine + ", the source " + source.machine);
  }
  std::vector<std::string> missing;
  std::set_difference(source.cpu_flags.begin(), source.cpu_flags.end(), target.cpu_flags.begin(),
                      target.cpu_flags.end(), std::back_inserter(missing));
  if (!missing.empty()) {
    std::string list;
    for (std::size_t i = 0; i < missing.size() && i < 8; ++i) list += " " + missing[i];
    if (missing.size() > 8) list += " and " + std::to_string(missing.size() - 8) + " more";
    return fail(Errc::kRefused, "this node's CPU lacks what the source's has:" + list);
  }
  return {};
}

Status check_user(const NodeFacts& facts, unsigned uid) {
  if (!facts.only_of_uid || uid == *facts.only_of_uid) return {};
  const std::string only = std::to_string(*facts.only_of_uid);
  return fail(Errc::kRefused, "CRIU has no CAP_SYS_RESOURCE here, so it cannot move processes of uid " +
                                  std::to_string(uid) + "; give lifeboatd, or lifeboat-starter if there is one, "
                                  "that capability, or run the job as uid " + only + " (user: in its job file)");
}

std::uint64_t memory_available_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    unsigned long long kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu kB", &kib) == 1) return kib * 1024;
  }
  return 0;
}

}  // namespace lifeboat
