#include "migration/layer_scan.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

namespace lifeboat {

std::int64_t nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool is_gone(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP; }

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string name_of(const std::string& path) {
  return path.empty() ? "." : path.substr(path.rfind('/') + 1);
}

LayerEntry layer_entry(std::string path, const struct stat& info) {
  LayerEntry entry;
  entry.path = std::move(path);
  entry.mode = info.st_mode;
  entry.uid = info.st_uid;
  entry.gid = info.st_gid;
  entry.rdev = info.st_rdev;
  entry.inode = info.st_ino;
  entry.links = info.st_nlink;
  entry.size = static_cast<std::uint64_t>(info.st_size);
  entry.allocated = static_cast<std::uint64_t>(info.st_blocks) * 512;
  entry.atime_ns = nanoseconds(info.st_atim);
  entry.mtime_ns = nanoseconds(info.st_mtim);
  entry.ctime_ns = nanoseconds(info.st_ctim);
  return entry;
}

namespace {

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

// Adds what is in the directory of `entries[at]`; appends the directories among it to `open`.
Status list_directory(int root, LayerListing& listing, std::size_t at, std::vector<std::size_t>& open) {
  const std::string path = listing.entries[at].path;
  Fd fd = open_beneath(root, path, O_RDONLY | O_DIRECTORY);
  if (!fd) return is_gone(errno) ? Status{} : fail_errno("read directory /" + path);
  const int number = fd.get();
  const Directory directory(::fdopendir(number), &::closedir);
  if (!directory) return fail_errno("read directory /" + path);
  (void)fd.release();
  // Its times as they are before its names are read: names that come later change them again.
  struct stat info {};
  if (::fstat(number, &info) != 0) return fail_errno("look at /" + path);
  listing.entries[at] = layer_entry(path, info);
  const auto depth = std::count(path.begin(), path.end(), '/');
  if (static_cast<std::size_t>(depth) >= kLayerDepthMax) {
    return fail(Errc::kRefused, "/" + path + " is nested deeper than " +
                                    std::to_string(kLayerDepthMax) + " directories");
  }
  for (errno = 0; const dirent* item = ::readdir(directory.get()); errno = 0) {
    const std::string name = item->d_name;
    if (name == "." || name == "..") continue;
    if (::fstatat(number, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (is_gone(errno)) continue;
      return fail_errno("look at /" + path + "/" + name);
    }
    std::string full = path.empty() ? name : path + "/" + name;
    if (full.size() > kLayerPathMax) return fail(Errc::kRefused, "a path is too long: /" + full);
    if (listing.entries.size() >= kLayerEntriesMax) {
      return fail(Errc::kRefused, "it holds more than " + std::to_string(kLayerEntriesMax) + " files");
    }
    listing.entries.push_back(layer_entry(std::move(full), info));
    if (S_ISDIR(info.st_mode)) open.push_back(listing.entries.size() - 1);
  }
  return errno == 0 ? Status{} : fail_errno("read directory /" + path);
}

}  // namespace

Fd open_beneath(int root, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  const char* name = path.empty() ? "." : path.c_str();
  return Fd(static_cast<int>(::syscall(SYS_openat2, root, name, &how, sizeof how)));
}

LayerListing empty_listing() {
  LayerListing listing;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  listing.started_ns = nanoseconds(now);
  return listing;
}

Result<LayerListing> list_layer(int root) {
  LayerListing listing = empty_listing();
  listing.entries.emplace_back();
  std::vector<std::size_t> open{0};
  while (!open.empty()) {
    const std::size_t at = open.back();
    open.pop_back();
    CHECK_OK(list_directory(root, listing, at, open));
  }
  std::sort(listing.entries.begin(), listing.entries.end(),
            [](const LayerEntry& a, const LayerEntry& b) { return a.path < b.path; });
  // A directory that changes while it is read may name something twice.
  const auto twice = std::unique(
      listing.entries.begin(), listing.entries.end(),
      [](const LayerEntry& a, const LayerEntry& b) { return a.path == b.path; });
  listing.entries.erase(twice, listing.entries.end());
  std::unordered_set<std::uint64_t> counted;
  for (const LayerEntry& entry : listing.entries) {
    if (S_ISDIR(entry.mode)) continue;
    ++listing.files;
    if (entry.links == 1 || counted.insert(entry.inode).second) listing.allocated += entry.allocated;
  }
  return listing;
}

void add_mapped_files(const std::string& maps, MappedFiles& files) {
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    // "7f00-7f10 rw-s 00000000 08:01 1234    /path (deleted)"; nearly all are private.
    const auto space = line.find(' ');
    if (space == std::string::npos || line.compare(std::min(space + 4, line.size()), 2, "s ") != 0) continue;
    std::istringstream words(line);
    std::string range, permissions, offset, device;
    std::uint64_t inode = 0;
    if (!(words >> range >> permissions >> offset >> device >> inode) || inode == 0) continue;
    files.inodes.insert(inode);
    const auto at = line.find('/');
    if (at == std::string::npos) continue;
    std::string path = line.substr(at + 1);
    constexpr std::string_view kDeleted = " (deleted)";
    if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
    files.paths.insert(std::move(path));
  }
}

const LayerEntry* find_entry(const LayerListing& listing, const std::string& path) {
  const auto at = std::lower_bound(
      listing.entries.begin(), listing.entries.end(), path,
      [](const LayerEntry& entry, const std::string& wanted) { return entry.path < wanted; });
  return at != listing.entries.end() && at->path == path ? &*at : nullptr;
}

namespace {

bool same_type(const LayerEntry& a, const LayerEntry& b) { return (a.mode & S_IFMT) == (b.mode & S_IFMT); }

// The target can turn what it has into what is there now, in place.
bool can_update(const LayerEntry& before, const LayerEntry& after) {
  if (!same_type(before, after)) return false;
  return S_ISDIR(after.mode) || before.inode == after.inode;
}

bool is_unchanged(const LayerEntry& before, const LayerEntry& after, std::int64_t looked_at_ns) {
  return before.mode == after.mode && before.uid == after.uid && before.gid == after.gid &&
         before.rdev == after.rdev && before.inode == after.inode && before.size == after.size &&
         before.mtime_ns == after.mtime_ns && before.ctime_ns == after.ctime_ns &&
         after.ctime_ns < looked_at_ns - kLayerTickNs;
}

// Of every inode with several names, the one through which it is sent: one that the target has, if
// there is such, else the first.
std::unordered_map<std::uint64_t, std::size_t> leaders(const LayerListing& before,
                                                       const LayerListing& after) {
  std::unordered_map<std::uint64_t, std::size_t> found;
  std::unordered_set<std::uint64_t> there;
  for (std::size_t i = 0; i < after.entries.size(); ++i) {
    const LayerEntry& entry = after.entries[i];
    if (entry.links < 2 || S_ISDIR(entry.mode)) continue;
    const LayerEntry* old = find_entry(before, entry.path);
    const bool present = old != nullptr && can_update(*old, entry);
    if (present && there.insert(entry.inode).second) found[entry.inode] = i;
    found.try_emplace(entry.inode, i);
  }
  return found;
}

}  // namespace

LayerPlan plan_layer(const LayerListing& before, const LayerListing& after,
                     const MappedFiles& mapped) {
  LayerPlan plan;
  const auto leader_of = leaders(before, after);
  // Mapped under one name means mapped under all.
  std::unordered_set<std::uint64_t> in_use(mapped.inodes.begin(), mapped.inodes.end());
  for (const LayerEntry& entry : after.entries) {
    if (mapped.contains(entry)) in_use.insert(entry.inode);
  }
  for (const LayerEntry& old : before.entries) {
    const LayerEntry* entry = find_entry(after, old.path);
    if (entry == nullptr || !can_update(old, *entry)) plan.removed.push_back(old.path);
  }
  std::reverse(plan.removed.begin(), plan.removed.end());
  for (std::size_t i = 0; i < after.entries.size(); ++i) {
    const LayerEntry& entry = after.entries[i];
    const LayerEntry* old = find_entry(before, entry.path);
    if (old != nullptr && !can_update(*old, entry)) old = nullptr;
    const auto leader = entry.links > 1 ? leader_of.find(entry.inode) : leader_of.end();
    if (leader != leader_of.end() && leader->second != i) {
      if (old == nullptr) plan.links.emplace_back(i, leader->second);
      continue;
    }
    const bool unchanged = old != nullptr && is_unchanged(*old, entry, before.started_ns);
    if (!unchanged || (S_ISREG(entry.mode) && in_use.contains(entry.inode))) plan.changed.push_back(i);
  }
  return plan;
}

}  // namespace lifeboat
