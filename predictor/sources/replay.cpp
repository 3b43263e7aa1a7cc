#include "predictor/sources/replay.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/json.hpp"

namespace lifeboat::predictor {
namespace {

constexpr std::size_t kBytesPerPoll = 16 << 20;

}  // namespace

Status ReplaySource::open() {
  struct stat about {};
  if (::stat(file_.c_str(), &about) != 0) return fail(Errc::kNotFound, "there is no " + file_);
  const auto size = static_cast<std::uint64_t>(about.st_size);
  is_fifo_ = S_ISFIFO(about.st_mode);
  if (fd_ && about.st_ino == inode_ && (is_fifo_ || size >= offset_)) return {};
  if (about.st_ino != inode_ || size < offset_) offset_ = 0;
  inode_ = about.st_ino;
  lines_ = LineBuffer();
  // A FIFO is opened for writing too, so that it does not end when its last writer leaves.
  fd_ = Fd(::open(file_.c_str(), (is_fifo_ ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC));
  if (!fd_) return fail_errno("open " + file_);
  return {};
}

Status ReplaySource::read_some() {
  std::array<char, 64 * 1024> chunk;
  for (std::size_t total = 0; total < kBytesPerPoll;) {
    const ssize_t n = is_fifo_ ? ::read(fd_.get(), chunk.data(), chunk.size())
                               : ::pread(fd_.get(), chunk.data(), chunk.size(),
                                         static_cast<off_t>(offset_));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return fail_errno("read " + file_);
    if (n <= 0) return {};
    lines_.add({chunk.data(), static_cast<std::size_t>(n)});
    total += static_cast<std::size_t>(n);
    if (!is_fifo_) offset_ += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<std::vector<Event>> ReplaySource::poll(Time /*now*/) {
  CHECK_OK(open());
  CHECK_OK(read_some());
  std::vector<Event> events;
  std::string problem;
  if (lines_.take_dropped() > 0) problem = "a line that is too long";
  for (const std::string& line : lines_.take()) {
    if (trimmed(line).empty()) continue;
    auto event = parse_replay_line(line);
    if (event) {
      events.push_back(*std::move(event));
    } else {
      problem = event.error().message + ": " + clean(line.substr(0, 80));
    }
  }
  if (!problem.empty() && events.empty()) return fail(Errc::kProtocol, file_ + ": " + problem);
  return events;
}

std::string ReplaySource::save() const {
  if (is_fifo_ || inode_ == 0) return {};
  return json::serialize(
      json::object{{"inode", inode_}, {"offset", offset_ - lines_.waiting()}});
}

void ReplaySource::restore(const std::string& saved) {
  const auto object = parse_object(saved);
  if (!object) return;
  const auto inode = get_u64(*object, "inode");
  const auto offset = get_u64(*object, "offset");
  if (!inode || !offset) return;
  inode_ = *inode;
  offset_ = *offset;
}

}  // namespace lifeboat::predictor
