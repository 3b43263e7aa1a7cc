// layer_transfer.hpp - the passes of layer.hpp over a migration's connection, kept off the event loop.
//
// A container has several layers: its anonymous shared memory if it has some when the migration begins, the upper one
// of its root if that is writable, and its tmpfs mounts. Every pass goes over all of them, in this order, with a
// kLayerEnd after each.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/blocking.hpp"
#include "container.hpp"
#include "criu_glue/anonymous_memory.hpp"
#include "criu_glue/checkpoint.hpp"
#include "criu_glue/hide_list.hpp"
#include "criu_glue/shared_writes.hpp"
#include "migration/layer.hpp"
#include "migration/link.hpp"
#include "report.hpp"
#include "tmpfs.hpp"

namespace lifeboat {

enum class LayerPass { kRunning, kFrozen, kRest };

// At the source. What it is asked to do must have ended before it goes.
class LayerSender {
 public:
  // kRefused when one holds more than it may. Looks at all of it.
  static awaitable<Result<std::unique_ptr<LayerSender>>> open(const Container& container);

  [[nodiscard]] const std::vector<TmpfsMount>& tmpfs() const { return tmpfs_; }
  // Files of anonymous memory that are carried, at most.
  [[nodiscard]] std::size_t anonymous_max() const { return anonymous_max_; }
  [[nodiscard]] std::uint64_t files() const { return files_; }
  // On a disk, and in memory: no process's memory tells of a tmpfs.
  [[nodiscard]] std::uint64_t upper_bytes() const { return upper_bytes_; }
  [[nodiscard]] std::uint64_t tmpfs_bytes() const { return tmpfs_bytes_; }

  // From the next pass on, shared memory without a name is among the files. What CRIU is to be told of it: those
  // that the last pass has sent.
  void carry_shared_memory() { carries_shared_memory_ = true; }
  [[nodiscard]] std::vector<CarriedFile> shared_memory() const;
  // From the next pass on writes to it are tracked if there is much of it, and later passes look at nothing else of it
  // where it is known what was written.
  void track_shared_memory() { tracks_shared_memory_ = true; }
  [[nodiscard]] bool tracks_writes() const;
  // The container is frozen and CRIU has not begun: whether it is known what was written.
  void check_shared_memory() { shared_writes_.check(); }
  // The same as SharedMapping::file.
  [[nodiscard]] std::set<std::string> shared_memory_mapped() const;

  // A pass while the container runs.
  awaitable<Status> send_running(Link& link, LayerReport& report, Milliseconds idle);
  // The pass while it is frozen, beside the dump; then, the dump being complete, what CRIU has made.
  // kConflict when its mounts are not those that there were.
  awaitable<Status> send_frozen(Link& link, LayerReport& report, Milliseconds idle);
  awaitable<Status> send_rest(Link& link, LayerReport& report, Milliseconds idle);

 private:
  using Payload = std::vector<unsigned char>;

  explicit LayerSender(const Container& container)
      : container_(&container), shared_writes_(container.cgroup(), container.init().pid()) {}
  Status add_layers();
  Status look();
  [[nodiscard]] MappedFiles mapped_files() const;
  [[nodiscard]] bool is_memory(std::size_t layer) const { return layer == 0 && anonymous_max_ > 0; }
  [[nodiscard]] std::size_t count_anonymous() const;
  void find_nameless();
  void add_nameless(std::vector<std::vector<NamelessFile>>& found, OpenedMapping opened, const std::string& mapped_as) const;
  Status watch_nameless();
  void set_written(bool running);
  [[nodiscard]] std::size_t layer_of(dev_t device) const;
  Status check_mounts() const;
  awaitable<Status> pass(Link& link, LayerPass kind, Milliseconds idle);
  awaitable<Status> send(Link& link, LayerSource& source, Payload payload, bool running,
                         Milliseconds idle);
  [[nodiscard]] std::uint64_t sent() const;
  [[nodiscard]] std::uint64_t files_now() const;

  const Container* container_;
  bool carries_shared_memory_ = false;
  bool tracks_shared_memory_ = false;
  SharedWrites shared_writes_;
  std::size_t anonymous_max_ = 0;      // not 0: it is the first of sources_
  std::vector<TmpfsMount> tmpfs_;      // as many as sources_ has at its end
  std::vector<LayerSource> sources_;
  std::uint64_t files_ = 0;
  std::uint64_t upper_bytes_ = 0;
  std::uint64_t tmpfs_bytes_ = 0;
  asio::thread_pool pool_{1};  // last: its thread ends first
};

// At the target.
class LayerReceiver {
 public:
  // Makes the tmpfs mounts, and `anonymous` files for memory. kRefused when there is no room for `announced` bytes.
  static Result<std::unique_ptr<LayerReceiver>> open(const Container& container,
                                                     std::vector<TmpfsMount> tmpfs,
                                                     std::uint64_t announced, std::size_t anonymous);
  // For CRIU: the new mounts, in their order, as {mount point, root directory}.
  [[nodiscard]] const std::vector<NewMount>& mounts() const { return mounts_; }
  // And the files of anonymous memory; those that are used, when it is complete.
  [[nodiscard]] std::vector<int> memory() const;
  [[nodiscard]] std::vector<GivenFile> given() const;
  // A kLayer or kLayerEnd frame. Answers the end of a pass made while the container runs.
  awaitable<Status> take(Link& link, Frame frame, Milliseconds limit);
  // The end of the last pass has come.
  [[nodiscard]] bool complete() const { return complete_; }
  // CRIU has restored: it made and removed files, and has found those that have no name.
  awaitable<Status> settle();

 private:
  LayerReceiver() = default;
  Status end_of_layer(const json::object& end);

  bool has_memory_ = false;  // the first of sinks_
  std::vector<NewMount> mounts_;
  std::vector<LayerSink> sinks_;
  std::vector<std::vector<std::string>> nameless_;  // by layer
  std::size_t at_ = 0;  // the layer that frames are for
  bool taken_ = false;  // a pass made while it runs is over
  bool complete_ = false;
  asio::thread_pool pool_{1};
};

}  // namespace lifeboat
