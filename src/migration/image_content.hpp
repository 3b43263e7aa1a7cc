// image_content.hpp - what CRIU's images of a container will mostly hold, read while it still runs: files of
// shared memory, and what processes have privately that Lifeboat does not carry itself (mappings.hpp).
//
// Nothing is tracked, and all of it may change while it is read: it is only good to be compared with. What cannot
// be read is left out. Blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "migration/page_reader.hpp"

namespace lifeboat {

class ImageContent {
 public:
  static constexpr std::size_t kPieceBytes = 256U << 10;

  // `without`: files of shared memory that are left out, as
  // SharedMapping::file.
  static ImageContent of(const std::vector<pid_t>& pids, std::set<std::string> without = {});
  // The next whole pages, at most kPieceBytes; empty: that was all.
  void read(std::vector<unsigned char>& out);

 private:
  struct File {
    Fd fd;
    off_t at = 0;
    off_t hole = 0;  // where the data at `at` ends: looked up once, the kernel goes from page to page for it
  };
  struct Private {
    std::unique_ptr<PageReader> reader;
    std::vector<PagePiece> pieces;  // each no longer than kPieceBytes
    std::size_t at = 0;
  };
  static void read_file(File& file, std::vector<unsigned char>& out);
  static void read_private(Private& process, std::vector<unsigned char>& out);

  std::vector<File> files_;      // those at the end come first
  std::vector<Private> processes_;
};

}  // namespace lifeboat
