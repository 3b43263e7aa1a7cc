#include "base/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <vector>

#include "base/fd.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno("read " + path);
  std::string text;
  char chunk[16 * 1024];
  for (;;) {
    const ssize_t n = ::read(fd.get(), chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read " + path);
    if (n == 0) return text;
    text.append(chunk, static_cast<std::size_t>(n));
    if (text.size() > limit) {
      return fail(Errc::kInvalid,
                  "read " + path + ": larger than " + std::to_string(limit) + " bytes");
    }
  }
}

namespace {

Status write_all(int fd, const std::string& text, const std::string& path) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("write " + path);
    done += static_cast<std::size_t>(n);
  }
  return {};
}

}  // namespace

Status replace_file(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return fail_errno("write " + temporary);
  Status written = write_all(fd.get(), text, temporary);
  if (written && ::fsync(fd.get()) != 0) written = fail_errno("fsync " + temporary);
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0) written = fail_errno("rename to " + path);
  if (!written) {
    ::unlink(temporary.c_str());  // where there is no room, half a file must not take any
    return written;
  }
  Fd directory(::open(fs::path(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return fail_errno("fsync the directory of " + path);
  return {};
}

Status write_value(const std::string& path, const std::string& value) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return fail_errno("write " + path);
  if (::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
    return fail_errno("write '" + value + "' to " + path);
  }
  return {};
}

Status make_directories(const std::string& path) {
  std::error_code error;
  const mode_t old = ::umask(077);
  fs::create_directories(path, error);
  ::umask(old);
  if (error) return fail(Errc::kSystem, "create directory " + path + ": " + error.message());
  return {};
}

Status remove_tree(const std::string& path) {
  struct stat top {};
  if (::lstat(path.c_str(), &top) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno("remove " + path);
  }
  std::error_code error;
  if (S_ISDIR(top.st_mode)) {
    std::vector<fs::path> entries;
    for (const auto& entry : fs::directory_iterator(path, error)) entries.push_back(entry.path());
    for (const auto& entry : entries) {
      struct stat inner {};
      if (::lstat(entry.c_str(), &inner) == 0 && inner.st_dev != top.st_dev) {
        return fail(Errc::kConflict, "remove " + path + ": " + entry.string() + " is a mount");
      }
      CHECK_OK(remove_tree(entry.string()));
    }
  }
  fs::remove(path, error);
  if (error) return fail(Errc::kSystem, "remove " + path + ": " + error.message());
  return {};
}

}  // namespace lifeboat
