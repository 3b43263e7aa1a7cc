#include "base/append_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.hpp"

namespace lifeboat {

Result<AppendLog> AppendLog::open(std::string path, std::size_t bytes_max,
                                  const std::function<void(json::object)>& each) {
  AppendLog log(std::move(path), bytes_max);
  CHECK_OK(log.read(log.path_ + ".1", each));
  CHECK_OK(log.read(log.path_, each));
  CHECK_OK(log.open_file());
  return log;
}

Status AppendLog::read(const std::string& path, const std::function<void(json::object)>& each) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return {};
  // A line may have been added after the limit was reached.
  TRY(const std::string text, read_file(path, 2 * bytes_max_));
  std::size_t at = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', at)) {
    auto line = parse_object(std::string_view(text).substr(at, end - at));
    at = end + 1;
    if (line) {
      each(std::move(*line));
    } else {
      ++unreadable_;
    }
  }
  return {};
}

Status AppendLog::open_file() {
  file_ = Fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file_) return fail_errno("open " + path_);
  struct stat found {};
  if (::fstat(file_.get(), &found) != 0) return fail_errno("stat " + path_);
  bytes_ = static_cast<std::size_t>(found.st_size);
  // A line that was cut off must not become the beginning of the next.
  char last = '\n';
  if (bytes_ > 0 && ::pread(file_.get(), &last, 1, found.st_size - 1) != 1)
    return fail_errno("read " + path_);
  if (last == '\n') return {};
  ++bytes_;
  if (::write(file_.get(), "\n", 1) != 1) return fail_errno("write " + path_);
  return {};
}

Status AppendLog::append(const json::object& line, bool sync) {
  const std::string text = json::serialize(line) + "\n";
  if (text.size() > bytes_max_) return fail(Errc::kInvalid, path_ + ": a line longer than the file may be");
  if (bytes_ + text.size() > bytes_max_) {
    if (::rename(path_.c_str(), (path_ + ".1").c_str()) != 0) return fail_errno("rename " + path_);
    CHECK_OK(open_file());
  }
  const ssize_t written = ::write(file_.get(), text.data(), text.size());
  if (written < 0) return fail_errno("write " + path_);
  bytes_ += static_cast<std::size_t>(written);
  if (static_cast<std::size_t>(written) != text.size()) {
    bytes_ += static_cast<std::size_t>(::write(file_.get(), "\n", 1) == 1);
    return fail(Errc::kSystem, "write " + path_ + ": no space left for a whole line");
  }
  if (sync && ::fdatasync(file_.get()) != 0) return fail_errno("sync " + path_);
  return {};
}

}  // namespace lifeboat
