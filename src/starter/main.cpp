// lifeboat-starter: see base/starter.hpp.
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/fd_passing.hpp"
#include "base/notify.hpp"
#include "base/starter.hpp"
#include "base/unix_socket.hpp"

namespace {

using namespace lifeboat;

// How children have ended, for whoever asks within two minutes.
class Endings {
 public:
  static constexpr std::chrono::minutes kKept{2};

  // Of all that are there to be reaped.
  void collect() {
    const std::lock_guard lock(mutex_);
    forget_old();
    int status = 0;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) add(pid, status);
  }
  std::optional<ExitStatus> of(pid_t pid) {
    const std::lock_guard lock(mutex_);
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) == pid) add(pid, status);
    const auto found = endings_.find(pid);
    if (found == endings_.end()) return std::nullopt;
    return found->second.status;
  }

 private:
  struct Ending {
    ExitStatus status;
    SteadyClock::time_point at;
  };
  void add(pid_t pid, int status) {
    const bool signalled = WIFSIGNALED(status);
    const int code = signalled ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    endings_.insert_or_assign(pid, Ending{{code, signalled}, SteadyClock::now()});
  }
  void forget_old() {
    const auto oldest = SteadyClock::now() - kKept;
    std::erase_if(endings_, [&](const auto& item) { return item.second.at < oldest; });
  }

  std::mutex mutex_;
  std::map<pid_t, Ending> endings_;
};

bool is_root(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

// Of the process at the other end.
bool is_thread_of_caller(int socket, pid_t thread) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (thread <= 0 || ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return ::access(("/proc/" + std::to_string(peer.pid) + "/task/" + std::to_string(thread)).c_str(), F_OK) == 0;
}

bool answer(int socket, const json::object& body, int fd = -1) {
  const std::string text = json::serialize(body);
  return send_with_fd(socket, text.data(), text.size(), fd) == static_cast<ssize_t>(text.size());
}

json::object to_json(const Error& error) {
  return {{"error", error.message}, {"code", to_string(error.code)}};
}

void start(int socket, const json::object& request, const std::vector<Fd>& fds) {
  auto options = spawn_options_from(request, fds);
  auto process = options ? spawn(*options) : tl::unexpected<Error>(options.error());
  if (!process) {
    (void)answer(socket, to_json(process.error()));
  } else if (!answer(socket, {{"pid", process->pid()}}, process->pidfd())) {
    // Whoever asked has given up, and will not look after it.
    process->kill_and_reap();
  }
}

void serve(const Fd& socket, Endings& endings) {
  constexpr timeval kLimit{5, 0};  // for a request to come
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kLimit, sizeof kLimit);
  if (!is_root(socket.get())) return;
  std::string text(kStarterMessageBytesMax, '\0');
  std::vector<Fd> fds;
  const ssize_t n = receive_with_fds(socket.get(), text.data(), text.size(), fds);
  if (n <= 0) return;  // nothing was wanted but to know whether somebody listens
  text.resize(static_cast<std::size_t>(n));
  auto request = parse_object(text);
  if (!request) {
    (void)answer(socket.get(), to_json(request.error()));
  } else if (string_or(*request, "op") == "spawn") {
    start(socket.get(), *request, fds);
  } else if (string_or(*request, "op") == "status") {
    const auto ended = endings.of(static_cast<pid_t>(number_or(*request, "pid")));
    json::object body;
    if (ended) body = {{"code", ended->code}, {"signalled", ended->signalled}};
    (void)answer(socket.get(), body);
  } else if (string_or(*request, "op") == "ordinary") {
    const auto thread = static_cast<pid_t>(get_u64(*request, "thread").value_or(0));
    if (is_thread_of_caller(socket.get(), thread)) ::setpriority(PRIO_PROCESS, static_cast<id_t>(thread), 0);
    (void)answer(socket.get(), {});
  } else {
    (void)answer(socket.get(), to_json(Error(Errc::kInvalid, "no such request")));
  }
}

// Without memory left it goes on, for others and for later.
void serve_or_tell(const Fd& socket, Endings& endings) {
  try {
    serve(socket, endings);
  } catch (const std::exception& error) {
    std::cerr << "lifeboat-starter: a request failed: " << error.what() << "\n";
  }
}

// Until SIGTERM. What it has started goes on.
Status run(const std::string& path) {
  if (connect_at(path, SOCK_SEQPACKET)) return fail(Errc::kConflict, path + ": another one listens there");
  sigset_t handled;
  ::sigemptyset(&handled);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT}) ::sigaddset(&handled, number);
  ::sigprocmask(SIG_BLOCK, &handled, nullptr);
  const Fd signals(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return fail_errno("signalfd");
  TRY(const Fd listening, listen_at(path, SOCK_SEQPACKET));
  notify_service_manager("READY=1");
  static Endings endings;  // of threads that may outlive this function
  for (;;) {
    pollfd watched[2] = {{listening.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    if (::poll(watched, 2, -1) < 0 && errno != EINTR) return fail_errno("poll");
    signalfd_siginfo info{};
    while (::read(signals.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo != SIGCHLD) return {};
    }
    endings.collect();
    if ((watched[0].revents & POLLIN) == 0) continue;
    Fd caller(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
    try {
      if (!caller) throw std::system_error(errno, std::generic_category(), "accept");
      // A thread for each: one start that hangs, over a dead file system, must not hold up others.
      std::thread([socket = std::move(caller)] { serve_or_tell(socket, endings); }).detach();
    } catch (const std::system_error& error) {  // whoever asked is told that it ended before it answered
      std::cerr << "lifeboat-starter: cannot serve a request: " << error.what() << "\n";
      ::usleep(100'000);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Starts processes for lifeboatd, and keeps them when it ends"};
  std::string path = "/run/lifeboat/starter.sock";
  app.set_version_flag("--version", LIFEBOAT_VERSION);
  app.add_option("--socket", path, "where lifeboatd finds it")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  // Containers whose runtime has ended become its children, so it learns how they end.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::signal(SIGPIPE, SIG_IGN);
  raise_priority();
  const Status done = run(path);
  if (done) return 0;
  std::cerr << "lifeboat-starter: " << done.error().message << "\n";
  return 1;
}
