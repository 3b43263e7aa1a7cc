// page_reader.hpp - memory of another process, read page by page where it cannot be read at once; and
// which pages are zeros.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

// Consecutive pages within one chunk.
struct PagePiece {
  std::uint64_t address = 0;
  std::uint32_t pages = 0;
};

class PageReader {
 public:
  explicit PageReader(pid_t pid) : pid_(pid) {}

  // Reads all `pieces` one after another to `out`; `read` says of each page whether it could be read.
  // Memory without access (PROT_NONE) is read by /proc/PID/mem. An error (kUnavailable) when that cannot be
  // opened for now: of no descriptor, of no memory. Of a process that is gone nothing is read.
  [[nodiscard]] Status read(const std::vector<PagePiece>& pieces, unsigned char* out, std::vector<bool>& read);

 private:
  Result<bool> read_one(std::uint64_t address, unsigned char* out);

  pid_t pid_;
  Fd mem_;
};

[[nodiscard]] bool is_zero_page(const unsigned char* page);

}  // namespace lifeboat
