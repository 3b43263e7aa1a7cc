#include "migration/arrival_memory.hpp"

#include <filesystem>

#include "base/process.hpp"

namespace lifeboat {

namespace {

// Images are pages plus little else; and a container may have grown since it made the offer.
constexpr std::uint64_t kSlackBytes = 256U << 20;

std::uint64_t bytes_in(const std::string& directory) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    std::error_code gone;
    const std::uint64_t size = entry.file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

}  // namespace

ArrivalMemory arrival_memory(std::uint64_t resident, bool pages) {
  ArrivalMemory memory;
  memory.received_max = resident + resident / 4 + kSlackBytes;
  memory.reserved = memory.received_max + (pages ? 0 : resident);
  return memory;
}

std::function<std::uint64_t()> arrival_memory_counter(std::weak_ptr<Container> container,
                                                      pid_t pager, std::string images) {
  return [container = std::move(container), pager, images = std::move(images)] {
    std::uint64_t bytes = bytes_in(images);
    if (pager > 0) bytes += resident_bytes(pager);
    if (const auto alive = container.lock()) bytes += alive->resident_bytes();
    return bytes;
  };
}

}  // namespace lifeboat
