#include <fcntl.h>
#include <sys/socket.h>

#include <filesystem>

#include "base/descriptor.hpp"
#include "base/fd_passing.hpp"
#include "base/unix_socket.hpp"
#include "criu_glue/pager.hpp"

namespace lifeboat {

namespace {

constexpr Milliseconds kAnswerLimit{10'000};
constexpr Milliseconds kFinalLimit{60'000};
constexpr std::size_t kMessageBytesMax = 4096;

Status send_message(int socket, const std::string& text, int fd) {
  if (send_with_fd(socket, text.data(), text.size(), fd) != static_cast<ssize_t>(text.size())) {
    return fail(Errc::kUnavailable, std::string("the pager has ended: ") + std::strerror(errno));
  }
  return {};
}

}  // namespace

awaitable<Result<PagerClient>> PagerClient::start(PagerOptions options) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    co_return fail_errno("socketpair for the pager");
  }
  Fd ours(pair[0]);
  const Fd theirs(pair[1]);
  const std::string log = std::filesystem::path(options.control_socket).parent_path() / "pager.log";
  const Fd errors(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  SpawnOptions spawn_options;
  spawn_options.fds.emplace_back(theirs.get(), 3);
  spawn_options.stderr_fd = errors.get();
  spawn_options.keep_priority = true;
  spawn_options.argv = {options.program,      "--lazy-socket", options.lazy_socket,
                        "--control-socket",   options.control_socket,
                        "--cgroup",           options.cgroup,
                        "--bytes-max",        std::to_string(options.bytes_max)};
  auto executor = co_await asio::this_coro::executor;
  CO_TRY(asio::posix::stream_descriptor socket, watched(executor, std::move(ours)));
  auto process = co_await lifeboat::start(std::move(spawn_options));
  if (!process) co_return tl::unexpected<Error>(process.error().context(options.program));
  PagerClient client(std::move(*process), std::move(socket));
  // It listens for CRIU before it answers.
  auto status = co_await client.status();
  if (!status) {
    client.process().kill_and_reap();
    co_return tl::unexpected<Error>(status.error().context("start the pager"));
  }
  co_return client;
}

awaitable<Result<PagerClient>> PagerClient::open(const std::string& control_socket) {
  auto socket = connect_at(control_socket, SOCK_SEQPACKET);
  if (!socket) co_return tl::unexpected<Error>(socket.error().context("the pager"));
  auto executor = co_await asio::this_coro::executor;
  CO_TRY(asio::posix::stream_descriptor watched_socket, watched(executor, std::move(*socket)));
  co_return PagerClient(Process(), std::move(watched_socket));
}

awaitable<Result<json::object>> PagerClient::ask(json::object request, int fd, Milliseconds limit) {
  auto executor = co_await asio::this_coro::executor;
  const AsyncMutex::Lock lock = co_await asking_->lock();
  CO_CHECK_OK(send_message(socket_.native_handle(), json::serialize(request), fd));
  Deadline deadline(executor, limit, [this] { socket_.cancel(); });
  const auto error = co_await readable(socket_);
  if (error) {
    co_return fail(deadline.expired() ? Errc::kTimeout : Errc::kUnavailable,
                   "the pager gives no answer");
  }
  std::string text(kMessageBytesMax, '\0');
  const ssize_t n = ::recv(socket_.native_handle(), text.data(), text.size(), MSG_DONTWAIT);
  if (n <= 0) co_return fail(Errc::kUnavailable, "the pager has ended; see pager.log");
  text.resize(static_cast<std::size_t>(n));
  CO_TRY(json::object answer, parse_object(text));
  // An answer that came too late for the one who asked must not pass for another's.
  if (string_or(answer, "op") != string_or(request, "op")) {
    co_return fail(Errc::kProtocol, "the pager answers another request than was made");
  }
  if (flag(answer, "ok")) co_return answer;
  co_return fail(errc_from(string_or(answer, "code")), string_or(answer, "message"));
}

awaitable<Status> PagerClient::add_connection(Fd socket, std::string key, unsigned shard,
                                             unsigned shards) {
  json::object request{
      {"op", "connection"}, {"shard", shard}, {"shards", shards}, {"key", std::move(key)}};
  auto answer = co_await ask(std::move(request), socket.get(), kAnswerLimit);
  if (!answer) co_return tl::unexpected<Error>(answer.error());
  co_return Status{};
}

awaitable<Status> PagerClient::add_urgent_connection(Fd socket, std::string key) {
  json::object request{{"op", "connection"}, {"urgent", true}, {"key", std::move(key)}};
  auto answer = co_await ask(std::move(request), socket.get(), kAnswerLimit);
  if (!answer) co_return tl::unexpected<Error>(answer.error());
  co_return Status{};
}

awaitable<Result<json::object>> PagerClient::set_final(Fd entries) {
  json::object request{{"op", "final"}};
  co_return co_await ask(std::move(request), entries.get(), kFinalLimit);
}

awaitable<Status> PagerClient::push() {
  json::object request{{"op", "push"}};
  auto answer = co_await ask(std::move(request), -1, kAnswerLimit);
  if (!answer) co_return tl::unexpected<Error>(answer.error());
  co_return Status{};
}

awaitable<Result<json::object>> PagerClient::status() {
  json::object request{{"op", "status"}};
  co_return co_await ask(std::move(request), -1, kAnswerLimit);
}

}  // namespace lifeboat
