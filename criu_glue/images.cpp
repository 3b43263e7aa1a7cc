#include "criu_glue/images.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <memory>
#include <string_view>

#include "base/file.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

namespace {

// Give memory back in steps: each punch costs a system call and page-table work.
constexpr std::uint64_t kPunchStepBytes = 8U << 20;

// The large ones: memory, and files that have no name any more. CRIU only appends to them, so they can be
// sent while it does.
bool is_pages(std::string_view name) { return name.starts_with("pages-"); }
bool is_ghost(std::string_view name) { return name.starts_with("ghost-file-"); }
bool only_grows(std::string_view name) { return is_pages(name) || is_ghost(name); }

bool safe_name(const std::string& name) {
  if (name.empty() || name.size() > 128 || name.front() == '.') return false;
  return std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
  });
}

}  // namespace

bool is_in_memory(const std::string& path) {
  struct statfs info {};
  return ::statfs(path.c_str(), &info) == 0 &&
         (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC);
}

Result<ImageDirectory> ImageDirectory::create(const std::string& parent, const std::string& name) {
  CHECK_OK(make_directories(parent));
  if (!is_in_memory(parent)) {
    return fail(Errc::kRefused, parent + " is not on tmpfs, so images would touch a disk; mount a "
                                         "tmpfs there or set paths.run_dir to one");
  }
  const std::string path = parent + "/" + name;
  if (::mkdir(path.c_str(), 0700) != 0) return fail_errno("create image directory " + path);
  return ImageDirectory(path);
}

ImageDirectory::~ImageDirectory() {
  if (!path_.empty()) (void)remove_tree(path_);
}

Status ImageReader::scan(bool dump_complete) {
  if (complete_) return {};
  complete_ = dump_complete;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path_.c_str()), ::closedir);
  if (!directory) return fail_errno("list images in " + path_);
  // Every millisecond of a dump, over as many as a hundred files: nothing is made of most names.
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name.front() == '.' || (!dump_complete && !only_grows(name))) continue;
    const bool known = std::any_of(files_.begin(), files_.end(),
                                   [&](const File& file) { return file.name == name; });
    if (known) continue;
    File file;
    file.name = name;
    file.fd = Fd(::openat(::dirfd(directory.get()), entry->d_name, O_RDWR | O_CLOEXEC));
    if (!file.fd) return fail_errno("open image " + file.name);
    files_.push_back(std::move(file));
  }
  return {};
}

// Finds out what comes next, if the last part has been handed out.
Status ImageReader::begin_part(File& file) const {
  if (file.part.bytes > 0) return {};
  file.part = {UINT64_MAX, is_pages(file.name)};
  if (!is_ghost(file.name)) return {};
  unsigned char header[GhostLayout::kHeaderBytesMax];
  const ssize_t n = ::pread(file.fd.get(), header, sizeof header, static_cast<off_t>(file.sent));
  if (n < 0) return fail_errno("read image " + file.name);
  const auto part = file.layout.next(std::span(header, static_cast<std::size_t>(n)));
  // Of what is incomplete when all is there the target's CRIU will have to make sense.
  file.part = part.value_or(ImagePart{complete_ ? UINT64_MAX : 0, false});
  return {};
}

Result<std::size_t> ImageReader::read_part(File& file, unsigned char* buffer, std::size_t capacity) const {
  const std::size_t wanted = std::min<std::uint64_t>(capacity, file.part.bytes);
  const ssize_t n = ::pread(file.fd.get(), buffer, wanted, static_cast<off_t>(file.sent));
  if (n < 0) return fail_errno("read image " + file.name);
  const auto got = static_cast<std::size_t>(n);
  // CRIU may be in the middle of a page.
  const bool half = file.part.contents && got < wanted && !complete_;
  return half ? got - got % kPageBytes : got;
}

Result<ImageChunk> ImageReader::next(unsigned char* buffer, std::size_t capacity) {
  for (std::size_t number = first_; number < files_.size(); ++number) {
    File& file = files_[number];
    CHECK_OK(begin_part(file));
    TRY(const std::size_t n, read_part(file, buffer, capacity));
    if (n == 0) {
      if (complete_ && number == first_) ++first_;
      continue;
    }
    ImageChunk chunk;
    chunk.file = static_cast<std::uint32_t>(number);
    chunk.offset = file.sent;
    chunk.size = n;
    chunk.pages = file.part.contents;
    file.sent += chunk.size;
    file.part.bytes -= chunk.size;
    bytes_ += chunk.size;
    if (file.sent - file.punched >= kPunchStepBytes) {
      // Best effort: without it more memory is used, nothing else.
      (void)::fallocate(file.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        static_cast<off_t>(file.punched),
                        static_cast<off_t>(file.sent - file.punched));
      file.punched = file.sent;
    }
    return chunk;
  }
  return ImageChunk{};
}

Status ImageWriter::open(std::uint32_t file, const std::string& name) {
  if (file != files_.size() || files_.size() >= kImageFilesMax) {
    return fail(Errc::kProtocol, "image file number " + std::to_string(file) + " is out of order");
  }
  if (!safe_name(name)) return fail(Errc::kProtocol, "'" + name + "' is no name of an image file");
  const std::string path = path_ + "/" + name;
  Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return fail_errno("create image " + path);
  File entry;
  entry.name = name;
  entry.fd = std::move(fd);
  files_.push_back(std::move(entry));
  return {};
}

Status ImageWriter::write(const ImageChunk& chunk, const unsigned char* bytes) {
  if (chunk.file >= files_.size()) {
    return fail(Errc::kProtocol, "image data for a file that was not announced");
  }
  File& file = files_[chunk.file];
  if (chunk.offset != file.bytes) {
    return fail(Errc::kProtocol, "image " + file.name + ": data at offset " +
                                     std::to_string(chunk.offset) + ", expected " +
                                     std::to_string(file.bytes));
  }
  if (chunk.size > bytes_max_ - bytes_) {
    return fail(Errc::kRefused, "the images exceed the " + std::to_string(bytes_max_) +
                                    " bytes that were reserved for them");
  }
  std::size_t done = 0;
  while (done < chunk.size) {
    const ssize_t n = ::pwrite(file.fd.get(), bytes + done, chunk.size - done,
                               static_cast<off_t>(chunk.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("write image " + file.name + " in " + path_);
    done += static_cast<std::size_t>(n);
  }
  file.bytes += chunk.size;
  bytes_ += chunk.size;
  return {};
}

Status ImageWriter::complete(const std::map<std::string, std::uint64_t>& sizes) {
  if (sizes.size() != files_.size()) {
    return fail(Errc::kProtocol, "got " + std::to_string(files_.size()) + " image files, the source has " +
                                     std::to_string(sizes.size()));
  }
  for (const File& file : files_) {
    const auto wanted = sizes.find(file.name);
    if (wanted == sizes.end() || wanted->second != file.bytes) {
      return fail(Errc::kProtocol, "image " + file.name + " is truncated: got " +
                                       std::to_string(file.bytes) + " bytes");
    }
  }
  files_.clear();
  return {};
}

}  // namespace lifeboat
