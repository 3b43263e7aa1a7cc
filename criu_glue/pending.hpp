// pending.hpp - the pages of one restored process that are still missing: where they belong, and
// where in the page stores they lie. Pure; missing_pages.hpp keeps it in step with the process.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "criu_glue/memory.hpp"

namespace lifeboat {

class Pending {
 public:
  struct Piece {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
    unsigned char* source = nullptr;
  };

  // Pages at [address, +bytes) come from `source`. Must not overlap what is there.
  void add(const Piece& piece);
  // Never to be delivered: unmapped, or given up with madvise.
  void remove(std::uint64_t start, std::uint64_t end);

  // Takes out up to `bytes_max` bytes around `address`, aligned to that size; nothing when the page
  // at `address` is not pending.
  std::optional<Piece> take_around(std::uint64_t address, std::uint64_t bytes_max);
  // Takes out the first piece at or after `hint`, or from the beginning.
  std::optional<Piece> take_next(std::uint64_t hint, std::uint64_t bytes_max);
  // Takes out everything whose source lies in [source, +bytes), wherever it belongs. All pieces are
  // looked at.
  std::vector<Piece> take_from_source(const unsigned char* source, std::uint64_t bytes);
  // Takes out everything in [start, end).
  std::vector<Piece> take_within(std::uint64_t start, std::uint64_t end);

  // Whether the page at `address` is pending.
  [[nodiscard]] bool contains(std::uint64_t address) const;
  [[nodiscard]] std::vector<Piece> pieces() const;
  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  struct Range {
    std::uint64_t end = 0;
    unsigned char* source = nullptr;
  };
  using Ranges = std::map<std::uint64_t, Range>;
  // Takes [start, end), which lies in the range at `at`, out of it.
  Piece cut(Ranges::iterator at, std::uint64_t start, std::uint64_t end);

  Ranges ranges_;
  std::uint64_t bytes_ = 0;
};

}  // namespace lifeboat
