#include "base/netns.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>
#include <future>
#include <system_error>
#include <thread>

namespace lifeboat {
namespace {

// Runs `work` on a thread of its own and waits for the thread to be gone.
Status on_own_thread(const std::function<Status()>& work) {
  std::packaged_task<Status()> task(work);
  std::future<Status> outcome = task.get_future();
  try {
    std::thread(std::move(task)).join();
  } catch (const std::system_error& error) {
    return fail_task("start a thread", error.code().value());
  }
  return outcome.get();
}

Result<Fd> open_sysctl(const std::string& key, int flags) {
  const std::string path = "/proc/sys/" + key;
  Fd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (fd) return fd;
  if (errno == ENOENT) return fail(Errc::kNotFound, "this kernel has no " + path);
  return fail_errno("open " + path);
}

}  // namespace

Result<Fd> make_netns(const std::function<Status()>& inside) {
  Fd netns;
  CHECK_OK(on_own_thread([&]() -> Status {
    // How large a table is says the namespace that one is made in: another, so that the node's setting stays.
    if (::unshare(CLONE_NEWNET) != 0) return fail_errno("make a network namespace");
    const Status sized = write_sysctl("net/ipv4/tcp_child_ehash_entries", std::to_string(kTcpTablePlaces));
    if (!sized && sized.error().code != Errc::kNotFound) return sized;
    if (sized && ::unshare(CLONE_NEWNET) != 0) return fail_errno("make a network namespace");
    netns.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!netns) return fail_errno("open /proc/thread-self/ns/net");
    return inside();
  }));
  return netns;
}

Status in_netns(int netns_fd, const std::function<Status()>& work) {
  return on_own_thread([&]() -> Status {
    if (::setns(netns_fd, CLONE_NEWNET) != 0) return fail_errno("enter the network namespace");
    return work();
  });
}

Result<Fd> open_netns(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd) return fd;
  if (errno == ENOENT || errno == ESRCH) {
    return fail(Errc::kNotFound, "no process " + std::to_string(pid) + " to take a network from");
  }
  return fail_errno("open " + path);
}

Result<std::uint64_t> netns_inode(int netns_fd) {
  struct stat status {};
  if (::fstat(netns_fd, &status) != 0) return fail_errno("stat the network namespace");
  return static_cast<std::uint64_t>(status.st_ino);
}

Status write_sysctl(const std::string& key, const std::string& value) {
  TRY(Fd fd, open_sysctl(key, O_WRONLY));
  const ssize_t written = ::write(fd.get(), value.data(), value.size());
  if (written < 0) return fail_errno("write " + value + " to /proc/sys/" + key);
  return {};
}

Result<std::string> read_sysctl(const std::string& key) {
  TRY(Fd fd, open_sysctl(key, O_RDONLY));
  std::array<char, 4096> buffer;
  const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
  if (size < 0) return fail_errno("read /proc/sys/" + key);
  std::string text(buffer.data(), static_cast<std::size_t>(size));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace lifeboat
