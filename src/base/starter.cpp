#include "base/starter.hpp"

#include <sys/socket.h>

#include "base/fd_passing.hpp"
#include "base/unix_socket.hpp"

namespace lifeboat {
namespace {

constexpr std::size_t kWordsMax = 4096;

std::string& socket_path() {
  static std::string path;
  return path;
}

tl::unexpected<Error> failed(const Error& error) {
  return tl::unexpected(Error(error.code, "lifeboat-starter: " + error.message +
                                              " (does it run? systemctl status lifeboat-starter)"));
}

json::array pair_array(const std::vector<std::pair<std::string, std::string>>& pairs) {
  json::array out;
  for (const auto& [first, second] : pairs) out.push_back(json::array{first, second});
  return out;
}

Result<std::vector<std::pair<std::string, std::string>>> get_pairs(const json::object& object,
                                                                   std::string_view key) {
  TRY(const json::array* const array, get_array(object, key));
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const json::value& item : *array) {
    const json::array* const pair = item.if_array();
    if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string()) {
      return fail(Errc::kProtocol, "member '" + std::string(key) + "' is no list of pairs");
    }
    pairs.emplace_back((*pair)[0].get_string().c_str(), (*pair)[1].get_string().c_str());
  }
  return pairs;
}

// Of the descriptors that came along, or -1.
Result<int> get_fd(const json::object& object, std::string_view key, const std::vector<Fd>& fds) {
  if (!object.contains(key)) return -1;
  TRY(const std::uint64_t index, get_u64(object, key));
  if (index >= fds.size()) return fail(Errc::kProtocol, "member '" + std::string(key) + "': no such descriptor");
  return fds[index].get();
}

}  // namespace

Status use_starter(std::string socket) {
  auto there = connect_at(socket, SOCK_SEQPACKET);
  if (!there) return tl::unexpected<Error>(there.error().context("lifeboat-starter"));
  socket_path() = std::move(socket);
  return {};
}

bool has_starter() { return !socket_path().empty(); }

json::object to_json(const SpawnOptions& options, std::vector<int>& fds) {
  json::object out{{"op", "spawn"},
                   {"argv", lifeboat::to_array(options.argv)},
                   {"env", pair_array(options.env)},
                   {"bind_mounts", pair_array(options.bind_mounts)},
                   {"cgroup", options.cgroup},
                   {"new_session", options.new_session},
                   {"keep_priority", options.keep_priority},
                   {"private_mounts", options.private_mounts}};
  const auto pass = [&](const char* key, int fd) {
    if (fd < 0) return;
    out[key] = fds.size();
    fds.push_back(fd);
  };
  pass("stdin", options.stdin_fd);
  pass("stdout", options.stdout_fd);
  pass("stderr", options.stderr_fd);
  pass("netns", options.netns_fd);
  json::array numbered;
  for (const auto& [ours, number] : options.fds) {
    numbered.push_back(json::object{{"fd", fds.size()}, {"number", number}});
    fds.push_back(ours);
  }
  out["fds"] = std::move(numbered);
  if (options.overlay) {
    out["overlay"] = json::object{{"lower", options.overlay->lower},
                                  {"upper", options.overlay->upper},
                                  {"work", options.overlay->work},
                                  {"mount_point", options.overlay->mount_point}};
  }
  return out;
}

Result<SpawnOptions> spawn_options_from(const json::object& request, const std::vector<Fd>& fds) {
  SpawnOptions options;
  TRY(options.argv, get_strings(request, "argv", kWordsMax));
  if (options.argv.empty()) return fail(Errc::kProtocol, "member 'argv' is empty");
  TRY(options.env, get_pairs(request, "env"));
  TRY(options.bind_mounts, get_pairs(request, "bind_mounts"));
  TRY(options.cgroup, get_string(request, "cgroup"));
  options.new_session = flag(request, "new_session");
  options.keep_priority = flag(request, "keep_priority");
  options.private_mounts = flag(request, "private_mounts");
  TRY(options.stdin_fd, get_fd(request, "stdin", fds));
  TRY(options.stdout_fd, get_fd(request, "stdout", fds));
  TRY(options.stderr_fd, get_fd(request, "stderr", fds));
  TRY(options.netns_fd, get_fd(request, "netns", fds));
  TRY(const json::array* const numbered, get_array(request, "fds"));
  for (const json::value& item : *numbered) {
    if (!item.is_object()) return fail(Errc::kProtocol, "member 'fds' is no list of objects");
    TRY(const int ours, get_fd(item.get_object(), "fd", fds));
    TRY(const std::uint64_t number, get_u64(item.get_object(), "number"));
    if (ours < 0 || number > kPassedFdsMax) return fail(Errc::kProtocol, "member 'fds': no such descriptor");
    options.fds.emplace_back(ours, static_cast<int>(number));
  }
  if (request.contains("overlay")) {
    TRY(const json::object* const overlay, get_object(request, "overlay"));
    OverlayMount mount;
    TRY(mount.lower, get_string(*overlay, "lower"));
    TRY(mount.upper, get_string(*overlay, "upper"));
    TRY(mount.work, get_string(*overlay, "work"));
    TRY(mount.mount_point, get_string(*overlay, "mount_point"));
    options.overlay = std::move(mount);
  }
  return options;
}

Result<StarterCall> StarterCall::send(const json::object& request, const std::vector<int>& fds,
                                      Milliseconds limit) {
  const std::string text = json::serialize(request);
  if (text.size() > kStarterMessageBytesMax) {
    return fail(Errc::kInvalid, "lifeboat-starter: the arguments and the environment of a process are too long");
  }
  auto socket = connect_at(socket_path(), SOCK_SEQPACKET | SOCK_NONBLOCK);
  if (!socket) return failed(socket.error());
  if (send_with_fds(socket->get(), text.data(), text.size(), fds) != static_cast<ssize_t>(text.size())) {
    return failed(fail_errno("ask it").value());
  }
  return StarterCall(std::move(*socket), limit);
}

std::optional<Result<StarterAnswer>> StarterCall::poll() {
  std::string text(kStarterMessageBytesMax, '\0');
  StarterAnswer answer;
  const ssize_t n = receive_with_fd(socket_.get(), text.data(), text.size(), answer.fd);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    if (std::chrono::steady_clock::now() < ends_) return std::nullopt;
    return failed(Error(Errc::kTimeout, "no answer within " + std::to_string(limit_.count()) + " ms"));
  }
  if (n <= 0) return failed(Error(Errc::kUnavailable, "it ended before it answered"));
  auto body = parse_object(std::string_view(text).substr(0, static_cast<std::size_t>(n)));
  if (!body) return failed(body.error());
  answer.body = std::move(*body);
  return answer;
}

ProcessStart::ProcessStart(const SpawnOptions& options) : program_(options.argv.at(0)) {
  if (!has_starter()) {
    known_ = spawn(options);
    return;
  }
  std::vector<int> fds;
  const json::object request = to_json(options, fds);
  auto call = StarterCall::send(request, fds, kLimit);
  if (call) {
    call_ = std::move(*call);
  } else {
    known_ = tl::unexpected(call.error().context("start " + program_));
  }
}

ProcessStart::~ProcessStart() {
  auto unwanted = poll();
  if (unwanted && *unwanted) (*unwanted)->kill_and_reap();
}

std::optional<Result<Process>> ProcessStart::poll() {
  if (known_) return std::exchange(known_, std::nullopt);
  if (!call_) return std::nullopt;
  auto answer = call_->poll();
  if (!answer) return std::nullopt;
  call_.reset();
  if (!*answer) return tl::unexpected(answer->error().context("start " + program_));
  const json::object& body = (*answer)->body;
  if (body.contains("error")) return fail(errc_from(string_or(body, "code")), string_or(body, "error"));
  auto pid = get_u64(body, "pid");
  if (!pid) return failed(pid.error());
  if (!(*answer)->fd) return fail(Errc::kSystem, "start " + program_ + ": no descriptor left for it");
  return Process(static_cast<pid_t>(*pid), std::move((*answer)->fd));
}

ProcessEnd::ProcessEnd(const Process& process) : status_(process.reap()) {
  if (status_ || !has_starter()) return;
  auto call = StarterCall::send(json::object{{"op", "status"}, {"pid", process.pid()}}, {}, kLimit);
  if (call) call_ = std::move(*call);
}

bool ProcessEnd::poll() {
  if (!call_) return true;
  auto answer = call_->poll();
  if (!answer) return false;
  call_.reset();
  if (!*answer) return true;
  auto code = get_u64((*answer)->body, "code");
  if (code) status_ = ExitStatus{static_cast<int>(*code), flag((*answer)->body, "signalled")};
  return true;
}

}  // namespace lifeboat
