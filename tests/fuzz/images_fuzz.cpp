// Image files as a peer announces and sends them: only plain names in the directory, within the
// limit.
#include "criu_glue/images.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  constexpr std::uint64_t kBytesMax = 4096;
  const fuzz::Directory directory;
  std::filesystem::create_directory(directory.path("/images"));
  FuzzedDataProvider input(data, size);
  std::map<std::string, std::uint64_t> sizes;
  {
    ImageWriter writer(directory.path("/images"), kBytesMax);
    while (input.remaining_bytes() > 0) {
      if (input.ConsumeBool()) {
        const std::string name = input.ConsumeRandomLengthString(20);
        const Status opened = writer.open(input.ConsumeIntegralInRange<std::uint32_t>(0, 8), name);
        fuzz::require_good(opened);
        if (opened) fuzz::require(sizes.emplace(name, 0).second, "a name is given once");
      } else {
        const auto bytes =
            input.ConsumeBytes<unsigned char>(input.ConsumeIntegralInRange<std::size_t>(0, 99));
        ImageChunk chunk;
        chunk.file = input.ConsumeIntegralInRange<std::uint32_t>(0, 8);
        chunk.offset = input.ConsumeIntegralInRange<std::uint64_t>(0, 200);
        chunk.size = bytes.size();
        fuzz::require_good(writer.write(chunk, bytes.data()));
      }
    }
    fuzz::require(writer.bytes() <= kBytesMax, "no more is written than is allowed");
  }
  std::uint64_t bytes = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(directory.path("/images"))) {
    fuzz::require(sizes.contains(entry.path().filename()), "no file but those that were announced");
    bytes += entry.file_size();
  }
  fuzz::require(bytes <= kBytesMax, "no file is longer than what came");
  std::size_t beside = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path()))
    beside += entry.exists();
  fuzz::require(beside == 1, "nothing is made beside the directory");
  return 0;
}
