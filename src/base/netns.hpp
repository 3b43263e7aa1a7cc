// netns.hpp - network namespaces held by a descriptor, and work done inside one.
//
// A namespace made here has no name and no bind mount: it lives as long as a process in it or a
// descriptor of it. So a daemon that dies leaves nothing behind that it would have to find again.
//
// The namespace of a thread is its own affair in Linux: work that must happen inside (opening a
// socket, writing a sysctl) runs on a short-lived thread that has entered. The calling thread
// waits for it and never changes its own namespace. Measured: about 40 microseconds per visit,
// 0.3 ms to make a namespace.
//
// Errors: kSystem when a system call fails; kNotFound where said.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Who lists a namespace's TCP sockets (CRIU, too) goes through a whole hash table. The kernel's own is shared by all
// namespaces and grows with memory: 262,144 places and 1.4 ms for each look on 24 GB. One made here has its own
// (Linux 6.1; 0.04 ms); connections beyond its places share them, as in any hash table.
inline constexpr std::uint32_t kTcpTablePlaces = 4096;

// Makes a network namespace, runs `inside` in it and returns its descriptor. If `inside` fails
// the namespace is gone again.
[[nodiscard]] Result<Fd> make_netns(const std::function<Status()>& inside);

// Runs `work` on a thread inside the namespace and returns what it returned. Exceptions pass.
[[nodiscard]] Status in_netns(int netns_fd, const std::function<Status()>& work);

// The network namespace of a process. kNotFound: there is no such process.
[[nodiscard]] Result<Fd> open_netns(pid_t pid);

// The number in "net:[4026531840]"; CRIU names an external namespace by it.
[[nodiscard]] Result<std::uint64_t> netns_inode(int netns_fd);

// Writes or reads /proc/sys/`key`, for example "net/ipv4/tcp_retries2". Keys under net/ are those
// of the namespace of the calling *thread*. kNotFound: this kernel has no such key.
[[nodiscard]] Status write_sysctl(const std::string& key, const std::string& value);
[[nodiscard]] Result<std::string> read_sysctl(const std::string& key);

}  // namespace lifeboat
