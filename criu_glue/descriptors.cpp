#include "criu_glue/descriptors.hpp"

#include <fcntl.h>

#include <cstdlib>

#include "base/file.hpp"

namespace lifeboat {

std::optional<bool> is_for_direct_io(pid_t pid, const std::string& number, const std::string& target) {
  if (target.empty() || target[0] != '/') return false;  // a pipe's O_DIRECT means something else
  const auto info = read_file("/proc/" + std::to_string(pid) + "/fdinfo/" + number, 8192);
  const auto at = info ? info->find("flags:") : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  return (std::strtoul(info->c_str() + at + 6, nullptr, 8) & O_DIRECT) != 0;
}

bool uses_direct_io(pid_t pid) {
  bool found = false;
  (void)each_descriptor(pid, [&](const std::string& number, const std::string& target) {
    found = is_for_direct_io(pid, number, target).value_or(false);
    return found;
  });
  return found;
}

}  // namespace lifeboat
