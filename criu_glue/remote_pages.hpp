// remote_pages.hpp - pages of a process as the source of a migration names them.
#pragma once

#include <cstdint>

namespace lifeboat {

struct RemotePages {
  std::uint32_t pid = 0;      // in the container
  std::uint32_t pages = 0;
  std::uint64_t address = 0;  // at the source
  bool operator==(const RemotePages&) const = default;
};

}  // namespace lifeboat
