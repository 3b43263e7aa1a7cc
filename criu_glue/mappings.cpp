#include "criu_glue/mappings.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace lifeboat {

Result<std::string> read_proc(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT || errno == ESRCH) return fail(Errc::kNotFound, path + ": no such process");
    return fail_errno("open " + path);
  }
  std::string text;
  std::size_t used = 0;
  constexpr std::size_t kTextMax = 256U << 20;
  for (;;) {
    if (text.size() - used < 65536) text.resize(text.size() + 262144);
    const ssize_t n = ::read(fd.get(), text.data() + used, text.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == ESRCH) return fail(Errc::kNotFound, path + ": the process has ended");
    if (n < 0) return fail_errno("read " + path);
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
    if (used > kTextMax) return fail(Errc::kSystem, path + " is longer than any process's");
  }
  text.resize(used);
  return text;
}

namespace {

// At the end of the name that a file had.
constexpr std::string_view kDeleted = " (deleted)";

struct MapLine {
  AddressRange range;
  bool is_private = false;
  std::string_view file;  // "device inode"
  std::uint64_t inode = 0;
  std::uint64_t offset = 0;
  std::string_view name;

  [[nodiscard]] bool owned() const {
    const bool anonymous =
        name.empty() || name == "[heap]" || name.starts_with("[stack") || name.starts_with("[anon:");
    return is_private && inode == 0 && anonymous;
  }
};

// "7f00-7f01 rw-p 00000000 00:00 0   [heap]"
MapLine parse_map_line(std::string_view line) {
  MapLine map;
  const char* at = line.data();
  char* end = nullptr;
  map.range.start = std::strtoull(at, &end, 16);
  map.range.end = std::strtoull(end + 1, &end, 16);
  const char* const modes = end + 1;
  map.is_private = modes[3] == 'p';
  at = modes + 5;
  map.offset = std::strtoull(at, &end, 16);
  const char* const device = end + 1;
  const char* const space = std::strchr(device, ' ');
  map.inode = std::strtoull(space, &end, 10);
  map.file = std::string_view(device, static_cast<std::size_t>(end - device));
  map.name = std::string_view(end, static_cast<std::size_t>(line.data() + line.size() - end));
  map.name.remove_prefix(std::min(map.name.find_first_not_of(' '), map.name.size()));
  return map;
}

template <class Use>
void for_each_line(const std::string& text, Use use) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    use(std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
}

// Of /proc/PID/maps.
template <class Use>
void for_each_map(const std::string& text, Use use) {
  for_each_line(text, [&](std::string_view line) {
    if (line.size() >= 20) use(parse_map_line(line));
  });
}

bool has_locked_memory(pid_t pid) {
  auto status = read_proc("/proc/" + std::to_string(pid) + "/status");
  if (!status) return false;
  const auto at = status->find("VmLck:");
  return at != std::string::npos && std::strtoull(status->c_str() + at + 6, nullptr, 10) > 0;
}

// With the flags of each mapping: slow (it walks the page tables), so only where there is locked memory.
Result<std::vector<AddressRange>> owned_from_smaps(pid_t pid) {
  TRY(const std::string text, read_proc("/proc/" + std::to_string(pid) + "/smaps"));
  std::vector<AddressRange> found;
  MapLine current;
  for_each_line(text, [&](std::string_view line) {
    if (line.substr(0, 8) == "VmFlags:") {
      const std::string flags = std::string(line) + " ";
      const bool carried_by_criu = flags.find(" lo ") != std::string::npos ||
                                   flags.find(" ht ") != std::string::npos;
      if (current.owned() && !carried_by_criu) found.push_back(current.range);
    } else if (!line.empty() && (std::isdigit(line[0]) != 0 || (line[0] >= 'a' && line[0] <= 'f'))) {
      current = parse_map_line(line);
    }
  });
  return found;
}

}  // namespace

Result<std::vector<AddressRange>> owned_mappings(pid_t pid) {
  if (has_locked_memory(pid)) return owned_from_smaps(pid);
  TRY(const std::string text, read_proc("/proc/" + std::to_string(pid) + "/maps"));
  std::vector<AddressRange> found;
  for_each_map(text, [&](const MapLine& map) {
    if (map.owned()) found.push_back(map.range);
  });
  return found;
}

OpenedMapping open_mapped(pid_t pid, AddressRange range) {
  char path[96];
  std::snprintf(path, sizeof path, "/proc/%d/map_files/%llx-%llx", pid, static_cast<unsigned long long>(range.start),
                static_cast<unsigned long long>(range.end));
  OpenedMapping file{Fd(::open(path, O_RDONLY | O_NOATIME | O_CLOEXEC)), std::string(4096, '\0')};
  const ssize_t length = ::readlink(path, file.name.data(), file.name.size());
  file.name.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
  if (file.name.ends_with(kDeleted)) file.name.resize(file.name.size() - kDeleted.size());
  return file;
}

Result<std::vector<SharedMapping>> shared_mappings(pid_t pid) {
  TRY(const std::string text, read_proc("/proc/" + std::to_string(pid) + "/maps"));
  std::vector<SharedMapping> found;
  for_each_map(text, [&](const MapLine& map) {
    if (map.is_private || !map.name.ends_with(kDeleted)) return;
    found.push_back({map.range, std::string(map.file), map.offset});
  });
  return found;
}

Result<std::vector<AddressRange>> imaged_mappings(pid_t pid) {
  TRY(const std::vector<AddressRange> owned, owned_mappings(pid));
  TRY(const std::string text, read_proc("/proc/" + std::to_string(pid) + "/maps"));
  std::vector<AddressRange> found;
  for_each_map(text, [&](const MapLine& map) {
    const bool kernels = map.name.starts_with("[v");  // [vdso], [vvar]
    if (!map.is_private || kernels || std::find(owned.begin(), owned.end(), map.range) != owned.end()) return;
    found.push_back(map.range);
  });
  return found;
}

}  // namespace lifeboat
