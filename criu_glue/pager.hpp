// pager.hpp - lifeboat-pager: the process that holds a container's pages at the target and puts them
// into its restored processes.
//
// One pager per arriving container, started by the daemon, and independent of it from the moment
// that the container has been committed: a restart of the daemon does not touch it. It
//   - receives pages over the connections it is given, into stores (page_stream.hpp);
//   - is told which pages there are in the end (`final`), and checks that it has every one;
//   - answers CRIU's lazy-pages socket: one userfaultfd per restored process;
//   - serves faults from the first moment on, and after `push` fills memory by itself, in pieces of
//     up to 512 KiB by two threads, faulted pages first; store memory is given back as it goes;
//   - follows fork, mremap, munmap and madvise of the running processes (userfaultfd events);
//   - ends when every page is where it belongs, or the container is gone.
//
// If it dies while pages are missing, its guard, a child process that shares its descriptors, ends
// the container (cgroup.kill) before the userfaultfds close: closed, missing pages would read as
// zeros.
//
// Control: a SOCK_SEQPACKET unix socket; each message is one JSON object, requests {"op": ...} and
// one answer each, in order, {"op": ..., "ok": true, ...} or {"op": ..., "ok": false, "code": ...,
// "message": ...}. The daemon gives
// the first connection as descriptor 3 and the pager listens at `--socket PATH` for later ones.
//
//   {"op":"connection","shard":N,"shards":M,"key":HEX} + one descriptor   a page connection
//   {"op":"connection","urgent":true,"key":HEX} + one descriptor          the one for pages that are
//        waited for. `key`: page_socket.hpp; without one the connection is not encrypted
//   {"op":"final"} + one descriptor (memfd: FinalPage[])   all pages of all processes, in order of
//        {pid, address}; received pages that are not listed are never used; answers {"pages",
//        "zero_pages", "later_pages"}: anything missing makes ok false. Must come before CRIU connects
//   {"op":"push"}                            the container runs: start filling
//   {"op":"status"}       -> {"phase": receiving|held|serving|paused|done, "bytes_left",
//                             "bytes_absent", "faults", "placed_bytes", "processes"}
//
// Post-copy: pages listed as `later` come from the source while the container runs. Connections that
// end meanwhile pause it at the next missing page ("paused"); given again (all of them, the urgent one
// last) it goes on, with a new list of what is missing.
//
// When the control connection ends before CRIU has connected to the lazy-pages socket, the pager
// ends; after that it goes on by itself. It pushes only by the word of a daemon, who knows that the
// container is committed; should that one be restarted first, the next one says it (at PATH).
#pragma once

#include <cstdint>
#include <memory>

#include "base/asio.hpp"
#include "base/blocking.hpp"
#include "base/json.hpp"
#include "base/process.hpp"
#include "base/result.hpp"
#include "criu_glue/final_pages.hpp"

namespace lifeboat {

struct PagerOptions {
  std::string program;          // path of lifeboat-pager
  std::string lazy_socket;      // where CRIU looks: <work dir>/lazy-pages.socket
  std::string control_socket;   // path for daemons to come
  std::string cgroup;           // the container's cgroup directory: killed if the pager dies
  std::uint64_t bytes_max = 0;  // store at most so much
};

// The daemon's end. Movable; dropping it closes the control connection (see above).
class PagerClient {
 public:
  static awaitable<Result<PagerClient>> start(PagerOptions options);
  // For a daemon that finds a container with its pager. kUnavailable: there is none any more.
  static awaitable<Result<PagerClient>> open(const std::string& control_socket);

  PagerClient(PagerClient&&) noexcept = default;
  PagerClient& operator=(PagerClient&&) noexcept = default;
  ~PagerClient() = default;

  // `key`: of the TLS session that the source begins on it, in hex; empty: pages come as they are.
  awaitable<Status> add_connection(Fd socket, std::string key, unsigned shard, unsigned shards);
  awaitable<Status> add_urgent_connection(Fd socket, std::string key);
  // `entries`: a memfd holding FinalPage[].
  awaitable<Result<json::object>> set_final(Fd entries);
  awaitable<Status> push();
  awaitable<Result<json::object>> status();

  // The pager's process when this daemon started it.
  [[nodiscard]] Process& process() { return process_; }

 private:
  PagerClient(Process process, asio::posix::stream_descriptor socket)
      : process_(std::move(process)),
        socket_(std::move(socket)),
        asking_(std::make_unique<AsyncMutex>()) {}
  awaitable<Result<json::object>> ask(json::object request, int fd, Milliseconds limit);

  Process process_;
  asio::posix::stream_descriptor socket_;
  std::unique_ptr<AsyncMutex> asking_;  // several coroutines ask; each must get its own answer
};

}  // namespace lifeboat
