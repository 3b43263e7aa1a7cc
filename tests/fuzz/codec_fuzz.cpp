// Compressed pages: unpacking gives exactly the pages or an error, whatever comes; packing and
// unpacking gives what was packed.
#include "migration/codec.hpp"

#include <vector>

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  using page_stream::Encoding;
  static Decompressor decompressor;
  static Compressor compressor;
  FuzzedDataProvider input(data, size);
  const Encoding encoding =
      input.PickValueInArray({Encoding::kLz4, Encoding::kZstd, Encoding::kRaw});
  const bool round_trip = input.ConsumeBool();
  std::vector<unsigned char> pages(input.ConsumeIntegralInRange<std::size_t>(1, 4) * kPageBytes);
  const auto bytes = input.ConsumeRemainingBytes<unsigned char>();
  if (!round_trip || encoding == Encoding::kRaw || bytes.empty()) {
    fuzz::require_good(decompressor.unpack(encoding, bytes, pages));
    return 0;
  }
  for (std::size_t i = 0; i < pages.size(); ++i) pages[i] = bytes[i % bytes.size()];
  std::vector<unsigned char> packed(pages.size());
  packed.resize(compressor.pack(encoding, pages, packed));
  if (packed.empty()) return 0;
  std::vector<unsigned char> out(pages.size());
  fuzz::require(decompressor.unpack(encoding, packed, out).has_value() && out == pages,
                "what was packed comes out again");
  return 0;
}
