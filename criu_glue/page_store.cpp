#include "criu_glue/page_store.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace lifeboat {

namespace {

constexpr std::uint64_t kArenaBytes = 64U << 20;  // one mapping for many chunks: mappings are counted
constexpr std::uint32_t kHugePiece = 64;          // a first piece of so many pages gets huge pages

std::uint64_t chunk_of(std::uint64_t address) { return address / kChunkBytes * kChunkBytes; }

std::uint64_t count(const std::bitset<kChunkPages>& pages, std::uint64_t first, std::uint64_t number) {
  if (pages.none()) return 0;
  std::uint64_t found = 0;
  for (std::uint64_t page = first; page < first + number; ++page) found += pages[page] ? 1 : 0;
  return found;
}

}  // namespace

PageStore::~PageStore() {
  for (unsigned char* arena : arenas_) ::munmap(arena, kArenaBytes);
}

unsigned char* PageStore::new_chunk() {
  if (arenas_.empty() || arena_used_ == kArenaBytes) {
    void* const memory = ::mmap(nullptr, kArenaBytes + kChunkBytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    // Aligned to a chunk, for huge pages; what is left over is given back.
    auto* const raw = static_cast<unsigned char*>(memory);
    const auto skew = reinterpret_cast<std::uintptr_t>(raw) % kChunkBytes;
    unsigned char* const arena = raw + (skew == 0 ? 0 : kChunkBytes - skew);
    if (arena > raw) ::munmap(raw, static_cast<std::size_t>(arena - raw));
    const auto tail = static_cast<std::size_t>(raw + kArenaBytes + kChunkBytes - (arena + kArenaBytes));
    if (tail > 0) ::munmap(arena + kArenaBytes, tail);
    (void)::madvise(arena, kArenaBytes, MADV_DONTDUMP);
    // The pager's guard is forked in the middle of the freeze, which would copy the page tables of all this
    // (7 ms per GB where there are no huge pages), and it would keep what is given back here.
    (void)::madvise(arena, kArenaBytes, MADV_DONTFORK);
    arenas_.push_back(arena);
    arena_used_ = 0;
  }
  unsigned char* const chunk = arenas_.back() + arena_used_;
  arena_used_ += kChunkBytes;
  return chunk;
}

Result<PageStore::Chunk*> PageStore::chunk_at(std::uint32_t pid, std::uint64_t address) {
  const Key key{pid, chunk_of(address)};
  const auto at = chunks_.find(key);
  if (at != chunks_.end()) return &at->second;
  // A process may use its address space thinly, but not without limit.
  const std::uint64_t chunks_max = 65536 + 16 * (budget_->bytes_max() / kChunkBytes);
  if (chunks_.size() >= chunks_max) {
    return fail(Errc::kRefused, "pages in more than " + std::to_string(chunks_max) +
                                    " places: more than was reserved for this container");
  }
  return &chunks_[key];
}

Result<unsigned char*> PageStore::place(std::uint32_t pid, std::uint64_t address,
                                        std::uint32_t pages) {
  const std::uint64_t offset = address % kChunkBytes;
  if (pages == 0 || address % kPageBytes != 0 || offset + pages * kPageBytes > kChunkBytes) {
    return fail(Errc::kProtocol, "pages that do not lie in one chunk");
  }
  TRY(Chunk* chunk, chunk_at(pid, address));
  if (!budget_->fits((pages - count(chunk->data, offset / kPageBytes, pages)) * kPageBytes)) {
    return fail(Errc::kRefused, "the pages exceed the " + std::to_string(budget_->bytes_max() >> 20) +
                                    " MiB that were reserved for them");
  }
  if (chunk->memory == nullptr) {
    chunk->memory = new_chunk();
    if (chunk->memory == nullptr) return fail_errno("memory for pages");
    if (pages >= kHugePiece) (void)::madvise(chunk->memory, kChunkBytes, MADV_HUGEPAGE);
  }
  return chunk->memory + offset;
}

void PageStore::mark_data(std::uint32_t pid, std::uint64_t address, std::uint32_t pages) {
  Chunk& chunk = chunks_[{pid, chunk_of(address)}];
  const std::uint64_t first = address % kChunkBytes / kPageBytes;
  const std::uint64_t fresh = (pages - count(chunk.data, first, pages)) * kPageBytes;
  for (std::uint64_t page = first; page < first + pages; ++page) {
    chunk.data.set(page);
    chunk.zero.reset(page);
  }
  bytes_ += fresh;
  budget_->take(fresh);
}

Status PageStore::mark_zero(std::uint32_t pid, std::uint64_t address, std::uint32_t pages) {
  const std::uint64_t end = address + pages * kPageBytes;
  while (address < end) {
    TRY(Chunk* chunk, chunk_at(pid, address));
    const std::uint64_t first = address % kChunkBytes / kPageBytes;
    const std::uint64_t here = std::min((end - address) / kPageBytes, kChunkPages - first);
    const std::uint64_t given_back = count(chunk->data, first, here) * kPageBytes;
    for (std::uint64_t page = first; page < first + here; ++page) {
      chunk->data.reset(page);
      chunk->zero.set(page);
    }
    bytes_ -= given_back;
    budget_->give_back(given_back);
    address += here * kPageBytes;
  }
  return {};
}

const unsigned char* PageStore::find(std::uint32_t pid, std::uint64_t address) const {
  const auto at = chunks_.find({pid, chunk_of(address)});
  if (at == chunks_.end() || address % kPageBytes != 0) return nullptr;
  const std::uint64_t offset = address % kChunkBytes;
  return at->second.data[offset / kPageBytes] ? at->second.memory + offset : nullptr;
}

}  // namespace lifeboat
