// Pages of images: a ghost file's image in whatever state, and what a peer sends beforehand and names later.
#include <algorithm>

#include "criu_glue/images.hpp"
#include "fuzz.hpp"
#include "migration/known_pages.hpp"

namespace {

using namespace lifeboat;

// All of a file is handed out, in order, whatever is made of it.
void read_ghost(const std::string& bytes) {
  const fuzz::Directory directory;
  directory.write("/ghost-file-1.img", bytes);
  ImageReader reader(directory.path());
  fuzz::require(reader.scan(true).has_value(), "a directory can be read");
  std::vector<unsigned char> buffer(2 * kPageBytes);
  std::string out;
  for (;;) {
    const auto chunk = reader.next(buffer.data(), buffer.size());
    fuzz::require(chunk.has_value(), "a file can be read");
    if (chunk->size == 0) break;
    fuzz::require(chunk->offset == out.size(), "nothing is left out");
    out.append(buffer.begin(), buffer.begin() + static_cast<long>(chunk->size));
  }
  fuzz::require(out == bytes, "what is handed out is what is there");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  constexpr std::uint64_t kPagesMax = 5;
  PageShelf shelf(kPagesMax * kPageBytes);
  std::vector<unsigned char> there;  // the first byte of each page
  for (int i = input.ConsumeIntegralInRange(0, 20); i > 0; --i) {
    if (input.ConsumeBool()) {
      const auto first = input.ConsumeIntegralInRange<std::uint64_t>(0, kPagesMax + 1);
      const std::size_t bytes = input.ConsumeIntegralInRange<std::size_t>(0, 3) * kPageBytes + (input.ConsumeBool() ? 1 : 0);
      const auto value = input.ConsumeIntegral<unsigned char>();
      const Status appended = shelf.append(first, std::vector<unsigned char>(bytes, value).data(), bytes);
      fuzz::require_good(appended);
      if (appended) there.insert(there.end(), bytes / kPageBytes, value);
      fuzz::require(there.size() <= kPagesMax, "no more is kept than is allowed");
    } else {
      const auto number = input.ConsumeIntegralInRange<std::uint32_t>(0, 10);
      std::vector<unsigned char> page(kPageBytes);
      const Status copied = shelf.copy(number, page.data());
      fuzz::require_good(copied);
      fuzz::require(copied.has_value() == (number < there.size()), "there is what was sent");
      if (copied) fuzz::require(std::count(page.begin(), page.end(), there[number]) == kPageBytes, "and as it was");
    }
  }
  read_ghost(input.ConsumeRemainingBytesAsString());
  return 0;
}
