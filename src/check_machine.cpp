#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "base/cgroup.hpp"
#include "base/file.hpp"
#include "base/process.hpp"
#include "base/text.hpp"
#include "check.hpp"
#include "criu_glue/kernel_api.hpp"
#include "preflight.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

const char* to_string(Fitness fitness) {
  switch (fitness) {
    case Fitness::kOk: return "ok";
    case Fitness::kWarning: return "warning";
    case Fitness::kError: return "error";
  }
  return "?";
}

json::object to_json(const Finding& finding) {
  return {{"result", to_string(finding.fitness)}, {"subject", finding.subject}, {"found", finding.found},
          {"why", finding.why},                   {"fix", finding.fix}};
}

void Findings::ok(std::string subject, std::string found) {
  all_.push_back({Fitness::kOk, std::move(subject), std::move(found), "", ""});
}
void Findings::warning(std::string subject, std::string found, std::string why, std::string fix) {
  all_.push_back({Fitness::kWarning, std::move(subject), std::move(found), std::move(why), std::move(fix)});
}
void Findings::error(std::string subject, std::string found, std::string why, std::string fix) {
  all_.push_back({Fitness::kError, std::move(subject), std::move(found), std::move(why), std::move(fix)});
}
void Findings::append(Findings other) {
  std::move(other.all_.begin(), other.all_.end(), std::back_inserter(all_));
}

Fitness Findings::fitness() const {
  Fitness worst = Fitness::kOk;
  for (const Finding& finding : all_) worst = std::max(worst, finding.fitness);
  return worst;
}

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

std::string mib_text(std::uint64_t bytes) { return std::to_string(bytes / kMiB) + " MiB"; }

void look_at_kernel(Findings& out) {
  utsname name{};
  ::uname(&name);
  int major = 0;
  int minor = 0;
  (void)std::sscanf(name.release, "%d.%d", &major, &minor);
  const int number = major * 100 + minor;
  if (number < 514) {
    out.error("kernel", name.release, "containers are started in, frozen in and ended by their cgroup (Linux 5.14)",
              "install a newer kernel; Debian 12 has 6.1");
  } else if (number < 607) {
    out.warning("kernel", name.release,
                "before Linux 6.7 there is no PAGEMAP_SCAN: what a container writes is found by soft-dirty bits, slower",
                "install a newer kernel, for instance from bookworm-backports");
  } else {
    out.ok("kernel", name.release);
  }
}

void look_at_tracking(Findings& out) {
  const Fd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED;
  if (uffd && ::ioctl(uffd.get(), UFFDIO_API, &api) == 0) {
    out.ok("dirty tracking", "userfaultfd with asynchronous write protection");
    return;
  }
  // The bit is there for every page of a kernel that has them, until somebody clears it.
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const Fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::uint64_t entry = 0;
  const volatile int here = 0;
  const auto at = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(&here) / page * sizeof entry);
  const bool bits = pagemap && ::pread(pagemap.get(), &entry, sizeof entry, at) == sizeof entry &&
                    (entry & (1ULL << 55)) != 0;
  if (bits) {
    out.warning("dirty tracking", "soft-dirty bits", "each round of pre-copy looks at all page tables",
                "a kernel from 6.7 on, with CONFIG_USERFAULTFD");
  } else {
    out.error("dirty tracking", uffd ? "none that this kernel offers" : "no userfaultfd",
              "without it memory can only be sent while the container is frozen, or after it was (--mode)",
              "a kernel from 6.7 on, with CONFIG_USERFAULTFD; outside a restricted container");
  }
}

void look_at_rights(Findings& out) {
  if (::geteuid() != 0) {
    out.error("root", "this is user " + std::to_string(::geteuid()), "most of what follows is for root alone",
              "run this as root");
    return;
  }
  struct Right {
    int number;
    const char* name;
    bool needed;
  };
  constexpr Right kRights[] = {{CAP_SYS_ADMIN, "CAP_SYS_ADMIN", true},
                               {CAP_NET_ADMIN, "CAP_NET_ADMIN", true},
                               {CAP_SYS_PTRACE, "CAP_SYS_PTRACE", true},
                               {CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", true},
                               {CAP_KILL, "CAP_KILL", true},
                               {CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE", false},
                               {CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", false}};
  const std::uint64_t effective = effective_capabilities(read_file("/proc/self/status", 16384).value_or(""));
  std::string needed;
  std::string wanted;
  for (const Right& right : kRights) {
    if ((effective >> right.number & 1) != 0) continue;
    std::string& list = right.needed ? needed : wanted;
    list += (list.empty() ? "" : ", ") + std::string(right.name);
  }
  if (!needed.empty()) {
    out.error("privileges", "without " + needed, "containers, their networks and CRIU need them",
              "run this on the machine itself, or in a privileged container");
  } else if (!wanted.empty()) {
    out.warning("privileges", "without " + wanted,
                "CRIU can then move processes of root alone: limits of others are hidden from it",
                "run this on the machine itself, or in a privileged container");
  } else {
    out.ok("privileges", "all");
  }
}

void look_at_cgroup(const Config& config, Findings& out) {
  auto mount = Cgroup::mount_point();
  if (!mount) {
    out.error("cgroup v2", mount.error().message, "a container is frozen, counted and ended by its cgroup",
              "mount -t cgroup2 cgroup2 /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1");
    return;
  }
  const std::string listed = read_file(*mount + "/cgroup.controllers", 4096).value_or("");
  const std::string controllers = " " + std::string(trimmed(listed)) + " ";
  if (controllers.find(" memory ") == std::string::npos) {
    out.warning("cgroup v2", *mount + ", without the memory controller",
                "the memory of containers is not limited: one that grows takes what others were promised",
                "boot with systemd.unified_cgroup_hierarchy=1");
  } else {
    out.ok("cgroup v2", *mount + ", containers below " + config.paths.cgroup);
  }
}

awaitable<void> look_at_runtime(const Config& config, Findings& out) {
  // Even to say its version it makes a directory for its records.
  std::string records = (fs::temp_directory_path() / "lifeboat-check-XXXXXX").string();
  if (::mkdtemp(records.data()) == nullptr) records.clear();
  SpawnOptions options;
  options.argv = {config.paths.crun, "--root", records, "--version"};
  auto done = co_await run_tool(std::move(options), Milliseconds(10'000));
  if (!records.empty()) (void)remove_tree(records);
  if (done && done->status.code == 0) {
    out.ok("crun", done->text.substr(0, done->text.find('\n')));
  } else {
    out.error("crun",
              done ? "status " + std::to_string(done->status.code) + ": " + std::string(trimmed(done->text))
                   : done.error().message,
              "it starts the containers", "install crun, or say where it is: paths.crun in the configuration");
  }
}

awaitable<void> look_at_criu(const Config& config, Findings& out) {
  const NodeFacts facts = co_await gather_facts(config);
  if (facts.criu_version == 0) {
    out.error("criu", facts.criu_problem, "no container can be moved from or to this node",
              "install lifeboat-criu, or say where a newer one is: paths.criu in the configuration");
  } else {
    out.ok("criu", criu_version_text(facts.criu_version) + ", its own check passes");
  }
}

// The part of a path that is there.
std::string existing(fs::path path) {
  std::error_code error;
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return path;
}

void look_at_directory(const std::string& key, const std::string& path, std::uint64_t least, Findings& out) {
  const std::string subject = "paths." + key;
  const std::string there = existing(path);
  struct statvfs info {};
  if (::statvfs(there.c_str(), &info) != 0 || ::access(there.c_str(), W_OK) != 0 || (info.f_flag & ST_RDONLY) != 0) {
    out.error(subject, there + " cannot be written", "the daemon does not start, or forgets what it did",
              "mount it for writing, or name another place");
    return;
  }
  const std::uint64_t room = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  if (room < least) {
    out.warning(subject, path + ", room for " + mib_text(room), "what does not fit there ends a migration",
                "make room for at least " + mib_text(least));
  } else {
    out.ok(subject, path + ", room for " + mib_text(room));
  }
}

void look_at_memory(const Config& config, const NodeConfig& self, Findings& out) {
  struct sysinfo info {};
  ::sysinfo(&info);
  const std::uint64_t total = static_cast<std::uint64_t>(info.totalram) * info.mem_unit;
  const std::uint64_t promised = self.memory_bytes;
  if (self.role == NodeRole::kHead && promised == 0) {
    out.ok("memory", mib_text(total) + ", none of it for containers");
  } else if (promised > total) {
    out.error("memory", mib_text(total) + ", but nodes: " + self.name + " says " + mib_text(promised),
              "containers are accepted that this node has no room for", "correct memory: of this node");
  } else {
    out.ok("memory", mib_text(total) + ", " + mib_text(promised) + " of it for containers");
  }
  std::uint64_t swap = static_cast<std::uint64_t>(info.totalswap) * info.mem_unit;
  if (swap > 0 && config.security.encrypt_pages) {
    out.warning("swap", mib_text(swap), "pages of containers may reach a disk in the clear",
                "swapoff -a, or encrypt the swap");
  }
}

void look_at_pipes(Findings& out) {
  const std::string pages(trimmed(read_file("/proc/sys/fs/pipe-user-pages-soft", 64).value_or("0")));
  const std::uint64_t soft = std::strtoull(pages.c_str(), nullptr, 10);
  constexpr std::uint64_t kPipePages = 16384;
  if (soft != 0 && soft < kPipePages) {
    out.warning("pipes", "fs.pipe-user-pages-soft = " + pages, "--mode criu-images dumps through large pipes",
                "sysctl fs.pipe-user-pages-soft=" + std::to_string(kPipePages));
  } else {
    out.ok("pipes", "fs.pipe-user-pages-soft = " + pages);
  }
}

void look_at_clock(Findings& out) {
  timex state{};
  if (::adjtimex(&state) == TIME_ERROR || (state.status & STA_UNSYNC) != 0) {
    out.warning("clock", "nothing keeps it right", "certificates are good between two times; reports carry the time",
                "install chrony or systemd-timesyncd");
  } else {
    out.ok("clock", "synchronised");
  }
}

// bits/s of the slowest network card below the bridge; 0: it has none that says.
std::uint64_t slowest_port(const std::string& bridge) {
  std::uint64_t slowest = 0;
  std::error_code error;
  for (const auto& port : fs::directory_iterator("/sys/class/net/" + bridge + "/brif", error)) {
    const std::string card = "/sys/class/net/" + port.path().filename().string();
    if (!fs::exists(card + "/device", error)) continue;  // the cable of a container
    const long long mbit = std::atoll(read_file(card + "/speed", 64).value_or("0").c_str());
    if (mbit <= 0) continue;
    const std::uint64_t bits = static_cast<std::uint64_t>(mbit) * 1'000'000;
    slowest = slowest == 0 ? bits : std::min(slowest, bits);
  }
  return slowest;
}

void look_at_fabric(const FabricConfig& fabric, Findings& out) {
  const std::string subject = "fabric " + fabric.name;
  const std::string directory = "/sys/class/net/" + fabric.bridge;
  std::error_code error;
  if (!fs::exists(directory, error)) {
    out.error(subject, "there is no interface " + fabric.bridge, "containers of this node are plugged into it",
              "make the bridge, with the network card of this fabric in it (README.md, Network)");
    return;
  }
  if (!fs::exists(directory + "/bridge", error)) {
    out.error(subject, fabric.bridge + " is no bridge", "containers of this node are plugged into it",
              "make a bridge of that name, with the network card of this fabric in it");
    return;
  }
  const unsigned long flags = std::strtoul(read_file(directory + "/flags", 64).value_or("0").c_str(), nullptr, 16);
  if ((flags & IFF_UP) == 0) {
    out.error(subject, fabric.bridge + " is down", "nothing goes over it", "ip link set " + fabric.bridge + " up");
    return;
  }
  const std::uint64_t port = slowest_port(fabric.bridge);
  const std::string mtu(trimmed(read_file(directory + "/mtu", 64).value_or("?")));
  if (port != 0 && port < fabric.rate_bits_per_s) {
    out.warning(subject, fabric.bridge + " runs at " + std::to_string(port / 1'000'000) + " Mbit/s, not " +
                             std::to_string(fabric.rate_bits_per_s / 1'000'000),
                "plans and predictions count on its rate", "look at the cable and the switch, or correct rate:");
  } else {
    out.ok(subject, fabric.bridge + ", MTU " + mtu);
  }
}

}  // namespace

std::uint64_t open_files_max() {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  return files.rlim_max;
}

void look_at_open_files(std::uint64_t most, Findings& out) {
  constexpr std::uint64_t kFiles = 65536;
  if (most < kFiles) {
    out.warning("open files", "at most " + std::to_string(most),
                "a container with many files and connections cannot be restored",
                "LimitNOFILE=" + std::to_string(kFiles) + " (the units of the package have it)");
  } else {
    out.ok("open files", "at most " + std::to_string(most));
  }
}

awaitable<Findings> check_machine(const Config& config, std::string self, bool limits) {
  Findings out;
  const NodeConfig& node = *config.find_node(self);
  look_at_rights(out);
  look_at_kernel(out);
  look_at_tracking(out);
  look_at_cgroup(config, out);
  co_await look_at_criu(config, out);
  co_await look_at_runtime(config, out);
  look_at_directory("state_dir", config.paths.state_dir, 64 * kMiB, out);
  look_at_directory("run_dir", config.paths.run_dir, 64 * kMiB, out);
  if (!is_on_tmpfs(existing(config.paths.run_dir))) {
    out.warning("paths.run_dir", config.paths.run_dir + " is on a disk", "images of containers would be written there",
                "name a directory on a tmpfs, such as /run/lifeboat");
  }
  look_at_memory(config, node, out);
  if (limits) look_at_open_files(open_files_max(), out);
  look_at_pipes(out);
  look_at_clock(out);
  for (const FabricConfig& fabric : config.fabrics) look_at_fabric(fabric, out);
  co_return out;
}

}  // namespace lifeboat
