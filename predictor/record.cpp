#include "predictor/record.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "predictor/sources/source_set.hpp"
#include "predictor/sources/sources.hpp"

namespace lifeboat::predictor {
namespace {

struct Arguments {
  std::string root;
  std::string node;
  std::string out = "-";
  double seconds = 0;
  std::vector<std::string> sources;
  bool user_records = false;
};

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "localhost";
  const std::string full = name;
  return full.substr(0, full.find('.'));
}

Time now() { return std::chrono::floor<Duration>(std::chrono::system_clock::now()); }

// SIGINT and SIGTERM become something to wait for, as long as this lives.
class StopSignals {
 public:
  StopSignals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &set, &before_);
    fd_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals() {
    signalfd_siginfo taken{};
    while (::read(fd_.get(), &taken, sizeof taken) > 0) continue;
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  // True as soon as one has come; false after `limit`.
  [[nodiscard]] bool wait(Duration limit) const {
    pollfd watch{fd_.get(), POLLIN, 0};
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
    return ::poll(&watch, 1, static_cast<int>(ms)) > 0;
  }

 private:
  sigset_t before_{};
  Fd fd_;
};

Status write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("write the recording");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

void tell(const Notice& notice) {
  switch (notice.what) {
    case Notice::What::kMissing:
      log::info("source missing", {{"source", notice.source}, {"why", notice.text}});
      break;
    case Notice::What::kFailing:
      log::warn("source failing", {{"source", notice.source}, {"why", notice.text}});
      break;
    case Notice::What::kWorksAgain:
      log::info("source works again", {{"source", notice.source}});
      break;
  }
}

Status run(const Arguments& arguments, std::uint64_t& recorded) {
  SourcesConfig config;
  config.place = {arguments.root == "/" ? "" : arguments.root, arguments.node};
  config.kmsg.user_records = arguments.user_records;
  if (!arguments.sources.empty()) CHECK_OK(config.only(arguments.sources));
  Fd file;
  if (arguments.out != "-") {
    // Appended to: a recording that goes on after a restart stays one file.
    file = Fd(::open(arguments.out.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
    if (!file) return fail_errno("open " + arguments.out);
  }
  SourceSet sources(make_sources(config));
  const StopSignals stop;
  // Of the steady clock: the length of a recording is not to change with the time of day.
  const auto end = SteadyClock::now() +
                   std::chrono::duration_cast<SteadyClock::duration>(
                       std::chrono::duration<double>(arguments.seconds));
  for (;;) {
    const SourceSet::Polled polled = sources.poll(now());
    for (const Notice& notice : polled.notices) tell(notice);
    std::string lines;
    for (const Event& event : polled.events) lines += to_replay_line(event);
    CHECK_OK(write_all(file ? file.get() : STDOUT_FILENO, lines));
    recorded += polled.events.size();
    Duration pause = sources.until_due(now());
    if (arguments.seconds > 0) {
      const auto left = std::chrono::ceil<Duration>(end - SteadyClock::now());
      if (left <= Duration{0}) return {};
      pause = std::min(pause, left);
    }
    if (stop.wait(pause)) return {};
  }
}

}  // namespace

int record(int argc, char** argv) {
  Arguments arguments;
  arguments.node = host_name();
  CLI::App app{"Writes what the sources of this node tell to a replay file", "lifeboat-predict record"};
  app.add_option("--root", arguments.root, "Directory that stands for the node's root")
      ->check(CLI::ExistingDirectory);
  app.add_option("--node", arguments.node, "Name of the node in the events")->capture_default_str();
  app.add_option("--out", arguments.out, "Replay file to append to; - is stdout")
      ->capture_default_str();
  app.add_option("--seconds", arguments.seconds, "End after so many; without, at SIGINT or SIGTERM")
      ->check(CLI::PositiveNumber);
  app.add_option("--sources", arguments.sources, "Only these, separated by commas")->delimiter(',');
  app.add_flag("--user-records", arguments.user_records,
               "Believe records of the kernel's log that user space has written (drills)");
  CLI11_PARSE(app, argc, argv);
  std::uint64_t recorded = 0;
  const Status done = run(arguments, recorded);
  if (!done) {
    log::error("record", {{"error", done.error().message}});
    return 1;
  }
  log::info("recorded", {{"events", std::to_string(recorded)}});
  return 0;
}

}  // namespace lifeboat::predictor
