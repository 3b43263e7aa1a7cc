#include "base/cgroup.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <thread>

#include "base/file.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

Result<std::string> Cgroup::mount_point() {
  constexpr long kCgroup2Magic = 0x63677270;
  for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    struct statfs info {};
    if (::statfs(path, &info) == 0 && static_cast<long>(info.f_type) == kCgroup2Magic) return path;
  }
  return fail(Errc::kUnavailable,
              "cgroup v2 is mounted neither at /sys/fs/cgroup nor at /sys/fs/cgroup/unified; mount "
              "it: mount -t cgroup2 none /sys/fs/cgroup/unified");
}

Result<Cgroup> Cgroup::create(const std::string& parent, const std::string& name) {
  TRY(const std::string top, mount_point());
  const std::string path = top + "/" + parent + "/" + name;
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) return fail(Errc::kSystem, "create cgroup " + parent + ": " + error.message());
  const bool made = ::mkdir(path.c_str(), 0755) == 0;
  if (!made && errno != EEXIST) return fail_errno("create cgroup " + path);
  Cgroup cgroup(path);
  if (Status opened = cgroup.open_control(); !opened) {
    if (made) ::rmdir(path.c_str());
    return tl::unexpected<Error>(opened.error());
  }
  if (!made) {
    if (!cgroup.pids().empty()) return fail(Errc::kConflict, "cgroup " + path + " exists and holds processes");
    CHECK_OK(cgroup.thaw());
  }
  return cgroup;
}

Status Cgroup::open_control() {
  const std::string file = path_ + "/cgroup.freeze";
  control_ = std::make_shared<Fd>(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!*control_) return fail_errno("open " + file);
  return {};
}

Status Cgroup::set_frozen(bool frozen) const {
  if (::pwrite(control_->get(), frozen ? "1" : "0", 1, 0) == 1) return {};
  return fail_errno((frozen ? "freeze cgroup " : "thaw cgroup ") + path_);
}

Result<Cgroup> Cgroup::open(const std::string& parent, const std::string& name) {
  TRY(const std::string top, mount_point());
  Cgroup cgroup(top + "/" + parent + "/" + name);
  CHECK_OK(cgroup.open_control());
  return cgroup;
}

Result<Cgroup> Cgroup::own() {
  TRY(const std::string top, mount_point());
  TRY(const std::string text, read_file("/proc/self/cgroup"));
  // The line of cgroup2 is "0::/path".
  const auto at = text.rfind("0::/", 0) == 0 ? 0 : text.find("\n0::/");
  if (at == std::string::npos) return fail(Errc::kSystem, "/proc/self/cgroup names no cgroup2");
  const auto start = text.find("0::", at) + 3;
  return Cgroup(top + text.substr(start, text.find('\n', start) - start));
}

std::vector<std::string> Cgroup::children(const std::string& parent) {
  std::vector<std::string> names;
  auto top = mount_point();
  if (!top) return names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(*top + "/" + parent, error)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  return names;
}

bool Cgroup::limit_memory(std::uint64_t bytes) const {
  return write_value(path_ + "/memory.max", std::to_string(bytes)).has_value();
}

bool Cgroup::event_is(const char* key, char value) const {
  auto text = read_file(path_ + "/cgroup.events", 4096);
  if (!text) return false;
  const auto at = text->find(std::string(key) + " ");
  return at != std::string::npos && (*text)[at + std::string(key).size() + 1] == value;
}

// The tasks that keep the cgroup from freezing; it is thawed again.
Status Cgroup::not_frozen(Milliseconds limit) const {
  std::string stuck;
  for (pid_t pid : pids()) {
    auto wchan = read_file("/proc/" + std::to_string(pid) + "/wchan", 256);
    stuck += " " + std::to_string(pid) + (wchan ? "(" + *wchan + ")" : "");
  }
  (void)thaw();
  return fail(Errc::kTimeout, "the tasks did not freeze within " + std::to_string(limit.count()) +
                                  " ms; still running:" + stuck);
}

bool Cgroup::frozen_soon() const {
  // Freezing takes 0.03-0.3 ms: look a few times before sleeping.
  constexpr int kLooks = 100;
  for (int look = 0; look < kLooks; ++look) {
    if (event_is("frozen", '1')) return true;
    ::usleep(20);
  }
  return false;
}

awaitable<Status> Cgroup::freeze(Milliseconds limit) const {
  CO_CHECK_OK(hold());
  const auto deadline = SteadyClock::now() + limit;
  if (frozen_soon()) co_return Status{};
  while (!event_is("frozen", '1')) {
    if (SteadyClock::now() >= deadline) co_return not_frozen(limit);
    co_await sleep_for(Milliseconds(1));
  }
  co_return Status{};
}

Status Cgroup::freeze_now(Milliseconds limit) const {
  CHECK_OK(hold());
  const auto deadline = SteadyClock::now() + limit;
  while (!frozen_soon()) {
    if (SteadyClock::now() >= deadline) return not_frozen(limit);
  }
  return {};
}

Status Cgroup::freeze_briefly() const {
  constexpr Milliseconds kLimit{200};
  constexpr Milliseconds kPause{100};
  constexpr int kAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    auto frozen = freeze_now(kLimit);
    const bool late = !frozen && frozen.error().code == Errc::kTimeout;
    if (!late || attempt == kAttempts) return frozen;
    std::this_thread::sleep_for(kPause);
  }
}

Status Cgroup::thaw() const { return set_frozen(false); }

std::vector<pid_t> Cgroup::pids() const {
  std::vector<pid_t> found;
  auto text = read_file(procs_file());
  if (!text) return found;
  std::istringstream lines(*text);
  for (pid_t pid; lines >> pid;) found.push_back(pid);
  return found;
}

Status Cgroup::kill() const { return write_value(path_ + "/cgroup.kill", "1"); }

Status Cgroup::remove(Milliseconds limit) const {
  if (::access(path_.c_str(), F_OK) != 0) return {};
  (void)kill();
  const auto deadline = SteadyClock::now() + limit;
  while (::rmdir(path_.c_str()) != 0) {
    if (errno == ENOENT) return {};
    if (errno != EBUSY) return fail_errno("remove cgroup " + path_);
    if (SteadyClock::now() >= deadline) {
      return fail(Errc::kTimeout, "remove cgroup " + path_ + ": its processes did not end");
    }
    ::usleep(1000);
  }
  return {};
}

}  // namespace lifeboat
