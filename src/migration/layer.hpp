// layer.hpp - a container's writable files on their way to another node: the upper layer of its root,
// a tmpfs of its own (tmpfs.hpp), or its anonymous shared memory (criu_glue/anonymous_memory.hpp), which is files
// without directories. Each is "a layer" here.
//
// The source makes passes over the layer: each sends what the target lacks after the one before. The
// first ones are made while the container runs and need not see a consistent state; the last one is
// made while it is frozen, beside CRIU's dump, and is complete. A file that changed is compared with
// what was sent of it in pieces of 64 KiB: of a log that grew, the end is sent.
//
// Files that have lost their name but not those who have them mapped (shared memory of MPI) go along under the
// name they had: by that CRIU finds them at the target, where they lose it again when it has restored. Where it is
// known what was written of one since the last pass (shared_writes.hpp), only that is looked at. Anonymous memory goes
// along in the same way, under the name that CRIU has for it.
//
// CRIU gives names to files that have lost theirs but still have another (link_remap.N) while it
// dumps: begin_rest() looks whether a directory has changed since the last pass. Files without any
// name are in CRIU's images.
//
// What is kept: owner, mode, times of change and access in ns, all extended attributes but those by
// which this node's overlay finds its own files (trusted.overlay.origin and the like), hard links,
// symbolic links, devices, fifos, sockets, whiteouts and opaque directories, holes. Not kept: inode
// numbers, creation times, flags of chattr.
//
// Frames: a payload of kLayer is a sequence of records, each an operation (LayerOp) and its fields;
// the target checks every piece against its XXH3-64 before it writes it, and opens nothing outside of
// the layer's directory. Both classes block: use them on a thread of their own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/memory.hpp"
#include "migration/layer_scan.hpp"

namespace lifeboat {

inline constexpr std::size_t kLayerPieceBytes = 64 * 1024;
inline constexpr std::size_t kLayerAttributesMax = 128 * 1024;  // of one file, names and values

enum class LayerOp : std::uint8_t {
  kRemove = 1,  // path
  kOpen = 2,    // path, size, new (0 or 1): a regular file, cut or grown to that size; the following
                // pieces are its
  kData = 3,    // offset, hash, bytes
  kHole = 4,    // offset, length
  kEntry = 5,   // path, mode, owner, rdev, times, symlink's target, attributes: what was opened last,
                // or something that is not a regular file and is made if it is not there
  kLink = 6,    // path, path that has the inode
};

// A file of the layer that has no name any more.
struct NamelessFile {
  std::string path;  // that it had, below the layer's root; of anonymous memory external_file_name()
  Fd fd;
  dev_t device = 0;
  ino_t inode = 0;
  std::string mapped_as;  // SharedMapping::file
};

struct LayerCounts {
  std::uint64_t files = 0;   // in the layer at the last pass, directories not counted
  std::uint64_t bytes = 0;   // allocated by them
  std::uint64_t sent = 0;    // records, over all passes
  std::uint64_t tracked = 0;  // bytes of files of which the last pass looked at nothing but what was written
};

class LayerSource {
 public:
  // `root`: the layer's root directory, none for anonymous memory; `bytes_max`: what the layer may hold.
  LayerSource(Fd root, std::uint64_t bytes_max) : root_(std::move(root)), bytes_max_(bytes_max) {}
  static Result<LayerSource> open(const std::string& upper, std::uint64_t bytes_max);

  // Of the file system; 0: not known.
  [[nodiscard]] dev_t device() const;
  // How much there is: to be told to the target and to predict with.
  Result<LayerListing> look() const;

  // Those that are in the layer from the next pass on. Where the name is another file's by then, it is not.
  void set_nameless(std::vector<NamelessFile> files) { nameless_ = std::move(files); }
  [[nodiscard]] const std::vector<NamelessFile>& all_nameless() const { return nameless_; }
  // Takes one of them out.
  std::optional<NamelessFile> take_nameless(const std::string& mapped_as);
  // Of these, those that the last pass has sent and whose name nobody else has now.
  [[nodiscard]] std::vector<const NamelessFile*> nameless() const;

  // For the next pass, by inode: nothing else of these files was written since the last one.
  using Written = std::map<ino_t, std::vector<FileRange>>;
  void set_written(Written written) { written_ = std::move(written); }

  // Starts a pass. `mapped`: files that the container has mapped now.
  Status begin(const MappedFiles& mapped);
  // As begin(), if a directory has changed since the last pass; else there is nothing to send.
  Status begin_rest();
  // The next payload; empty: the pass is over. With `running`, files may vanish.
  Status fill(std::vector<unsigned char>& payload, bool running);

  [[nodiscard]] const LayerCounts& counts() const { return counts_; }

 private:
  bool step(std::vector<unsigned char>& payload, bool running, Status& status);
  Status start_entry(std::vector<unsigned char>& payload, const LayerEntry& entry, bool running);
  void forget(std::size_t change);
  void add_nameless(LayerListing& listing) const;
  [[nodiscard]] bool is_free(const std::string& path) const;  // nothing has that name
  [[nodiscard]] const NamelessFile* nameless_of(const LayerEntry& entry) const;
  [[nodiscard]] Fd open_entry(const LayerEntry& entry) const;
  Status send_piece(std::vector<unsigned char>& payload);
  Status send_written(std::vector<unsigned char>& payload);
  void put_piece(std::vector<unsigned char>& payload, std::uint64_t start, std::uint64_t end, bool had_data) const;
  Status read_piece(std::uint64_t start, std::uint64_t end);
  Status finish_entry(std::vector<unsigned char>& payload, const LayerEntry& entry, bool running);

  // One piece of a file: what of it holds data.
  struct Extent {
    std::uint64_t offset;
    std::size_t size;
  };
  using Hashes = std::vector<std::uint64_t>;  // by piece
  static constexpr std::uint64_t kHole = 0;
  static constexpr std::uint64_t kUnknown = 1;  // sent, in parts
  static constexpr std::uint64_t kLeastHash = 2;

  Fd root_;
  std::uint64_t bytes_max_;
  LayerCounts counts_;
  LayerListing before_;  // what the target has
  LayerListing now_;
  MappedFiles mapped_;  // of all passes
  std::vector<NamelessFile> nameless_;
  Written written_;  // for this pass
  std::unordered_map<std::uint64_t, Hashes> sent_;  // by inode
  LayerPlan plan_;
  std::size_t removed_ = 0;  // position in the plan
  std::size_t changed_ = 0;
  std::size_t links_ = 0;
  std::string gone_;  // a directory that vanished, with a slash
  bool passing_ = false;
  // The regular file that is being sent.
  Fd file_;
  std::uint64_t offset_ = 0;
  std::uint64_t data_until_ = 0;  // from where it was looked for up to here there is no hole
  Hashes old_hashes_;
  Hashes new_hashes_;
  const std::vector<FileRange>* ranges_ = nullptr;  // that are to be looked at; null: all of it
  std::size_t range_ = 0;
  std::vector<Extent> extents_;
  std::vector<unsigned char> piece_;
};

class LayerSink {
 public:
  // `root` or `upper`: the new layer, empty. `bytes_max`: what one pass may write.
  LayerSink(Fd root, std::uint64_t bytes_max) : root_(std::move(root)), bytes_max_(bytes_max) {}
  // For anonymous memory: empty files, which get their names as they come.
  LayerSink(std::vector<Fd> memory, std::uint64_t bytes_max) : bytes_max_(bytes_max), memory_(std::move(memory)) {}
  static Result<LayerSink> open(const std::string& upper, std::uint64_t bytes_max);

  // kProtocol for what no source sends; kSystem when the file system refuses: which path, and why.
  Status apply(const std::vector<unsigned char>& payload);
  // A pass is over: the directories that it changed get their times.
  Status finish_pass();
  // CRIU has restored: these paths go, and all directories get their times again; it, too, has made and removed
  // files in some. kProtocol, kSystem.
  Status settle(const std::vector<std::string>& nameless);

  [[nodiscard]] const std::vector<Fd>& memory() const { return memory_; }
  // Which of these has which name now.
  [[nodiscard]] const std::map<std::string, std::size_t>& memory_names() const { return memory_names_; }

 private:
  class Fields;
  Status apply_one(Fields& fields);
  Status remove(const std::string& path);
  Status remove_memory(const std::string& path);
  Status open_file(Fields& fields);
  Result<Fd> open_in_directory(const std::string& path, bool fresh);
  Result<Fd> open_memory(const std::string& path, bool fresh);
  Status write_data(Fields& fields);
  Status make_hole(Fields& fields);
  Status set_entry(Fields& fields);
  Status make_node(const std::string& path, mode_t mode, dev_t rdev, const std::string& target);
  Status link(const std::string& path, const std::string& existing);
  Result<std::string> in_parent(const std::string& path);  // "/proc/self/fd/N/NAME"
  Status set_directory_times(const std::string& path);

  struct Times {
    std::int64_t atime_ns;
    std::int64_t mtime_ns;
  };

  Fd root_;  // none for anonymous memory
  std::uint64_t bytes_max_;
  std::vector<Fd> memory_;
  std::map<std::string, std::size_t> memory_names_;
  std::uint64_t bytes_ = 0;  // in this pass
  std::size_t entries_ = 0;
  std::map<std::string, Times> directories_;
  std::set<std::string> touched_;
  std::string parent_path_;  // of `parent_`
  Fd parent_;
  std::string file_path_;
  Fd file_;
};

}  // namespace lifeboat
