// The list of all pages of a container, as a source sends it: what is taken is in order and
// overlaps nowhere.
#include "criu_glue/final_pages.hpp"

#include <cstring>
#include <vector>

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  std::vector<FinalPage> entries(size / sizeof(FinalPage));
  if (!entries.empty()) std::memcpy(entries.data(), data, entries.size() * sizeof(FinalPage));
  const Status checked = check_final_pages(entries);
  fuzz::require_good(checked);
  if (!checked) return 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const FinalPage& page = entries[i];
    fuzz::require(page.pages > 0 && page.address % kPageBytes == 0, "an entry is one of pages");
    fuzz::require(page.address / kPageBytes + page.pages <= (1ULL << 56) / kPageBytes,
                  "it lies in an address space");
    if (i == 0) continue;
    const FinalPage& before = entries[i - 1];
    fuzz::require(
        before.pid < page.pid ||
            (before.pid == page.pid && before.address + before.pages * kPageBytes <= page.address),
        "entries are in order and do not overlap");
  }
  return 0;
}
