#include "criu_glue/cgroup_image.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/file.hpp"
#include "base/little_endian.hpp"
#include "criu_glue/files.pb.h"

namespace lifeboat {

namespace {

// Two magic numbers; with nothing behind them no sets are known. Then the size of the one message, and that.
constexpr std::uint32_t kCommonMagic = 0x54564319;
constexpr std::uint32_t kCgroupMagic = 0x59383330;
constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kHeaderBytes = kMagicBytes + 4;
constexpr std::size_t kImageBytesMax = 16U << 20;

}  // namespace

Result<bool> has_one_cgroup_set(std::string_view image) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(image.data());
  if (image.size() < kMagicBytes || get_le<std::uint32_t>(bytes) != kCommonMagic ||
      get_le<std::uint32_t>(bytes + 4) != kCgroupMagic) {
    return fail(Errc::kProtocol, "cgroup.img: not an image of cgroups");
  }
  if (image.size() == kMagicBytes) return false;
  criu::Cgroups cgroups;
  if (image.size() < kHeaderBytes || get_le<std::uint32_t>(bytes + kMagicBytes) != image.size() - kHeaderBytes ||
      !cgroups.ParseFromArray(bytes + kHeaderBytes, static_cast<int>(image.size() - kHeaderBytes))) {
    return fail(Errc::kProtocol, "cgroup.img: cut short or damaged");
  }
  return cgroups.sets_size() == 1;
}

Status leave_cgroups_out(const std::string& directory) {
  const std::string path = directory + "/cgroup.img";
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return {};
  TRY(const std::string image, read_file(path, kImageBytesMax));
  TRY(const bool one, has_one_cgroup_set(image));
  if (one && ::truncate(path.c_str(), kMagicBytes) != 0) return fail_errno("shorten " + path);
  return {};
}

}  // namespace lifeboat
