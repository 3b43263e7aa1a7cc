#include "criu_glue/diagnosis.hpp"

#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/file.hpp"

namespace lifeboat {
namespace {

struct KnownCause {
  std::string_view sign;  // text in the log
  std::string_view advice;
};

constexpr KnownCause kKnownCauses[] = {
    {"unexpected rt vDSO", "this CRIU does not know this kernel's vDSO: install CRIU 4.2 or newer"},
    {"Unexpected rt vDSO", "this CRIU does not know this kernel's vDSO: install CRIU 4.2 or newer"},
    {"external pipe", "a rank's stdin/stdout is a pipe to outside the container"},
    {"External socket is used",
     "a process holds a unix socket whose other end is outside the container"},
    {"Can't lookup mount=", "a process has a file open that lies outside the container"},
    {"doesn't have a proper root mount", "a mount of the container is unknown to Lifeboat"},
    {"but we're not supposed to dump it", "a mount of the container is unknown to Lifeboat"},
    {"Can't dump ghost file", "a file without a name (shared memory, or removed while it is open) is larger than CRIU's limit of 4 GiB"},
    {"has bad size", "a file that the job holds open has another size at the target: it must be on "
                     "shared storage and not be written while the container is frozen"},
    {"Can't open file", "a file that the job holds open is missing at the target"},
    {"No space left on device", "the image directory is full: free memory or enlarge its tmpfs"},
    {"Cannot allocate memory", "the node is out of memory"},
    {"io_uring", "a process uses io_uring, which CRIU cannot move: set the library to do without"},
    {"/dev/infiniband", "a process uses RDMA, which cannot be moved: restrict UCX_TLS to tcp,self"},
    {"Can't handle non-regular mapping",
     "a process has a device mapped, which cannot be moved: restrict UCX_TLS to tcp,self"},
    {"Can't bind inet socket", "the container's address is not configured at the target"},
};

// "(00.012345) 1234: Error (criu/x.c:12): text" -> "Error (criu/x.c:12): text"
std::string_view without_stamp(std::string_view line) {
  const auto at = line.find("Error (");
  return at == std::string_view::npos ? line : line.substr(at);
}

// CRIU says it at every start without CAP_SYS_RESOURCE.
bool is_harmless(std::string_view line) { return line.find("RLIMIT_NOFILE") != std::string_view::npos; }

// Where the log has no room it cannot say so; nor may CRIU's message.
std::string no_room_for(const std::string& log_path) {
  constexpr unsigned long kLeast = 65536;
  const std::string directory = log_path.substr(0, log_path.rfind('/'));
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0 || info.f_bavail * info.f_frsize >= kLeast) return "";
  return directory + ": " + std::strerror(ENOSPC) + advice_for(ENOSPC);
}

}  // namespace

std::string criu_log_excerpt(std::string_view log) {
  constexpr std::size_t kLinesMax = 8;
  std::vector<std::string_view> lines;
  std::size_t skipped = 0;
  std::size_t start = 0;
  while (start < log.size()) {
    auto end = log.find('\n', start);
    if (end == std::string_view::npos) end = log.size();
    const std::string_view line = log.substr(start, end - start);
    start = end + 1;
    if (is_harmless(line)) continue;
    if (line.find("Error (") == std::string_view::npos) continue;
    if (lines.size() < kLinesMax) {
      lines.push_back(without_stamp(line));
    } else {
      ++skipped;
    }
  }
  std::string text;
  for (std::string_view line : lines) text.append("\n  criu: ").append(line);
  if (skipped > 0) text += "\n  criu: (" + std::to_string(skipped) + " more)";
  return text;
}

std::string criu_advice(std::string_view log) {
  for (const KnownCause& cause : kKnownCauses) {
    if (log.find(cause.sign) != std::string_view::npos) return std::string(cause.advice);
  }
  return "";
}

Error explain_criu(const Error& error, const std::string& log_path) {
  constexpr std::size_t kLogBytesMax = 16 << 20;
  auto log = read_file(log_path, kLogBytesMax);
  // CRIU's own message repeats its first error, which may be the harmless one.
  const bool own = error.message.find("Error (") == std::string::npos && !error.message.empty();
  std::string text = own ? error.message : "criu failed";
  if (!log) return Error(error.code, text + " (no log: " + log.error().message + ")");
  const std::string excerpt = criu_log_excerpt(*log);
  if (excerpt.empty() && !own && !error.message.empty() && !is_harmless(error.message)) {
    text += ": " + error.message;
  }
  text += excerpt;
  if (const std::string no_room = no_room_for(log_path); !no_room.empty()) text += "\n  " + no_room;
  const std::string advice = criu_advice(*log);
  if (!advice.empty()) text += "\n  likely cause: " + advice;
  return Error(error.code, text);
}

}  // namespace lifeboat
