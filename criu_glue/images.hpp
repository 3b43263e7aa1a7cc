// images.hpp - CRIU's image files as they move: read while CRIU still writes them, and written at
// the target, in memory only.
//
// At the source the page files grow by appending, so their bytes are sent while the dump is still
// going on, and each part that was sent is punched out of the file: the images never hold a second
// copy of the container's memory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/ghost_layout.hpp"

namespace lifeboat {

// A directory for images on tmpfs, removed with its contents when this object goes.
class ImageDirectory {
 public:
  // kRefused when `parent` is not in memory (tmpfs): images must never touch a disk.
  static Result<ImageDirectory> create(const std::string& parent, const std::string& name);
  ImageDirectory(ImageDirectory&& other) noexcept : path_(std::move(other.path_)) {
    other.path_.clear();
  }
  ImageDirectory& operator=(ImageDirectory&&) = delete;
  ~ImageDirectory();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  explicit ImageDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// True when `path` lies on tmpfs.
bool is_in_memory(const std::string& path);

// More files than any container has; a peer that announces more is not believed.
inline constexpr std::size_t kImageFilesMax = 4096;

struct ImageChunk {
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
  std::size_t size = 0;  // bytes put into the buffer
  bool pages = false;    // of memory or of a file: as many as are whole, one after another
};

// Follows a directory that CRIU dumps into.
class ImageReader {
 public:
  struct File {
    std::string name;
    std::uint64_t sent = 0;     // bytes handed out
    std::uint64_t punched = 0;  // bytes given back to the system
    Fd fd;
    GhostLayout layout;         // of a ghost file
    ImagePart part;             // the one that is being handed out: what is left of it
  };

  explicit ImageReader(std::string path) : path_(std::move(path)) {}

  // Looks for files: those that only grow (pages, ghost files) while CRIU runs, all of them, a last time,
  // once it is done.
  Status scan(bool dump_complete);
  // The next chunk not yet handed out, copied into `buffer` (of whole pages); size 0 when there is none now.
  Result<ImageChunk> next(unsigned char* buffer, std::size_t capacity);

  // Number in this list = ImageChunk::file.
  [[nodiscard]] const std::vector<File>& files() const { return files_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  Status begin_part(File& file) const;
  Result<std::size_t> read_part(File& file, unsigned char* buffer, std::size_t capacity) const;

  std::string path_;
  std::vector<File> files_;
  bool complete_ = false;   // these are all files, and none grows any more
  std::size_t first_ = 0;   // those before it have been handed out wholly
  std::uint64_t bytes_ = 0;
};

// Writes what arrives. Names and sizes come from a peer: nothing outside the directory can be
// named, and no more than `bytes_max` is accepted.
class ImageWriter {
 public:
  ImageWriter(std::string path, std::uint64_t bytes_max)
      : path_(std::move(path)), bytes_max_(bytes_max) {}

  Status open(std::uint32_t file, const std::string& name);
  Status write(const ImageChunk& chunk, const unsigned char* bytes);
  // All bytes of all files have arrived: compares with what the source says it sent.
  Status complete(const std::map<std::string, std::uint64_t>& sizes);
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  struct File {
    std::string name;
    std::uint64_t bytes = 0;
    Fd fd;
  };
  std::string path_;
  std::uint64_t bytes_max_;
  std::uint64_t bytes_ = 0;
  std::vector<File> files_;
};

}  // namespace lifeboat
