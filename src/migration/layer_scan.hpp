// layer_scan.hpp - what is in a container's writable layer (src/layer_directory.hpp), and what of it
// the target lacks. Listing reads the file system; planning is a pure function of two listings.
//
// A change is seen by the inode's change time. Two kinds of change it does not show are covered:
// those within the clock's tick in which the file was looked at (the file counts as changed), and
// writes through shared mappings, which set it only with the first fault (files that were mapped so
// while a pass went on count as changed ever after). What counts as changed is compared by hashes:
// being wrong here costs reading, not sending.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

inline constexpr std::size_t kLayerEntriesMax = 1'000'000;
inline constexpr std::size_t kLayerPathMax = 4000;  // bytes; the kernel's own limit is 4095
inline constexpr std::size_t kLayerDepthMax = 256;

// File times have the granularity of the timer tick, 10 ms at most; doubled.
inline constexpr std::int64_t kLayerTickNs = 20'000'000;

[[nodiscard]] std::int64_t nanoseconds(const timespec& time);
// Of errno: what had this name has vanished, or been replaced by something else.
[[nodiscard]] bool is_gone(int error);
// "a/b/c" -> "a/b" and "c"; "" for the root, whose own name is ".".
[[nodiscard]] std::string parent_of(const std::string& path);
[[nodiscard]] std::string name_of(const std::string& path);

struct LayerEntry {
  std::string path;  // below the layer's root, which is ""
  mode_t mode = 0;   // with the type
  uid_t uid = 0;
  gid_t gid = 0;
  dev_t rdev = 0;
  std::uint64_t inode = 0;
  std::uint64_t links = 1;
  std::uint64_t size = 0;
  std::uint64_t allocated = 0;  // bytes
  std::int64_t atime_ns = 0;    // since 1970
  std::int64_t mtime_ns = 0;
  std::int64_t ctime_ns = 0;
};

LayerEntry layer_entry(std::string path, const struct stat& info);

struct LayerListing {
  std::vector<LayerEntry> entries;  // by path: a directory before what is in it
  std::int64_t started_ns = 0;      // since 1970: nothing in it is older than this
  std::uint64_t allocated = 0;      // bytes, each inode once
  std::uint64_t files = 0;          // all but directories
};

// Opens what is at `path` below the directory `root`: never through a symbolic link, never outside of
// `root`, never on another file system, whoever is renaming things there meanwhile.
Fd open_beneath(int root, const std::string& path, int flags);

// A listing of nothing, begun now.
LayerListing empty_listing();

// Everything below `root`. What vanishes meanwhile is left out. kRefused when a limit above does not
// hold.
Result<LayerListing> list_layer(int root);

// Files that the processes have mapped shared, as paths below their root and as inode numbers.
struct MappedFiles {
  std::set<std::string> paths;
  std::set<std::uint64_t> inodes;
  [[nodiscard]] bool contains(const LayerEntry& entry) const {
    return inodes.contains(entry.inode) || paths.contains(entry.path);
  }
};
// Adds those of one process's /proc/PID/maps.
void add_mapped_files(const std::string& maps, MappedFiles& files);

struct LayerPlan {
  std::vector<std::string> removed;  // what is in a directory before the directory
  std::vector<std::size_t> changed;  // indices into the new listing, ascending; links not among them
  std::vector<std::pair<std::size_t, std::size_t>> links;  // {new name, name that has the inode}
};

// What brings a target that has `before` to `after`. An empty `before` is a target that has nothing
// but the root directory.
LayerPlan plan_layer(const LayerListing& before, const LayerListing& after,
                     const MappedFiles& mapped);

// The entry of that path; nullptr if there is none.
const LayerEntry* find_entry(const LayerListing& listing, const std::string& path);

}  // namespace lifeboat
