#include "base/starter.hpp"

#include <sys/socket.h>
#include <sys/time.h>

#include "base/fd_passing.hpp"
#include "base/unix_socket.hpp"

namespace lifeboat {
namespace {

// Longer than any start takes, an overlay over a slow shared file system included.
constexpr timeval kStartLimit{20, 0};
// It knows.
constexpr timeval kStatusLimit{1, 0};
constexpr std::size_t kWordsMax = 4096;

std::string& socket_path() {
  static std::string path;
  return path;
}

// The answer, and the descriptor with it.
struct Answer {
  json::object body;
  Fd fd;
};

Result<Answer> ask(const json::object& request, const std::vector<int>& fds, const timeval& limit) {
  const auto advice = [](const Error& error) {
    return Error(error.code, "lifeboat-starter: " + error.message +
                                 " (does it run? systemctl status lifeboat-starter)");
  };
  auto socket = connect_at(socket_path(), SOCK_SEQPACKET);
  if (!socket) return tl::unexpected<Error>(advice(socket.error()));
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    (void)::setsockopt(socket->get(), SOL_SOCKET, option, &limit, sizeof limit);
  }
  const std::string text = json::serialize(request);
  if (text.size() > kStarterMessageBytesMax) {
    return fail(Errc::kInvalid, "lifeboat-starter: the arguments and the environment of a process are too long");
  }
  if (send_with_fds(socket->get(), text.data(), text.size(), fds) != static_cast<ssize_t>(text.size())) {
    return tl::unexpected<Error>(advice(fail_errno("ask it").value()));
  }
  std::string answer(kStarterMessageBytesMax, '\0');
  Fd fd;
  const ssize_t n = receive_with_fd(socket->get(), answer.data(), answer.size(), fd);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    const std::string within = std::to_string(limit.tv_sec) + " s";
    return tl::unexpected<Error>(advice(Error(Errc::kTimeout, "no answer within " + within)));
  }
  if (n <= 0) return tl::unexpected<Error>(advice(Error(Errc::kUnavailable, "it ended before it answered")));
  answer.resize(static_cast<std::size_t>(n));
  TRY(json::object body, parse_object(answer));
  return Answer{std::move(body), std::move(fd)};
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

Result<Process> start_elsewhere(const SpawnOptions& options) {
  std::vector<int> fds;
  const json::object request = to_json(options, fds);
  auto answer = ask(request, fds, kStartLimit);
  if (!answer) return tl::unexpected<Error>(answer.error().context("start " + options.argv[0]));
  if (answer->body.contains("error")) {
    return fail(errc_from(string_or(answer->body, "code")), string_or(answer->body, "error"));
  }
  TRY(const std::uint64_t pid, get_u64(answer->body, "pid"));
  if (!answer->fd) return fail(Errc::kSystem, "start " + options.argv[0] + ": no descriptor left for it");
  return Process(static_cast<pid_t>(pid), std::move(answer->fd));
}

std::optional<ExitStatus> status_elsewhere(pid_t pid) {
  auto answer = ask(json::object{{"op", "status"}, {"pid", pid}}, {}, kStatusLimit);
  if (!answer) return std::nullopt;
  auto code = get_u64(answer->body, "code");
  if (!code) return std::nullopt;
  return ExitStatus{static_cast<int>(*code), flag(answer->body, "signalled")};
}

}  // namespace lifeboat
