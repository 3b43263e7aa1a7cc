// known_pages.hpp - pages of CRIU's images that the target has before CRIU has written them: sent while the
// container runs, and numbered in the order in which they were sent. Pure.
//
// Most of what CRIU dumps itself (memory that processes share, above all) is the same then as it was shortly
// before. What has changed meanwhile has another hash, and is simply not known.
//
// Two different pages with one XXH3-128 would be confused; see duplicates.hpp. What is put together from known
// pages is checked against a hash of what CRIU wrote, in any case.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "migration/page_record.hpp"

namespace lifeboat {

// At the source: by content.
class KnownPages {
 public:
  using PageHash = page_stream::PageHash;

  // Each takes about 60 bytes.
  explicit KnownPages(std::uint64_t pages_max) : pages_max_(pages_max) {}
  // The number of the page with this content.
  [[nodiscard]] std::optional<std::uint32_t> find(const PageHash& hash) const;
  // Gives it the next number, which means that it has to be sent; false: it has one, or there are too many.
  bool add(const PageHash& hash);
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(numbers_.size()); }

 private:
  struct Hasher {
    std::size_t operator()(const PageHash& hash) const { return hash.low; }
  };
  std::uint64_t pages_max_;
  std::unordered_map<PageHash, std::uint32_t, Hasher> numbers_;
};

// At the target: by number.
class PageShelf {
 public:
  // `bytes_max`: more are refused.
  explicit PageShelf(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}
  // Whole pages, which get the next numbers. kProtocol, kRefused.
  Status append(std::uint64_t first, const unsigned char* bytes, std::size_t size);
  // Copies the page with this number to `out`. kProtocol when there is none.
  Status copy(std::uint32_t number, unsigned char* out) const;

 private:
  std::uint64_t bytes_max_;
  std::uint64_t pages_ = 0;
  std::vector<std::unique_ptr<unsigned char[]>> blocks_;  // kChunkBytes each
};

}  // namespace lifeboat
