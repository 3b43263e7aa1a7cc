#include "predictor/sources/program.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {
namespace {

bool runnable(const std::string& name) {
  if (name.find('/') != std::string::npos) return ::access(name.c_str(), X_OK) == 0;
  const char* path = std::getenv("PATH");
  for (const std::string_view directory : split(path == nullptr ? "" : path, ':')) {
    if (directory.empty()) continue;
    if (::access((std::string(directory) + "/" + name).c_str(), X_OK) == 0) return true;
  }
  return false;
}

}  // namespace

Status Program::start(const Options& options) {
  stop();
  options_ = options;
  so_far_ = {};
  if (!runnable(options_.argv.at(0))) {
    return fail(Errc::kNotFound, "there is no program " + options_.argv[0]);
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe");
  output_ = Fd(ends[0]);
  const Fd write_end(ends[1]);
  if (::fcntl(output_.get(), F_SETFL, O_NONBLOCK) != 0) return fail_errno("pipe");
  SpawnOptions spawned;
  spawned.argv = options_.argv;
  spawned.env = {{"LC_ALL", "C"}, {"TZ", "UTC"}};
  spawned.stdout_fd = write_end.get();
  if (options_.with_errors) spawned.stderr_fd = write_end.get();
  starting_.emplace(spawned);
  deadline_ = SteadyClock::now() + options_.limit;
  return look_at_start();
}

Status Program::look_at_start() {
  if (!starting_) return {};
  auto started = starting_->poll();
  if (!started) return {};
  starting_.reset();
  if (!*started) {
    output_.reset();
    return tl::unexpected(started->error());
  }
  process_ = std::move(**started);
  return {};
}

void Program::read_output() {
  std::array<char, 16 * 1024> chunk;
  // Bounded, so that one that writes without end cannot keep its caller here.
  for (int rounds = 0; rounds < 256; ++rounds) {
    const std::size_t room = options_.output_max - so_far_.text.size();
    // One that does not end waits until what it has said was taken; nothing of it is thrown away.
    if (options_.limit.count() == 0 && room < chunk.size()) return;
    const ssize_t n = ::read(output_.get(), chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    const auto size = static_cast<std::size_t>(n);
    so_far_.text.append(chunk.data(), std::min(size, room));
    if (size > room) so_far_.cut = true;
  }
}

std::optional<Result<Program::Output>> Program::poll() {
  if (!running()) return std::nullopt;
  if (Status good = look_at_start(); !good) return tl::unexpected(good.error());
  if (starting_) return std::nullopt;
  const bool ended = !process_.running();
  read_output();
  if (!ended) {
    if (options_.limit.count() == 0 || SteadyClock::now() < deadline_) return std::nullopt;
    stop();
    return fail(Errc::kTimeout, options_.argv[0] + " was ended after " +
                                    std::to_string(options_.limit.count()) + " ms");
  }
  if (!ending_) {
    // What it has left behind. A child is not reaped yet, so nobody else can have its number; what the starter
    // has reaped ended just now, and numbers are given again only when all others were.
    process_.signal_group(SIGKILL);
    ending_.emplace(process_);
  }
  if (!ending_->poll()) return std::nullopt;
  const std::optional<ExitStatus> status = ending_->status();
  ending_.reset();
  process_ = Process();
  output_.reset();
  if (!status) return fail(Errc::kSystem, "how " + options_.argv[0] + " ended is not known");
  so_far_.exit_code = status->code;
  return std::exchange(so_far_, {});
}

std::string Program::take() {
  read_output();
  return std::exchange(so_far_.text, {});
}

void Program::stop() {
  starting_.reset();
  ending_.reset();
  process_.signal_group(SIGKILL);
  process_.kill_and_reap();
  process_ = Process();
  output_.reset();
}

}  // namespace lifeboat::predictor
