#include "criu_glue/descriptors.hpp"

#include <fcntl.h>

#include <cstdlib>

#include "base/file.hpp"

namespace lifeboat {

bool uses_direct_io(pid_t pid) {
  bool found = false;
  each_descriptor(pid, [&](const std::string& number, const std::string& target) {
    if (target.empty() || target[0] != '/') return false;  // a pipe's O_DIRECT means something else
    const auto info = read_file("/proc/" + std::to_string(pid) + "/fdinfo/" + number, 8192);
    const auto at = info ? info->find("flags:") : std::string::npos;
    found = at != std::string::npos && (std::strtoul(info->c_str() + at + 6, nullptr, 8) & O_DIRECT) != 0;
    return found;
  });
  return found;
}

}  // namespace lifeboat
