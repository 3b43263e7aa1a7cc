#include "criu_glue/pagemap_image.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>

#include "base/file.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

namespace {

// An image: two magic numbers, then messages with their sizes before them: a head, then entries.
// Numbers are little-endian, as is every machine that CRIU supports this way.
constexpr std::uint32_t kCommonMagic = 0x54564319;
constexpr std::uint32_t kPagemapMagic = 0x56084025;
constexpr std::uint32_t kFlagLazy = 1U << 1;
// An entry is five numbers; more would be another format.
constexpr std::uint32_t kMessageBytesMax = 256;
// An entry a page: enough for 100 GB of the worst fragmentation.
constexpr std::size_t kImageBytesMax = 512U << 20;
constexpr std::uint64_t kAddressEnd = std::uint64_t{1} << 56;

// Reads what is left from the front.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}
  [[nodiscard]] bool at_end() const { return bytes_.empty(); }

  std::optional<std::string_view> take(std::size_t size) {
    if (size > bytes_.size()) return std::nullopt;
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  std::optional<std::uint32_t> u32() {
    const auto taken = take(sizeof(std::uint32_t));
    if (!taken) return std::nullopt;
    std::uint32_t value = 0;
    std::memcpy(&value, taken->data(), sizeof value);
    return value;
  }
  std::optional<std::uint64_t> varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !bytes_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_.front());
      bytes_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
      if ((byte & 0x80U) == 0) return value;
    }
    return std::nullopt;
  }

 private:
  std::string_view bytes_;
};

enum WireType : std::uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// Numbers of CRIU's images/pagemap.proto.
struct PagemapEntry {
  std::optional<std::uint64_t> address;       // 1
  std::optional<std::uint64_t> compat_pages;  // 2
  std::optional<std::uint64_t> flags;         // 4
  std::optional<std::uint64_t> pages;         // 5
};

bool skip(Cursor& message, std::uint64_t wire_type) {
  switch (wire_type) {
    case kVarint: return message.varint().has_value();
    case kFixed64: return message.take(8).has_value();
    case kFixed32: return message.take(4).has_value();
    case kBytes: {
      const auto size = message.varint();
      return size && *size <= kMessageBytesMax && message.take(*size).has_value();
    }
    default: return false;
  }
}

bool parse(Cursor message, PagemapEntry& entry) {
  while (!message.at_end()) {
    const auto key = message.varint();
    if (!key) return false;
    const std::uint64_t wire_type = *key & 7U;
    std::optional<std::uint64_t>* field = nullptr;
    switch (*key >> 3U) {
      case 1: field = &entry.address; break;
      case 2: field = &entry.compat_pages; break;
      case 4: field = &entry.flags; break;
      case 5: field = &entry.pages; break;
      default: break;
    }
    if (field == nullptr) {
      if (!skip(message, wire_type)) return false;
      continue;
    }
    if (wire_type != kVarint) return false;
    *field = message.varint();
    if (!*field) return false;
  }
  return true;
}

bool add(const PagemapEntry& entry, std::uint32_t pid, PagemapImages& images) {
  // CRIU 4.2 has the 64-bit count; before, there was the other one only.
  const std::uint64_t pages = entry.pages ? *entry.pages : entry.compat_pages.value_or(0);
  if (!entry.address || *entry.address % kPageBytes != 0 || *entry.address >= kAddressEnd ||
      pages > (kAddressEnd - *entry.address) / kPageBytes) {
    return false;
  }
  if (pages == 0) return true;
  if ((entry.flags.value_or(0) & kFlagLazy) == 0) {
    images.eager_pages += pages;
    return true;
  }
  LazyRange range;
  range.pid = pid;
  range.address = *entry.address;
  range.pages = pages;
  images.lazy.push_back(range);
  return true;
}

// "pagemap-17.img" -> 17. Those of shared memory ("pagemap-shmem-5.img") are never lazy.
std::optional<std::uint32_t> pid_from(std::string_view name) {
  constexpr std::string_view kPrefix = "pagemap-";
  constexpr std::string_view kSuffix = ".img";
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix) ||
      name.size() <= kPrefix.size() + kSuffix.size()) {
    return std::nullopt;
  }
  name.remove_prefix(kPrefix.size());
  name.remove_suffix(kSuffix.size());
  std::uint32_t pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
  return pid;
}

}  // namespace

Status parse_pagemap_image(std::string_view bytes, std::uint32_t pid, PagemapImages& images) {
  const auto malformed = [&] {
    return fail(Errc::kProtocol, "pagemap image of process " + std::to_string(pid) +
                                     " cannot be understood; is criu newer than Lifeboat knows?");
  };
  Cursor image(bytes);
  if (image.u32() != kCommonMagic || image.u32() != kPagemapMagic) return malformed();
  bool head = true;
  while (!image.at_end()) {
    const auto size = image.u32();
    if (!size || *size > kMessageBytesMax) return malformed();
    const auto message = image.take(*size);
    if (!message) return malformed();
    if (!std::exchange(head, false)) {
      PagemapEntry entry;
      if (!parse(Cursor(*message), entry) || !add(entry, pid, images)) return malformed();
    }
  }
  if (head) return malformed();
  ++images.processes;
  return {};
}

Result<PagemapImages> read_pagemap_images(const std::string& directory) {
  std::map<std::uint32_t, std::string> paths;  // by pid: the result must not depend on readdir
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename();
    if (const auto pid = pid_from(name)) paths.emplace(*pid, at->path());
  }
  if (error) return fail(Errc::kSystem, "list images in " + directory + ": " + error.message());
  PagemapImages images;
  for (const auto& [pid, path] : paths) {
    TRY(const std::string bytes, read_file(path, kImageBytesMax));
    CHECK_OK(parse_pagemap_image(bytes, pid, images));
  }
  return images;
}

Result<std::vector<LazyRange>> lazy_pages_in_images(const std::string& directory) {
  TRY(PagemapImages images, read_pagemap_images(directory));
  return std::move(images.lazy);
}

}  // namespace lifeboat
