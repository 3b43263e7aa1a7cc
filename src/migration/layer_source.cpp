#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/little_endian.hpp"
#include "migration/layer.hpp"
#include "migration/protocol.hpp"

namespace lifeboat {

namespace {

// A record may add so much to a payload that is not full yet.
constexpr std::size_t kRecordBytesMax = kLayerAttributesMax + kLayerPieceBytes + 16 * 1024;
constexpr std::size_t kFullBytes = protocol::kDataBytesMax - kRecordBytesMax;

template <class T>
void put(std::vector<unsigned char>& out, T value) {
  unsigned char bytes[sizeof(T)];
  put_le<T>(bytes, value);
  out.insert(out.end(), bytes, bytes + sizeof(T));
}

void put(std::vector<unsigned char>& out, LayerOp op) { out.push_back(static_cast<unsigned char>(op)); }

void put(std::vector<unsigned char>& out, const std::string& text) {
  put(out, static_cast<std::uint32_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

// By these this node's overlay knows where something came from; elsewhere they mean nothing.
bool stays_here(const std::string& attribute) {
  for (const char* name : {"origin", "impure", "nlink", "upper", "uuid", "metacopy", "protattr"}) {
    if (attribute == std::string("trusted.overlay.") + name) return true;
  }
  return false;
}

struct Attribute {
  std::string name;
  std::string value;
};

// Of the open file, or if there is none of what `path` names itself, be it a symbolic link.
Result<std::vector<Attribute>> read_attributes(int fd, const std::string& path,
                                               const std::string& shown) {
  std::vector<Attribute> out;
  char names[64 * 1024];
  const ssize_t length = fd >= 0 ? ::flistxattr(fd, names, sizeof names)
                                 : ::llistxattr(path.c_str(), names, sizeof names);
  if (length < 0 && errno != EOPNOTSUPP) return fail_errno("read the attributes of /" + shown);
  if (length <= 0) return out;
  std::string value(64 * 1024, '\0');
  std::size_t total = 0;
  for (const char* at = names; at < names + length; at += std::strlen(at) + 1) {
    const std::string name = at;
    if (stays_here(name)) continue;
    const ssize_t size = fd >= 0 ? ::fgetxattr(fd, at, value.data(), value.size())
                                 : ::lgetxattr(path.c_str(), at, value.data(), value.size());
    if (size < 0 && errno == ENODATA) continue;
    if (size < 0) return fail_errno("read attribute " + name + " of /" + shown);
    total += name.size() + static_cast<std::size_t>(size) + 8;
    if (total > kLayerAttributesMax) {
      return fail(Errc::kRefused, "/" + shown + " has more than " +
                                      std::to_string(kLayerAttributesMax) + " bytes of attributes");
    }
    out.push_back({name, value.substr(0, static_cast<std::size_t>(size))});
  }
  return out;
}

Result<std::string> read_target(const std::string& path, const std::string& shown) {
  std::string target(kLayerPathMax + 100, '\0');
  const ssize_t n = ::readlink(path.c_str(), target.data(), target.size());
  if (n < 0) return fail_errno("read link /" + shown);
  target.resize(static_cast<std::size_t>(n));
  return target;
}

}  // namespace

Result<LayerSource> LayerSource::open(const std::string& upper, std::uint64_t bytes_max) {
  Fd root(::open(upper.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_errno("open the writable layer " + upper);
  return LayerSource(std::move(root), bytes_max);
}

dev_t LayerSource::device() const {
  struct stat info {};
  return ::fstat(root_.get(), &info) == 0 ? info.st_dev : 0;
}

Result<LayerListing> LayerSource::look() const {
  if (!root_) return empty_listing();
  TRY(LayerListing listing, list_layer(root_.get()));
  if (listing.allocated > bytes_max_) {
    return fail(Errc::kRefused, "it holds " + std::to_string(listing.allocated >> 20) +
                                    " MiB, and may hold " + std::to_string(bytes_max_ >> 20) +
                                    " (writable: in the job file); remove files in it, or start the "
                                    "job with more");
  }
  return listing;
}

Status LayerSource::begin(const MappedFiles& mapped) {
  mapped_.paths.insert(mapped.paths.begin(), mapped.paths.end());
  mapped_.inodes.insert(mapped.inodes.begin(), mapped.inodes.end());
  TRY(now_, look());
  add_nameless(now_);
  plan_ = plan_layer(before_, now_, mapped_);
  removed_ = changed_ = links_ = 0;
  gone_.clear();
  passing_ = true;
  counts_.tracked = 0;
  counts_.files = now_.files;
  counts_.bytes = now_.allocated;
  return {};
}

const NamelessFile* LayerSource::nameless_of(const LayerEntry& entry) const {
  const auto file = std::find_if(nameless_.begin(), nameless_.end(), [&](const NamelessFile& one) {
    return one.path == entry.path && one.inode == entry.inode;
  });
  return file == nameless_.end() ? nullptr : &*file;
}

std::optional<NamelessFile> LayerSource::take_nameless(const std::string& mapped_as) {
  const auto at = std::find_if(nameless_.begin(), nameless_.end(),
                               [&](const NamelessFile& file) { return file.mapped_as == mapped_as; });
  if (at == nameless_.end()) return std::nullopt;
  NamelessFile file = std::move(*at);
  nameless_.erase(at);
  return file;
}

void LayerSource::add_nameless(LayerListing& listing) const {
  std::vector<LayerEntry> added;
  for (const NamelessFile& file : nameless_) {
    struct stat info {};
    const bool twice = std::any_of(added.begin(), added.end(),
                                   [&](const LayerEntry& entry) { return entry.path == file.path; });
    const LayerEntry* directory = root_ ? find_entry(listing, parent_of(file.path)) : nullptr;
    const bool has_room = !root_ || (directory != nullptr && S_ISDIR(directory->mode) &&
                                     find_entry(listing, file.path) == nullptr);
    if (twice || !has_room || ::fstat(file.fd.get(), &info) != 0) continue;
    added.push_back(layer_entry(file.path, info));
    added.back().links = 1;
  }
  listing.files += added.size();
  std::move(added.begin(), added.end(), std::back_inserter(listing.entries));
  std::sort(listing.entries.begin(), listing.entries.end(),
            [](const LayerEntry& a, const LayerEntry& b) { return a.path < b.path; });
}

std::vector<const NamelessFile*> LayerSource::nameless() const {
  std::vector<const NamelessFile*> sent;
  for (const NamelessFile& file : nameless_) {
    const LayerEntry* entry = find_entry(before_, file.path);
    if (entry == nullptr || entry->inode != file.inode) continue;
    if (!root_ || is_free(file.path)) sent.push_back(&file);
  }
  return sent;
}

bool LayerSource::is_free(const std::string& path) const {
  const Fd directory = open_beneath(root_.get(), parent_of(path), O_PATH | O_DIRECTORY);
  struct stat info {};
  return directory && ::fstatat(directory.get(), name_of(path).c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 &&
         errno == ENOENT;
}

Fd LayerSource::open_entry(const LayerEntry& entry) const {
  constexpr int kFlags = O_RDONLY | O_NONBLOCK | O_NOATIME;
  const NamelessFile* file = nameless_of(entry);
  if (file == nullptr) return open_beneath(root_.get(), entry.path, kFlags);
  return Fd(::fcntl(file->fd.get(), F_DUPFD_CLOEXEC, 0));  // opening it would be noted (shared_writes.hpp)
}

Status LayerSource::begin_rest() {
  for (const LayerEntry& entry : before_.entries) {
    if (!S_ISDIR(entry.mode)) continue;
    struct stat info {};
    const char* name = entry.path.empty() ? "." : entry.path.c_str();
    if (::fstatat(root_.get(), name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_errno("look at /" + entry.path);
    }
    const std::int64_t ctime = nanoseconds(info.st_ctim);
    if (ctime != entry.ctime_ns || ctime >= before_.started_ns - kLayerTickNs) return begin(mapped_);
  }
  passing_ = false;
  return {};
}

Status LayerSource::fill(std::vector<unsigned char>& payload, bool running) {
  payload.clear();
  Status status;
  while (passing_ && status && payload.size() < kFullBytes) passing_ = step(payload, running, status);
  if (!status) passing_ = false;
  counts_.sent += payload.size();
  return status;
}

// Adds one record. False when there is no more.
bool LayerSource::step(std::vector<unsigned char>& payload, bool running, Status& status) {
  if (file_) {
    const LayerEntry& entry = now_.entries[plan_.changed[changed_]];
    const bool over = ranges_ != nullptr ? range_ == ranges_->size() : offset_ >= entry.size;
    if (over) {
      status = finish_entry(payload, entry, running);
    } else {
      status = ranges_ != nullptr ? send_written(payload) : send_piece(payload);
    }
  } else if (removed_ < plan_.removed.size()) {
    put(payload, LayerOp::kRemove);
    put(payload, plan_.removed[removed_++]);
  } else if (changed_ < plan_.changed.size()) {
    const LayerEntry& entry = now_.entries[plan_.changed[changed_]];
    if (!gone_.empty() && entry.path.starts_with(gone_)) {
      forget(changed_++);
    } else {
      status = start_entry(payload, entry, running);
    }
  } else if (links_ < plan_.links.size()) {
    const auto& [name, existing] = plan_.links[links_++];
    // What has vanished meanwhile was not sent and cannot be linked to.
    if (now_.entries[existing].inode != 0) {
      put(payload, LayerOp::kLink);
      put(payload, now_.entries[name].path);
      put(payload, now_.entries[existing].path);
    } else {
      now_.entries[name].inode = 0;
    }
  } else {
    std::erase_if(now_.entries, [](const LayerEntry& entry) { return entry.inode == 0; });
    before_ = std::move(now_);
    now_ = LayerListing();
    written_.clear();
    return false;
  }
  return true;
}

// It has vanished since it was listed: what the target has of it is what it had, for the next pass to
// find. What was in it is not looked for.
void LayerSource::forget(std::size_t change) {
  LayerEntry& entry = now_.entries[plan_.changed[change]];
  if (S_ISDIR(entry.mode)) gone_ = entry.path + "/";
  const LayerEntry* old = find_entry(before_, entry.path);
  const bool removed = std::find(plan_.removed.begin(), plan_.removed.end(), entry.path) != plan_.removed.end();
  if (old != nullptr && !removed) {
    entry = *old;
  } else {
    entry.inode = 0;
  }
}

Status LayerSource::start_entry(std::vector<unsigned char>& payload, const LayerEntry& entry,
                                bool running) {
  if (!S_ISREG(entry.mode)) return finish_entry(payload, entry, running);
  file_ = open_entry(entry);
  struct stat info {};
  const bool open = file_ && ::fstat(file_.get(), &info) == 0;
  if (!open || info.st_ino != entry.inode) {
    const int error = open ? ENOENT : errno;
    file_.reset();
    if (!running || !is_gone(error)) return fail_errno("open /" + entry.path, error);
    forget(changed_++);
    return {};
  }
  const LayerEntry* old = find_entry(before_, entry.path);
  const bool update = old != nullptr && old->inode == entry.inode && S_ISREG(old->mode);
  old_hashes_.clear();
  if (const auto sent = sent_.find(entry.inode); update && sent != sent_.end()) {
    old_hashes_ = std::move(sent->second);
    sent_.erase(sent);
  }
  new_hashes_.clear();
  offset_ = data_until_ = 0;
  ranges_ = nullptr;
  if (const auto written = written_.find(entry.inode); update && written != written_.end() && old->size == entry.size) {
    new_hashes_ = std::move(old_hashes_);
    ranges_ = &written->second;
    range_ = 0;
    counts_.tracked += entry.size;
  }
  put(payload, LayerOp::kOpen);
  put(payload, entry.path);
  put(payload, entry.size);
  put(payload, static_cast<std::uint8_t>(update ? 0 : 1));
  return {};
}

// Reads what holds data from `start` to `end` into piece_ and extents_.
Status LayerSource::read_piece(std::uint64_t start, std::uint64_t end) {
  extents_.clear();
  piece_.resize(kLayerPieceBytes);
  std::size_t used = 0;
  for (std::uint64_t at = start; at < end;) {
    // A tmpfs goes from page to page to find a hole: once for all pieces before it.
    if (at >= data_until_) {
      const off_t data = ::lseek(file_.get(), static_cast<off_t>(at), SEEK_DATA);
      if (data < 0 && errno != ENXIO) return fail_errno("find data");
      if (data < 0 || static_cast<std::uint64_t>(data) >= end) break;
      const off_t hole = ::lseek(file_.get(), data, SEEK_HOLE);
      if (hole < 0) return fail_errno("find a hole");
      at = static_cast<std::uint64_t>(data);
      data_until_ = static_cast<std::uint64_t>(hole);
    }
    const std::size_t size = std::min(data_until_, end) - at;
    const ssize_t n = ::pread(file_.get(), piece_.data() + used, size, static_cast<off_t>(at));
    if (n < 0) return fail_errno("read");
    // It is shorter by now: so its time has changed, and the next pass sends it again.
    if (n == 0) break;
    extents_.push_back({at, static_cast<std::size_t>(n)});
    used += static_cast<std::size_t>(n);
    at += static_cast<std::uint64_t>(n);
  }
  return {};
}

// What was read, of a part of the file of which the target has data or a hole.
void LayerSource::put_piece(std::vector<unsigned char>& payload, std::uint64_t start, std::uint64_t end,
                            bool had_data) const {
  std::uint64_t covered = 0;
  for (const Extent& extent : extents_) covered += extent.size;
  if (had_data && covered < end - start) {
    put(payload, LayerOp::kHole);
    put(payload, start);
    put(payload, end - start);
  }
  std::size_t at = 0;
  for (const Extent& extent : extents_) {
    put(payload, LayerOp::kData);
    put(payload, extent.offset);
    put(payload, static_cast<std::uint64_t>(XXH3_64bits(piece_.data() + at, extent.size)));
    put(payload, static_cast<std::uint32_t>(extent.size));
    payload.insert(payload.end(), piece_.data() + at, piece_.data() + at + extent.size);
    at += extent.size;
  }
}

// The next of the ranges, as far as it is in one piece.
Status LayerSource::send_written(std::vector<unsigned char>& payload) {
  const LayerEntry& entry = now_.entries[plan_.changed[changed_]];
  const FileRange& range = (*ranges_)[range_];
  const std::uint64_t start = std::max(offset_, range.start);
  const std::size_t number = start / kLayerPieceBytes;
  const std::uint64_t end = std::min({entry.size, range.end, (number + 1) * kLayerPieceBytes});
  if (start >= end) {  // behind the end of the file
    range_ = ranges_->size();
    return {};
  }
  auto read = read_piece(start, end);
  if (!read) return tl::unexpected<Error>(read.error().context("/" + entry.path));
  put_piece(payload, start, end, true);
  if (number >= new_hashes_.size()) new_hashes_.resize(number + 1, kHole);
  new_hashes_[number] = kUnknown;
  offset_ = end;
  if (end == range.end) ++range_;
  return {};
}

Status LayerSource::send_piece(std::vector<unsigned char>& payload) {
  const LayerEntry& entry = now_.entries[plan_.changed[changed_]];
  const std::size_t number = offset_ / kLayerPieceBytes;
  const std::uint64_t end = std::min(entry.size, offset_ + kLayerPieceBytes);
  auto read = read_piece(offset_, end);
  if (!read) return tl::unexpected<Error>(read.error().context("/" + entry.path));
  std::size_t covered = 0;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (const Extent& extent : extents_) {
    XXH3_64bits_update(&state, &extent.offset, sizeof extent.offset);
    XXH3_64bits_update(&state, piece_.data() + covered, extent.size);
    covered += extent.size;
  }
  const std::uint64_t hash = extents_.empty() ? kHole : std::max(XXH3_64bits_digest(&state), kLeastHash);
  const std::uint64_t old = number < old_hashes_.size() ? old_hashes_[number] : kHole;
  if (hash != old) put_piece(payload, offset_, end, old != kHole);
  new_hashes_.push_back(hash);
  offset_ += kLayerPieceBytes;
  // Large holes are passed in one step.
  if (extents_.empty() && number >= old_hashes_.size()) {
    const off_t data = ::lseek(file_.get(), static_cast<off_t>(std::min(offset_, entry.size)), SEEK_DATA);
    const std::uint64_t next = data < 0 ? entry.size : std::min(static_cast<std::uint64_t>(data), entry.size);
    const std::uint64_t pieces = data < 0 ? (next + kLayerPieceBytes - 1) / kLayerPieceBytes
                                          : next / kLayerPieceBytes;
    if (pieces > number + 1) {
      offset_ = pieces * kLayerPieceBytes;
      new_hashes_.resize(pieces, 0);
    }
  }
  return {};
}

Status LayerSource::finish_entry(std::vector<unsigned char>& payload, const LayerEntry& entry,
                                 bool running) {
  if (S_ISREG(entry.mode)) {
    while (!new_hashes_.empty() && new_hashes_.back() == 0) new_hashes_.pop_back();
    sent_[entry.inode] = std::move(new_hashes_);
    new_hashes_ = Hashes();
  }
  std::string target;
  Result<std::vector<Attribute>> attributes = std::vector<Attribute>();
  if (file_) {
    attributes = read_attributes(file_.get(), "", entry.path);  // it may have lost its name
  } else if (const Fd parent = open_beneath(root_.get(), parent_of(entry.path), O_PATH | O_DIRECTORY)) {
    const std::string path =
        "/proc/self/fd/" + std::to_string(parent.get()) + "/" + name_of(entry.path);
    attributes = read_attributes(-1, path, entry.path);
    if (attributes && S_ISLNK(entry.mode)) {
      if (auto text = read_target(path, entry.path)) {
        target = std::move(*text);
      } else {
        attributes = tl::unexpected<Error>(text.error());
      }
    }
  } else {
    attributes = fail_errno("open the directory of /" + entry.path);
  }
  const bool gone = is_gone(errno) || errno == EINVAL;  // EINVAL: it is no symbolic link any more
  const bool named = !file_;
  file_.reset();
  if (!attributes) {
    if (!running || !named || !gone) return tl::unexpected<Error>(attributes.error());
    forget(changed_++);
    return {};
  }
  ++changed_;
  put(payload, LayerOp::kEntry);
  put(payload, entry.path);
  put(payload, static_cast<std::uint32_t>(entry.mode));
  put(payload, static_cast<std::uint32_t>(entry.uid));
  put(payload, static_cast<std::uint32_t>(entry.gid));
  put(payload, static_cast<std::uint64_t>(entry.rdev));
  put(payload, static_cast<std::uint64_t>(entry.atime_ns));
  put(payload, static_cast<std::uint64_t>(entry.mtime_ns));
  put(payload, target);
  put(payload, static_cast<std::uint32_t>(attributes->size()));
  for (const Attribute& attribute : *attributes) {
    put(payload, attribute.name);
    put(payload, attribute.value);
  }
  return {};
}

}  // namespace lifeboat
