#include "criu_glue/final_pages.hpp"

namespace lifeboat {

Status check_final_pages(std::span<const FinalPage> entries) {
  constexpr std::uint64_t kAddressEnd = std::uint64_t{1} << 56;
  std::uint32_t pid = 0;
  std::uint64_t end = 0;
  for (const FinalPage& entry : entries) {
    if (entry.pid != pid) end = 0;
    if (entry.pid < pid || entry.address < end || entry.address % kPageBytes != 0 || entry.pages == 0 ||
        entry.address >= kAddressEnd || entry.pages > (kAddressEnd - entry.address) / kPageBytes) {
      return fail(Errc::kProtocol, "a list of pages that is out of order: " + std::to_string(entry.pages) +
                                       " pages of process " + std::to_string(entry.pid) + " at " +
                                       std::to_string(entry.address) + ", after process " +
                                       std::to_string(pid) + " up to " + std::to_string(end));
    }
    pid = entry.pid;
    end = entry.address + entry.pages * kPageBytes;
  }
  return {};
}

}  // namespace lifeboat
