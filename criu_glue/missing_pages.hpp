// missing_pages.hpp - what one restored process lacks, kept in step with what it does to its mappings, by what its
// userfaultfd tells. Pure.
//
// Threads tell what they do after they have done it and let others do the like; and mremap tells of its move
// first and, once that was read, that it left its old place (UNMAP). So something may come to a place of which it has
// not been told yet that it is free, and what is told of the place next is about what was there before. While
// anything is untold, no page can be filled (the kernel says EAGAIN), so that what is here is right in time.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "criu_glue/pending.hpp"

namespace lifeboat {

class MissingPages {
 public:
  // By where they belong; and those that something else came in the place of: it is told soon where they are, or
  // that they are gone.
  struct Pages : Pending {
    Pending displaced;
  };

  MissingPages() = default;
  MissingPages(Pending pending, Pending absent, bool moved);

  // mremap of [from, +bytes) to `to`.
  void move(std::uint64_t from, std::uint64_t to, std::uint64_t bytes);
  // munmap, or mremap has left this place: false, and nothing more has happened.
  bool unmap(std::uint64_t start, std::uint64_t end);
  // madvise: the process has given these up.
  void give_up(std::uint64_t start, std::uint64_t end);

  // Whether something is expected to be told yet; and that it will not be.
  [[nodiscard]] bool untold() const { return !left_.empty() || !not_told_free_.empty(); }
  void all_is_told();

  [[nodiscard]] std::uint64_t bytes() const;

  Pages pending;       // their bytes are here
  Pages absent;        // still at the source; a piece's source is its address there
  bool moved = false;  // what is absent may belong elsewhere than it was at the source

 private:
  struct Part {
    std::uint64_t start = 0, end = 0;
    bool displaced = false;
  };
  // What of [start, end) something that is told is about what was displaced, and what about what is there.
  std::vector<Part> vacate(std::uint64_t start, std::uint64_t end);
  static std::vector<Pending::Piece> take(Pages& pages, const std::vector<Part>& parts);

  Pending mapped_;         // where pages were missing at first, and what was moved: as far as it was told
  Pending not_told_free_;  // of that, where something else has come already
  std::map<std::uint64_t, std::uint64_t> left_;  // by mremap, which has not told that it is free
};

}  // namespace lifeboat
