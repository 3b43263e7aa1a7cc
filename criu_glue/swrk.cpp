#include "criu_glue/swrk.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/cgroup.hpp"
#include "base/descriptor.hpp"
#include "base/file.hpp"
#include "criu_glue/rpc.pb.h"

namespace lifeboat {

awaitable<Result<Swrk>> Swrk::start(const std::string& criu, SpawnOptions options) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    co_return fail_errno("socketpair for criu");
  }
  Fd ours(pair[0]);
  const Fd theirs(pair[1]);
  constexpr int kWorkerFd = 3;
  options.fds.emplace_back(theirs.get(), kWorkerFd);
  options.keep_priority = true;
  options.argv = {criu, "swrk", std::to_string(kWorkerFd)};
  // All symbols now, not one by one during the freeze.
  options.env.emplace_back("LD_BIND_NOW", "1");
  auto executor = co_await asio::this_coro::executor;
  CO_TRY(asio::posix::stream_descriptor socket, watched(executor, std::move(ours)));
  CO_TRY(Process process, co_await lifeboat::start(std::move(options)));
  co_return Swrk(std::move(process), std::move(socket));
}

Swrk::~Swrk() { kill(); }

awaitable<Status> Swrk::warm_up(Milliseconds limit) {
  criu::Request request;
  request.set_type(criu::FEATURE_CHECK);
  request.set_keep_open(true);
  request.mutable_features()->set_lazy_pages(true);
  CO_CHECK_OK(send(request));
  CO_TRY(const criu::Response response, co_await receive(limit));
  if (response.type() != criu::FEATURE_CHECK || !response.success()) {
    co_return fail(Errc::kUnavailable, "criu does not work on this node: run `criu check`");
  }
  co_return Status{};
}

void Swrk::kill() {
  if (process_.valid()) process_.kill_and_reap();
  process_ = Process();
}

Status Swrk::move_to_own_cgroup() const {
  TRY(const Cgroup own, Cgroup::own());
  return write_value(own.procs_file(), std::to_string(process_.pid()));
}

Status Swrk::send(const criu::Request& request) {
  const std::string bytes = request.SerializeAsString();
  if (::send(socket_->native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(bytes.size())) {
    if (errno == EPIPE || errno == ECONNRESET) {
      return fail(Errc::kSystem, "criu ended without an answer");
    }
    return fail_errno("send a request to criu");
  }
  return {};
}

Result<criu::Response> Swrk::read_message() {
  std::vector<char> bytes(64 * 1024);
  const ssize_t n = ::recv(socket_->native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (n < 0 && errno != ECONNRESET) return fail_errno("receive from criu");
  if (n <= 0) return fail(Errc::kSystem, "criu ended without an answer");
  criu::Response response;
  if (!response.ParseFromArray(bytes.data(), static_cast<int>(n))) {
    return fail(Errc::kProtocol, "criu sent a message that Lifeboat cannot parse; is it too old?");
  }
  return response;
}

namespace {

// Calls `on_readable` (in the event loop) when the descriptor is, unless destroyed before; never where this
// process may not have one more descriptor.
class Watch {
 public:
  Watch(const asio::any_io_executor& executor, int fd, std::function<void()> on_readable)
      : armed_(std::make_shared<bool>(true)), descriptor_(executor) {
    auto own = watched(executor, Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)));
    if (!own) return;
    descriptor_ = std::move(*own);
    descriptor_.async_wait(asio::posix::stream_descriptor::wait_read,
                           [armed = armed_, call = std::move(on_readable)](boost::system::error_code error) {
                             if (!error && *armed) call();
                           });
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { *armed_ = false; }

 private:
  std::shared_ptr<bool> armed_;  // the call may already be queued when this goes
  asio::posix::stream_descriptor descriptor_;
};

}  // namespace

awaitable<Result<criu::Response>> Swrk::receive(Milliseconds limit) {
  auto executor = co_await asio::this_coro::executor;
  // CRIU's children hold the socket open: that CRIU itself has died shows only in its pidfd. So the
  // wait is in slices.
  constexpr Milliseconds kSlice{100};
  const auto end = SteadyClock::now() + limit;
  bool answered = false;
  while (!answered && SteadyClock::now() < end) {
    if (!process_.running()) {
      pollfd last{socket_->native_handle(), POLLIN, 0};  // what it said before
      answered = ::poll(&last, 1, 0) == 1;
      if (answered) break;
      co_return fail(Errc::kSystem, "criu was killed or crashed");
    }
    // Its death at once, too: the tasks that it held run on, some with connections in repair mode.
    Watch death(executor, process_.pidfd(), [this] { socket_->cancel(); });
    Deadline slice(executor, kSlice, [this] { socket_->cancel(); });
    const auto error = co_await readable(*socket_);
    answered = !error;
    if (!answered && condition_) CO_CHECK_OK(condition_());
  }
  if (!answered) {
    co_return fail(Errc::kTimeout,
                   "criu gave no answer within " + std::to_string(limit.count()) + " ms");
  }
  co_return read_message();
}

Status Swrk::answer(bool success) {
  criu::Request reply;
  reply.set_type(criu::NOTIFY);
  reply.set_notify_success(success);
  return send(reply);
}

bool Swrk::drain_blocking(bool success, Milliseconds limit) {
  const auto deadline = SteadyClock::now() + limit;
  for (;;) {
    const auto left = std::chrono::duration_cast<Milliseconds>(deadline - SteadyClock::now());
    if (left.count() <= 0) return false;
    pollfd poll_fd{socket_->native_handle(), POLLIN, 0};
    if (::poll(&poll_fd, 1, static_cast<int>(left.count())) <= 0) continue;
    auto message = read_message();
    if (!message) return false;
    if (message->type() != criu::NOTIFY) return true;
    if (!answer(success)) return false;
  }
}

}  // namespace lifeboat
