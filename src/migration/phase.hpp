// phase.hpp - a migration as types: each phase owns what is true in it, and dropping one before
// Committed undoes it.
//
//   source                                       target
//   ------                                       ------
//   connect   Connected   checks, offer    --->  Container prepared: cgroup, unplugged network
//   pre_copy  PreCopied   pages sent while it   pages kept by the pager
//                         runs; CRIU waits
//   freeze    Frozen      tasks stopped,   --->  last pages; images written to memory, hashes
//                         unplugged, dumped      checked
//   stage     Staged      images complete, --->  restored, held twice (CRIU, frozen cgroup)
//                         right to commit
//   commit    Committed   "commit"         --->  one swap in the registry: now it is the target's;
//                                                plugged in, announced, thawed
//
// Once the right to commit is given (with the end of the images), dropping a phase does not let the
// container go on: that takes knowledge of the outcome, see registry/decision.hpp.
//   [post-copy: drain, see drain.hpp]
//
// Destructors run in reverse order of the members: CRIU gives its tasks back into the frozen
// cgroup, the port is plugged in again, the cgroup thaws, the images go, the link closes (which
// tells the target to remove what it built).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "criu_glue/checkpoint.hpp"
#include "criu_glue/images.hpp"
#include "migration/hold.hpp"
#include "migration/image_transfer.hpp"
#include "migration/layer_transfer.hpp"
#include "migration/link.hpp"
#include "migration/memory_source.hpp"
#include "migration/network_state.hpp"
#include "migration/wire.hpp"
#include "node.hpp"
#include "report.hpp"

namespace lifeboat {

// What was asked for.
struct Move {
  std::shared_ptr<Container> container;
  std::string target;
  std::string fabric;
  std::shared_ptr<MigrationReport> report;  // kept up to date while the migration runs
  std::uint64_t bytes_per_s = 0;  // limit of its pages on the wire; 0: none
  std::optional<SteadyClock::time_point> leave_by;  // when it should be away
  bool asked_before = false;  // and the target was busy
};

struct Connected {
  Connected(Move m, Link l) : move(std::move(m)), link(std::move(l)) {}
  Move move;
  Link link;
  std::unique_ptr<MemorySource> memory;  // null: memory goes through CRIU's images
  PageSocket urgent;                     // in post-copy, until the server has it
  std::unique_ptr<PageServer> server;    // in post-copy, from the freeze on
  Wire::Stream stream;                   // its part of the wire
  std::unique_ptr<LayerSender> layers;   // its writable files
  std::unique_ptr<ImageSender> images;   // what CRIU dumps of it
};

struct PreCopied {
  Connected peer;
  std::unique_ptr<ImageDirectory> images;
  PreparedDump dump;
};

// A container whose tasks are stopped and which is off the network. Goes on when dropped.
class FrozenContainer {
 public:
  static awaitable<Result<FrozenContainer>> freeze(std::shared_ptr<Container> container,
                                                   Milliseconds limit);
  FrozenContainer(FrozenContainer&& other) noexcept = default;
  ~FrozenContainer();
  // While it may run elsewhere it must not go on here, whatever becomes of this object.
  void keep_frozen(bool keep) { kept_ = keep; }

  // Frames that arrived meanwhile (hold.hpp): counted in a report; sent to the target, each once; and the
  // last of them, once it runs there. Dropping this object gives them all to the container here.
  void count_held_in(std::shared_ptr<MigrationReport> report) { report_ = std::move(report); }
  awaitable<Status> send_held(Link& link, Milliseconds limit);
  awaitable<Status> end_held(Link& link, Milliseconds limit);

 private:
  explicit FrozenContainer(std::shared_ptr<Container> container)
      : container_(std::move(container)) {}
  void collect_held();
  void deliver_held();

  std::shared_ptr<Container> container_;
  bool kept_ = false;
  HeldFrames held_;
  std::size_t sent_ = 0;  // of held_
  std::shared_ptr<MigrationReport> report_;
};

struct Frozen {
  Connected peer;
  NetworkState network;  // when the tasks had stopped
  std::unique_ptr<ImageDirectory> images;
  std::unique_ptr<ImageReader> reader;
  FrozenContainer container;
  HeldDump dump;
  OwnerRecord right;  // the record from which the target may commit
  SteadyClock::time_point frozen_at;
  SteadyClock::time_point dumped_at;
};

struct Staged {
  Frozen source;
  SteadyClock::time_point staged_at;
  std::shared_ptr<decision::Source> machine;
};

struct Committed {
  Move move;
  SteadyClock::time_point free_at;  // the source was not needed from here on
};

// connect.cpp. kRefused, kUnavailable, ...: nothing has been touched.
awaitable<Result<Connected>> connect(Node& node, Move move);
// pre_copy.cpp. On failure the container runs on as it did.
awaitable<Result<PreCopied>> pre_copy(Node& node, Connected peer);

// How long the container would stand still, in the mode of its report; rather too much.
double predicted_downtime_ms(const Move& move, const Node& node);

}  // namespace lifeboat
