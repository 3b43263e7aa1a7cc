// swrk.hpp - one `criu swrk` process and its RPC: a request, notifications that hold CRIU until
// they are answered, and the response.
//
// `swrk` is CRIU as a worker on a socketpair (SOCK_SEQPACKET, one protobuf message a packet). It
// runs in the container's network namespace, in a mount namespace of its own, and dies with its
// request: nothing of it outlives a crash of either side.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/asio.hpp"
#include "base/process.hpp"
#include "base/result.hpp"

namespace lifeboat {

namespace criu {  // rpc.proto; its header takes seconds to parse
class Request;
class Response;
}  // namespace criu

class Swrk {
 public:
  // Starts the worker. `options.argv` is filled in here; namespaces and cgroup are the caller's.
  static awaitable<Result<Swrk>> start(const std::string& criu, SpawnOptions options);

  Swrk(Swrk&&) noexcept = default;
  Swrk& operator=(Swrk&&) noexcept = default;
  // Ends the worker if it still runs. Callers that hold tasks must have answered before.
  ~Swrk();

  // Lets the worker look at the kernel now and keep what it found in /run/criu.kdat (if that is on
  // tmpfs): else it does so within its request, for 35 ms. Returns what it found.
  awaitable<Status> warm_up(Milliseconds limit);

  [[nodiscard]] Status send(const criu::Request& request);
  // receive() fails with its error as soon as it tells one: CRIU waits for ever for what will not come.
  void depends_on(std::function<Status()> condition) { condition_ = std::move(condition); }
  // The next message; kTimeout after `limit`, kSystem when CRIU has died.
  awaitable<Result<criu::Response>> receive(Milliseconds limit);
  // Answers a notification: true lets CRIU go on, false makes it fail (what that means depends
  // on the notification: see checkpoint.cpp).
  [[nodiscard]] Status answer(bool success);

  // For destructors: answers everything that comes with `success` until the response or the end
  // of CRIU, blocking at most `limit`. True when the response came.
  bool drain_blocking(bool success, Milliseconds limit);

  // Moves CRIU out of the cgroup it was started in, into that of this daemon.
  [[nodiscard]] Status move_to_own_cgroup() const;

  [[nodiscard]] pid_t pid() const { return process_.pid(); }
  // Ends CRIU now.
  void kill();

 private:
  Swrk(Process process, asio::posix::stream_descriptor socket)
      : process_(std::move(process)), socket_(std::move(socket)) {}
  Result<criu::Response> read_message();

  Process process_;
  std::optional<asio::posix::stream_descriptor> socket_;
  std::function<Status()> condition_;
};

}  // namespace lifeboat
