// Records of a writable layer as a source sends them: any bytes, and well-formed records that name
// each other, links that lead outside among them. Nothing outside of the layer's directory changes.
#include "migration/layer.hpp"

#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/little_endian.hpp"
#include "criu_glue/anonymous_memory.hpp"
#include "fuzz.hpp"

namespace {

using namespace lifeboat;

constexpr std::uint64_t kBytesMax = 256U << 10;

template <class T>
void put(std::vector<unsigned char>& out, T value) {
  out.resize(out.size() + sizeof(T));
  put_le<T>(out.data() + out.size() - sizeof(T), value);
}

void put_text(std::vector<unsigned char>& out, const std::string& text) {
  put<std::uint32_t>(out, static_cast<std::uint32_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

std::string any_path(FuzzedDataProvider& input) {
  static const char* const kPaths[] = {"a",    "b",         "a/a",    "a/b",      "b/a", "a/a/x",
                                       "link", "link/x",    "a/link", "a/link/x", "x",   "..",
                                       "../x", "a/../../x", "",       "/x",       "a/"};
  return input.PickValueInArray(kPaths);
}

void append_record(FuzzedDataProvider& input, std::vector<unsigned char>& out) {
  const auto op = input.ConsumeIntegralInRange<std::uint8_t>(1, 6);
  put<std::uint8_t>(out, op);
  switch (static_cast<LayerOp>(op)) {
    case LayerOp::kRemove:
      put_text(out, any_path(input));
      return;
    case LayerOp::kOpen:
      put_text(out, any_path(input));
      put<std::uint64_t>(out, input.ConsumeIntegralInRange<std::uint64_t>(0, 200000));
      put<std::uint8_t>(out, input.ConsumeBool());
      return;
    case LayerOp::kData: {
      const auto bytes =
          input.ConsumeBytes<unsigned char>(input.ConsumeIntegralInRange<std::size_t>(0, 64));
      put<std::uint64_t>(out, input.ConsumeIntegralInRange<std::uint64_t>(0, 200000));
      put<std::uint64_t>(out, XXH3_64bits(bytes.data(), bytes.size()));
      put<std::uint32_t>(out, static_cast<std::uint32_t>(bytes.size()));
      out.insert(out.end(), bytes.begin(), bytes.end());
      return;
    }
    case LayerOp::kHole:
      put<std::uint64_t>(out, input.ConsumeIntegralInRange<std::uint64_t>(0, 200000));
      put<std::uint64_t>(out, input.ConsumeIntegralInRange<std::uint64_t>(0, 70000));
      return;
    case LayerOp::kEntry: {
      static const unsigned kKinds[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK};
      static const char* const kTargets[] = {"..", "../outside", "../../outside",
                                             ".",  "a",          "/nowhere"};
      put_text(out, any_path(input));
      put<std::uint32_t>(
          out, input.PickValueInArray(kKinds) | (input.ConsumeIntegral<unsigned>() & 07777));
      put<std::uint32_t>(out, input.ConsumeIntegralInRange(0, 70000));
      put<std::uint32_t>(out, input.ConsumeIntegralInRange(0, 70000));
      put<std::uint64_t>(out, 0);
      put<std::uint64_t>(out, input.ConsumeIntegral<std::uint64_t>());
      put<std::uint64_t>(out, input.ConsumeIntegral<std::uint64_t>());
      put_text(out, input.PickValueInArray(kTargets));
      const auto count = input.ConsumeIntegralInRange<std::uint32_t>(0, 2);
      put<std::uint32_t>(out, count);
      for (std::uint32_t i = 0; i < count; ++i) {
        put_text(out, input.ConsumeBool() ? "user.x" : "trusted.overlay.opaque");
        put_text(out, input.ConsumeRandomLengthString(16));
      }
      return;
    }
    case LayerOp::kLink:
      put_text(out, any_path(input));
      put_text(out, any_path(input));
      return;
  }
}

// What a record outside of the layer would change.
std::string state_of(const std::string& outside) {
  struct stat directory {
  }, file{};
  fuzz::require(
      ::stat(outside.c_str(), &directory) == 0 && ::stat((outside + "/x").c_str(), &file) == 0,
      "what lies outside stays");
  return std::to_string(directory.st_mtim.tv_nsec) + " " + std::to_string(directory.st_mode) + " " +
         std::to_string(directory.st_uid) + " " + std::to_string(file.st_size) + " " +
         std::to_string(file.st_mode) + " " + std::to_string(file.st_uid) + " " +
         std::to_string(file.st_nlink) + " " + std::to_string(file.st_ctim.tv_nsec);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Directory directory;
  std::filesystem::create_directory(directory.path("/upper"));
  directory.write("/outside/x", "as it was");
  const std::string before = state_of(directory.path("/outside"));
  auto sink = LayerSink::open(directory.path("/upper"), kBytesMax);
  fuzz::require(sink.has_value(), "the layer can be opened");
  std::vector<Fd> files(2);
  for (Fd& file : files) file = std::move(*make_anonymous_memory());
  LayerSink memory(std::move(files), kBytesMax);
  FuzzedDataProvider input(data, size);
  if (input.ConsumeBool()) {
    const auto payload = input.ConsumeRemainingBytes<unsigned char>();
    fuzz::require_good(sink->apply(payload));
    fuzz::require_good(memory.apply(payload));
  } else {
    while (input.remaining_bytes() > 0) {
      std::vector<unsigned char> payload;
      append_record(input, payload);
      // Another record may be fine after one that was refused: a daemon stops here, so this is
      // stricter.
      fuzz::require_good(sink->apply(payload));
      fuzz::require_good(memory.apply(payload));
    }
  }
  fuzz::require_good(sink->finish_pass());
  fuzz::require_good(memory.finish_pass());
  fuzz::require_good(sink->settle({}));
  const std::string chosen(reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 12));
  for (const std::string& path : {chosen, std::string("../outside/x"), std::string(".."), std::string("a")}) {
    fuzz::require_good(sink->settle({path}));
  }
  fuzz::require(state_of(directory.path("/outside")) == before,
                "nothing outside of the layer changes");
  std::size_t beside = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    ++beside;
    (void)entry;
  }
  fuzz::require(beside == 2, "nothing is made beside the layer");
  return 0;
}
