// memory_source.hpp - a container's memory on its way out: its processes tracked, their pages sent in
// rounds over several connections, and the rest while it is frozen.
//
// What has been sent is known page by page. A page counts as carried when it was sent after it was
// last seen written; everything else is sent again, up to the last time, frozen. Its work is done on
// threads of its own; one call at a time.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/cgroup.hpp"
#include "base/process.hpp"
#include "criu_glue/smaps_cache.hpp"
#include "criu_glue/dirty_tracker.hpp"
#include "criu_glue/pager.hpp"
#include "migration/bandwidth.hpp"
#include "migration/page_server.hpp"
#include "migration/page_stream.hpp"
#include "migration/precopy_control.hpp"
#include "migration/precopy_forecast.hpp"
#include "migration/round_pages.hpp"
#include "report.hpp"

namespace lifeboat {

struct MemoryOptions {
  std::uint64_t bytes_per_s = 0;  // over all connections; 0: no limit
  int timeout_s = 30;             // without progress on a connection
  Tracking tracking = Tracking::kAuto;
  CompressionMode compression = CompressionMode::kAuto;
};

// The result of the last pass, made while the container was frozen.
struct FinalMemory {
  std::vector<FinalPage> pages;       // every page that exists, in order of {pid, address}
  std::uint64_t present_pages = 0;
  std::uint64_t sent_pages = 0;       // of these, while frozen (or left for later)
  std::uint64_t untracked_pages = 0;  // of the sent ones: because nothing tracked them
  std::uint64_t bytes_on_wire = 0;
  double survey_ms = 0;
  double send_ms = 0;
};

// Mappings of one process that CRIU is to leave alone.
struct OwnedMappings {
  pid_t pid = -1;  // as seen here
  std::vector<AddressRange> mappings;
};

class MemorySource {
 public:
  // `connections`: one page connection to the target each.
  MemorySource(Cgroup cgroup, std::vector<PageSocket> connections, MemoryOptions options,
               std::shared_ptr<MemoryProgress> progress);
  ~MemorySource();

  struct Round {
    bool hold_back = false;   // leave out pages that were written in each of the last three rounds
    bool goes_first = false;  // take what it can get of the processors, not only what the container leaves
  };
  // One round of pre-copy: what was written since the last one (everything, the first time), all of
  // it acknowledged by the target when this returns.
  awaitable<Result<RoundMeasurement>> round(Round how);

  // What is written within a second, without sending any of it.
  awaitable<Result<WriteSample>> sample();

  // The container is frozen, and CRIU has not begun: notes what is ours of it, for CRIU not to touch
  // and for send_rest() to send. 0.2 ms.
  Result<std::vector<OwnedMappings>> note_owned();
  // After that: sends what the target lacks. Together with the rounds this is all.
  awaitable<Result<FinalMemory>> send_rest();
  // For post-copy, instead of send_rest(): sends nothing, and marks what the target lacks as `later`
  // in the list.
  awaitable<Result<FinalMemory>> list_rest();
  // After that: who serves what was left for later, over `urgent` and the page connections. This
  // object must not be used for anything but counts any more.
  Result<std::unique_ptr<PageServer>> serve_rest(PageSocket urgent);

  // What is known of the mappings since the last round; for CRIU, in the freeze.
  [[nodiscard]] SmapsCache& smaps() { return smaps_; }

  // Every call that is running or comes fails soon with kCancelled or kUnavailable.
  void cancel();
  // Bytes per second over all connections from now on, 0: no limit. At any time, from any thread;
  // after serve_rest() each connection keeps an equal part of the last one, but for the urgent one.
  void limit(std::uint64_t bytes_per_s) { bandwidth_.limit(bytes_per_s); }

  // What RoundMeasurement::started_s counts from.
  [[nodiscard]] SteadyClock::time_point created() const { return created_; }
  [[nodiscard]] std::uint64_t bytes_on_wire() const;
  // Compression, zeros and the like, over all so far.
  [[nodiscard]] const SendCounts& counts() const { return counts_; }
  // Why processes are not tracked; empty if all worth it are.
  [[nodiscard]] std::string untracked_reason() const;

 private:
  struct Process {
    static constexpr int kRefusalsMax = 3;  // then it stays untracked

    std::uint32_t pid = 0;  // in the container
    std::uint64_t start_time = 0;
    std::unique_ptr<DirtyTracker> tracker;
    int refusals = 0;
    std::string refusal;       // why it is not tracked, if it is worth it
    PageHistory history;
    std::vector<AddressRange> mappings;  // of the frozen process
    std::vector<PageRun> to_send;        // while it is frozen

    // It is not tracked, and may be in the next round.
    [[nodiscard]] bool tries_again() const {
      return !tracker->tracking() && refusals > 0 && refusals < kRefusalsMax;
    }
  };
  using Processes = std::map<pid_t, Process>;

  Result<WriteSample> run_sample();
  Result<RoundMeasurement> run_round(Round how);
  // One process of a round.
  struct Part;
  // What the connections have sent of it, into its history and the measurement; the sum of the times for which its
  // pages waited.
  Result<double> note_sent(pid_t pid, const Part& part, RoundMeasurement& measured);
  Result<FinalMemory> run_rest();
  // Where its connections are counted.
  [[nodiscard]] std::shared_ptr<SentBytes> counted_in() const;
  // What the target lacks of each frozen process, into its `to_send`; and the list of all pages.
  Result<FinalMemory> survey_rest(bool later);
  // Brings the list of processes up to date, attaching trackers if `track`.
  Status follow_processes(bool track);
  // Attaches a tracker, if it is worth it and has not been refused too often.
  void track(pid_t pid, Process& process);
  // Ends the tracking of a process that does direct I/O.
  Status give_up_tracking(pid_t pid, Process& process);
  Status refresh_frozen();
  // Pages that would have to be sent were the container frozen now; those of processes that may be
  // tracked in the next round for themselves as well.
  void count_dirty(RoundMeasurement& measured) const;
  // A container that runs has its part of the processors; one that stands still waits for this.
  enum class Priority { kTakesTurns, kGoesFirst };
  // Every connection sends its part by `part`, on a thread of its own, and waits until the target has it.
  using SendPart = std::function<Result<SendCounts>(std::size_t connection)>;
  struct Sent {
    SendCounts counts;
    ThreadTime busiest;  // of the connection that ran longest
  };
  Result<Sent> send_all(Priority priority, std::uint64_t pages, const SendPart& part);
  [[nodiscard]] std::vector<pid_t> pids() const;

  Cgroup cgroup_;
  int timeout_s_;
  Tracking tracking_;
  std::vector<std::unique_ptr<PageSender>> senders_;
  BandwidthShare bandwidth_;
  Processes processes_;
  std::shared_ptr<MemoryProgress> progress_;
  SendCounts counts_;
  SmapsCache smaps_;
  unsigned rounds_ = 0;
  SteadyClock::time_point created_ = SteadyClock::now();
  asio::thread_pool pool_{1};
};

}  // namespace lifeboat
