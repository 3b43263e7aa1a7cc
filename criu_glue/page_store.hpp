// page_store.hpp - pages of a container on their way, kept at the target until the pager has put
// them into the restored processes.
//
// A store is the property of one connection and its thread: the same page always comes over the same
// connection (shard_of()), so the last one received is the newest, without locks. Once everything
// has arrived the stores are read together (pager.hpp).
//
// Memory is reserved in chunks of 2 MiB of address space; what was never received takes none.
#pragma once

#include <atomic>
#include <bitset>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

// Which of `shards` connections carries this page.
[[nodiscard]] inline unsigned shard_of(std::uint32_t pid, std::uint64_t address, unsigned shards) {
  return static_cast<unsigned>((address / kChunkBytes + pid) % shards);
}

// What the stores of one container may hold together, in bytes of pages. Each thread looks before it
// receives, so it may be exceeded by one record per connection.
class PageBudget {
 public:
  explicit PageBudget(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}
  [[nodiscard]] std::uint64_t bytes_max() const { return bytes_max_; }
  [[nodiscard]] bool fits(std::uint64_t bytes) const { return used_ + bytes <= bytes_max_; }
  void take(std::uint64_t bytes) { used_ += bytes; }
  void give_back(std::uint64_t bytes) { used_ -= bytes; }

 private:
  std::uint64_t bytes_max_;
  std::atomic<std::uint64_t> used_{0};
};

class PageStore {
 public:
  struct Chunk {
    unsigned char* memory = nullptr;  // kChunkBytes, mapped
    std::bitset<kChunkPages> data;    // received, and not all zeros
    std::bitset<kChunkPages> zero;    // received as zeros (takes no memory)
  };
  // {pid in the container, address of the chunk}
  using Key = std::pair<std::uint32_t, std::uint64_t>;

  explicit PageStore(std::shared_ptr<PageBudget> budget) : budget_(std::move(budget)) {}
  PageStore(const PageStore&) = delete;
  PageStore& operator=(const PageStore&) = delete;
  ~PageStore();

  // Where to receive `pages` pages into; all of them must lie in one chunk. kProtocol when they do
  // not, kRefused when the budget does not allow those of them that are new.
  Result<unsigned char*> place(std::uint32_t pid, std::uint64_t address, std::uint32_t pages);
  // What was received there is right (its hash was checked).
  void mark_data(std::uint32_t pid, std::uint64_t address, std::uint32_t pages);
  // These pages are zeros now, whatever they were before. May span chunks.
  Status mark_zero(std::uint32_t pid, std::uint64_t address, std::uint32_t pages);

  // The bytes of a page that was received and is not all zeros; nullptr when there is none.
  [[nodiscard]] const unsigned char* find(std::uint32_t pid, std::uint64_t address) const;

  [[nodiscard]] const std::map<Key, Chunk>& chunks() const { return chunks_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  Result<Chunk*> chunk_at(std::uint32_t pid, std::uint64_t address);
  unsigned char* new_chunk();

  std::map<Key, Chunk> chunks_;
  std::vector<unsigned char*> arenas_;  // memory of many chunks each
  std::uint64_t arena_used_ = 0;        // of the last one
  std::uint64_t bytes_ = 0;  // of pages in `data`
  std::shared_ptr<PageBudget> budget_;
};

}  // namespace lifeboat
