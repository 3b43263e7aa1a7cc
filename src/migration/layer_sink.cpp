#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/little_endian.hpp"
#include "migration/layer.hpp"

namespace lifeboat {

namespace {

tl::unexpected<Error> bad(const std::string& what) {
  return fail(Errc::kProtocol, "the writable layer: " + what);
}

tl::unexpected<Error> cannot(const std::string& what, const std::string& path) {
  const int error = errno;
  const bool full = error == ENOSPC || error == EDQUOT;
  return fail_errno(what + " /" + path + " of the writable layer" + (full ? ", in paths.layers_dir" : ""),
                    error);
}

// Below the layer's root, by names only.
bool is_good_path(const std::string& path) {
  if (path.empty()) return true;
  if (path.size() > kLayerPathMax || path.find('\0') != std::string::npos) return false;
  std::size_t depth = 0;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string name = path.substr(at, end - at);
    if (name.empty() || name == "." || name == ".." || name.size() > 255) return false;
    at = end + 1;
    if (++depth > kLayerDepthMax + 1) return false;
  }
  return true;
}

timespec time_from(std::int64_t ns) {
  timespec time{};
  time.tv_sec = ns / 1'000'000'000;
  time.tv_nsec = ns % 1'000'000'000;
  if (time.tv_nsec < 0) {
    time.tv_nsec += 1'000'000'000;
    --time.tv_sec;
  }
  return time;
}

}  // namespace

// Reads the fields of records; once something is missing everything reads as empty.
class LayerSink::Fields {
 public:
  explicit Fields(const std::vector<unsigned char>& payload) : bytes_(payload) {}
  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }
  template <class T>
  T number() {
    const unsigned char* bytes = take(sizeof(T));
    return bytes == nullptr ? T{} : get_le<T>(bytes);
  }
  // At most `max` bytes, preceded by their number.
  std::string text(std::size_t max) {
    const auto size = number<std::uint32_t>();
    const unsigned char* bytes = size <= max ? take(size) : nullptr;
    if (bytes == nullptr) good_ = false;
    return good_ ? std::string(reinterpret_cast<const char*>(bytes), size) : std::string();
  }
  std::string path() {
    std::string path = text(kLayerPathMax);
    if (!is_good_path(path)) good_ = false;
    return path;
  }
  const unsigned char* take(std::size_t size) {
    if (!good_ || bytes_.size() - at_ < size) {
      good_ = false;
      return nullptr;
    }
    at_ += size;
    return bytes_.data() + (at_ - size);
  }

 private:
  const std::vector<unsigned char>& bytes_;
  std::size_t at_ = 0;
  bool good_ = true;
};

Result<LayerSink> LayerSink::open(const std::string& upper, std::uint64_t bytes_max) {
  Fd root(::open(upper.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno("open the writable layer " + upper);
  return LayerSink(std::move(root), bytes_max);
}

Status LayerSink::apply(const std::vector<unsigned char>& payload) {
  Fields fields(payload);
  while (!fields.at_end()) CHECK_OK(apply_one(fields));
  return {};
}

Status LayerSink::apply_one(Fields& fields) {
  switch (static_cast<LayerOp>(fields.number<std::uint8_t>())) {
    case LayerOp::kRemove: {
      const std::string path = fields.path();
      if (!fields.good() || path.empty()) return bad("a removal of nothing");
      return remove(path);
    }
    case LayerOp::kOpen: return open_file(fields);
    case LayerOp::kData: return write_data(fields);
    case LayerOp::kHole: return make_hole(fields);
    case LayerOp::kEntry: return set_entry(fields);
    case LayerOp::kLink: {
      const std::string path = fields.path();
      const std::string existing = fields.path();
      if (!fields.good() || path.empty() || existing.empty()) return bad("a link without its names");
      return link(path, existing);
    }
  }
  return bad("an unknown record");
}

Result<std::string> LayerSink::in_parent(const std::string& path) {
  if (!root_) return bad("/" + path + " is no memory");
  const std::string parent = parent_of(path);
  if (!parent_ || parent != parent_path_) {
    parent_ = open_beneath(root_.get(), parent, O_PATH | O_DIRECTORY);
    if (!parent_) return cannot("open the directory of", path);
    parent_path_ = parent;
  }
  return "/proc/self/fd/" + std::to_string(parent_.get()) + "/" + name_of(path);
}

// The file is one of the empty ones again.
Status LayerSink::remove_memory(const std::string& path) {
  const auto at = memory_names_.find(path);
  if (at == memory_names_.end()) return bad("memory " + path + " is not there");
  if (::ftruncate(memory_[at->second].get(), 0) != 0) return cannot("empty", path);
  memory_names_.erase(at);
  return {};
}

Status LayerSink::remove(const std::string& path) {
  if (!root_) return remove_memory(path);
  TRY(const std::string name, in_parent(path));
  if (::unlink(name.c_str()) != 0) {
    if (errno != EISDIR || ::rmdir(name.c_str()) != 0) return cannot("remove", path);
    directories_.erase(path);
    touched_.erase(path);
    parent_.reset();  // it may have been this one
  }
  if (entries_ > 0) --entries_;
  touched_.insert(parent_of(path));
  return {};
}

Status LayerSink::open_file(Fields& fields) {
  file_path_ = fields.path();
  const auto size = fields.number<std::uint64_t>();
  const auto fresh = fields.number<std::uint8_t>();
  if (!fields.good() || file_path_.empty() || size > std::uint64_t{1} << 62) return bad("a file without its name or size");
  TRY(file_, root_ ? open_in_directory(file_path_, fresh != 0) : open_memory(file_path_, fresh != 0));
  if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) return cannot("set the size of", file_path_);
  return {};
}

Result<Fd> LayerSink::open_in_directory(const std::string& path, bool fresh) {
  TRY(const std::string name, in_parent(path));
  int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  if (fresh) {
    flags |= O_CREAT | O_EXCL;
    if (++entries_ > kLayerEntriesMax) return bad("more files than are allowed");
    touched_.insert(parent_of(path));
  }
  Fd file(::open(name.c_str(), flags, 0600));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return cannot("open", path);
  if (!S_ISREG(info.st_mode)) return bad("/" + path + " is not a file here");
  return file;
}

Result<Fd> LayerSink::open_memory(const std::string& path, bool fresh) {
  auto at = memory_names_.find(path);
  if (fresh == (at != memory_names_.end())) return bad("memory " + path + (fresh ? " is there already" : " is not there"));
  if (fresh) {
    std::set<std::size_t> used;
    for (const auto& [name, index] : memory_names_) used.insert(index);
    std::size_t free = 0;
    while (used.contains(free)) ++free;
    if (free >= memory_.size()) return bad("more anonymous memory than was announced");
    at = memory_names_.emplace(path, free).first;
  }
  Fd file(::fcntl(memory_[at->second].get(), F_DUPFD_CLOEXEC, 0));
  if (!file) return cannot("open", path);
  return file;
}

Status LayerSink::write_data(Fields& fields) {
  const auto offset = fields.number<std::uint64_t>();
  const auto hash = fields.number<std::uint64_t>();
  const auto size = fields.number<std::uint32_t>();
  const unsigned char* bytes = size <= kLayerPieceBytes ? fields.take(size) : nullptr;
  if (bytes == nullptr || !file_ || offset > std::uint64_t{1} << 62) return bad("data of no file");
  if (XXH3_64bits(bytes, size) != hash) {
    return bad("data of /" + file_path_ + " was damaged on the way (its hash is wrong)");
  }
  bytes_ += size;
  if (bytes_ > bytes_max_) {
    return bad("more than the " + std::to_string(bytes_max_ >> 20) + " MiB that it may hold");
  }
  const ssize_t n = ::pwrite(file_.get(), bytes, size, static_cast<off_t>(offset));
  if (n >= 0 && static_cast<std::uint32_t>(n) < size) errno = ENOSPC;
  if (n != static_cast<ssize_t>(size)) return cannot("write", file_path_);
  return {};
}

Status LayerSink::make_hole(Fields& fields) {
  const auto offset = fields.number<std::uint64_t>();
  const auto length = fields.number<std::uint64_t>();
  if (!fields.good() || !file_ || length > kLayerPieceBytes || offset > std::uint64_t{1} << 62) {
    return bad("a hole in no file");
  }
  if (::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(length)) == 0) {
    return {};
  }
  if (errno != EOPNOTSUPP) return cannot("make a hole in", file_path_);
  const std::vector<unsigned char> zeros(length);
  if (::pwrite(file_.get(), zeros.data(), length, static_cast<off_t>(offset)) !=
      static_cast<ssize_t>(length)) {
    return cannot("write", file_path_);
  }
  return {};
}

// Whatever is not a regular file: made, unless it is there.
Status LayerSink::make_node(const std::string& path, mode_t mode, dev_t rdev,
                            const std::string& target) {
  TRY(const std::string name, in_parent(path));
  struct stat info {};
  if (::lstat(name.c_str(), &info) == 0) {
    if ((info.st_mode & S_IFMT) != (mode & S_IFMT)) return bad("/" + path + " is something else here");
    return {};
  }
  if (errno != ENOENT) return cannot("look at", path);
  if (++entries_ > kLayerEntriesMax) return bad("more files than are allowed");
  touched_.insert(parent_of(path));
  int made = -1;
  if (S_ISDIR(mode)) {
    made = ::mkdir(name.c_str(), 0700);
  } else if (S_ISLNK(mode)) {
    made = ::symlink(target.c_str(), name.c_str());
  } else if (S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode)) {
    made = ::mknod(name.c_str(), (mode & S_IFMT) | 0600, rdev);
  } else {
    return bad("/" + path + " is of no known kind");
  }
  return made == 0 ? Status{} : cannot("make", path);
}

namespace {

// Those that are there and not wanted any more go.
Status drop_attributes(const std::string& name, const std::string& path,
                       const std::vector<std::pair<std::string, std::string>>& wanted) {
  char names[64 * 1024];
  const ssize_t length = ::llistxattr(name.c_str(), names, sizeof names);
  for (const char* at = names; length > 0 && at < names + length; at += std::strlen(at) + 1) {
    const std::string present = at;
    // Labels that this node puts on every file by itself.
    if (present.starts_with("security.") && present != "security.capability") continue;
    const bool keep = std::any_of(wanted.begin(), wanted.end(),
                                  [&](const auto& attribute) { return attribute.first == present; });
    if (!keep && ::lremovexattr(name.c_str(), at) != 0) return cannot("remove " + present + " from", path);
  }
  return {};
}

}  // namespace

Status LayerSink::set_entry(Fields& fields) {
  const std::string path = fields.path();
  const mode_t mode = fields.number<std::uint32_t>();
  const uid_t uid = fields.number<std::uint32_t>();
  const gid_t gid = fields.number<std::uint32_t>();
  const dev_t rdev = fields.number<std::uint64_t>();
  Times times{};
  times.atime_ns = static_cast<std::int64_t>(fields.number<std::uint64_t>());
  times.mtime_ns = static_cast<std::int64_t>(fields.number<std::uint64_t>());
  const std::string target = fields.text(kLayerPathMax + 100);
  const auto count = fields.number<std::uint32_t>();
  std::vector<std::pair<std::string, std::string>> attributes;
  for (std::uint32_t i = 0; i < count && fields.good(); ++i) {
    std::string name = fields.text(255);
    attributes.emplace_back(std::move(name), fields.text(64 * 1024));
  }
  if (!fields.good() || (path.empty() && !S_ISDIR(mode))) return bad("an incomplete entry");
  if (S_ISREG(mode)) {
    if (!file_ || path != file_path_) return bad("/" + path + " was not opened");
    const Fd file = std::move(file_);
    if (!root_) {
      const bool set = ::fchown(file.get(), uid, gid) == 0 && ::fchmod(file.get(), mode & 07777) == 0;
      return set ? Status{} : cannot("set the owner and mode of", path);
    }
  } else {
    CHECK_OK(make_node(path, mode, rdev, target));
  }
  TRY(const std::string name, in_parent(path));
  // The owner first: a change of it takes capabilities and set-user-id bits away.
  if (::lchown(name.c_str(), uid, gid) != 0) return cannot("set the owner of", path);
  if (!S_ISLNK(mode) && ::chmod(name.c_str(), mode & 07777) != 0) return cannot("set the mode of", path);
  CHECK_OK(drop_attributes(name, path, attributes));
  for (const auto& [key, value] : attributes) {
    if (::lsetxattr(name.c_str(), key.c_str(), value.data(), value.size(), 0) != 0) {
      return cannot("set attribute " + key + " of", path);
    }
  }
  if (S_ISDIR(mode)) {
    directories_[path] = times;
    touched_.insert(path);
    return {};
  }
  const timespec stamps[2] = {time_from(times.atime_ns), time_from(times.mtime_ns)};
  if (::utimensat(AT_FDCWD, name.c_str(), stamps, AT_SYMLINK_NOFOLLOW) != 0) {
    return cannot("set the times of", path);
  }
  return {};
}

Status LayerSink::link(const std::string& path, const std::string& existing) {
  if (!root_) return bad("a link to memory");
  const Fd from = open_beneath(root_.get(), parent_of(existing), O_PATH | O_DIRECTORY);
  if (!from) return cannot("open the directory of", existing);
  TRY(const std::string name, in_parent(path));
  if (++entries_ > kLayerEntriesMax) return bad("more files than are allowed");
  touched_.insert(parent_of(path));
  if (::linkat(from.get(), name_of(existing).c_str(), AT_FDCWD, name.c_str(), 0) != 0) return cannot("link", path);
  return {};
}

Status LayerSink::set_directory_times(const std::string& path) {
  const auto at = directories_.find(path);
  if (at == directories_.end()) return {};
  const Fd directory = open_beneath(root_.get(), path, O_RDONLY | O_DIRECTORY);
  const timespec stamps[2] = {time_from(at->second.atime_ns), time_from(at->second.mtime_ns)};
  if (!directory || ::futimens(directory.get(), stamps) != 0) return cannot("set the times of", path);
  return {};
}

Status LayerSink::finish_pass() {
  if (file_) return bad("a pass ends within a file");
  for (const std::string& path : touched_) CHECK_OK(set_directory_times(path));
  touched_.clear();
  parent_.reset();
  bytes_ = 0;
  return {};
}

Status LayerSink::settle(const std::vector<std::string>& nameless) {
  if (!root_) return {};
  for (const std::string& path : nameless) {
    if (path.empty() || !is_good_path(path)) return bad("a path of a file without a name is none");
    CHECK_OK(remove(path));
  }
  for (const auto& [path, times] : directories_) (void)set_directory_times(path);
  return {};
}

}  // namespace lifeboat
