#include "criu_glue/timer_image.hpp"

#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "base/file.hpp"
#include "criu_glue/files.pb.h"

namespace lifeboat {

namespace {

// An image: two magic numbers, then messages with their sizes before them.
constexpr std::uint32_t kCommonMagic = 0x54564319;
constexpr std::uint32_t kFilesMagic = 0x56303138;
constexpr std::size_t kImageBytesMax = 64U << 20;

std::optional<std::uint32_t> take_u32(std::string_view& bytes) {
  std::uint32_t value = 0;
  if (bytes.size() < sizeof value) return std::nullopt;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

void put_u32(std::string& bytes, std::uint32_t value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

bool stands_still(const criu::Timer& timer) {
  const bool periodic = timer.interval_s() != 0 || timer.interval_ns() != 0;
  return periodic && timer.value_s() == 0 && timer.value_ns() == 0;
}

}  // namespace

Result<std::optional<std::string>> with_timers_rearmed(std::string_view image) {
  std::string mended;
  bool changed = false;
  const auto common = take_u32(image);
  const auto magic = take_u32(image);
  if (common != kCommonMagic || magic != kFilesMagic) return fail(Errc::kProtocol, "files.img: not an image of files");
  put_u32(mended, *common);
  put_u32(mended, *magic);
  while (!image.empty()) {
    const auto size = take_u32(image);
    criu::File file;
    if (!size || *size > image.size() || !file.ParseFromArray(image.data(), static_cast<int>(*size))) {
      return fail(Errc::kProtocol, "files.img: cut short or damaged");
    }
    std::string entry(image.substr(0, *size));
    image.remove_prefix(*size);
    if (file.has_timer() && stands_still(file.timer())) {
      criu::Timer& timer = *file.mutable_timer();
      timer.set_value_s(timer.interval_s());
      timer.set_value_ns(timer.interval_ns());
      entry = file.SerializeAsString();
      changed = true;
    }
    put_u32(mended, static_cast<std::uint32_t>(entry.size()));
    mended += entry;
  }
  if (!changed) return std::optional<std::string>();
  return std::optional<std::string>(std::move(mended));
}

Status rearm_timers(const std::string& directory) {
  const std::string path = directory + "/files.img";
  TRY(const std::string image, read_file(path, kImageBytesMax));
  TRY(const std::optional<std::string> mended, with_timers_rearmed(image));
  return mended ? replace_file(path, *mended) : Status();
}

}  // namespace lifeboat
