// round_pages.hpp - what a round of pre-copy sends of one process, chosen while it is sent.
//
// A page is collected, and so protected, right before it is read, and not when the round begins: what is
// written until its turn comes goes along, costs the process no fault and is clean afterwards. Where pages are
// written at random this leaves half as many dirty.
//
// Chunks go from the top of the address space down. Programs mostly go through their memory upwards, and a
// round that goes along with one is either just before its writes, and has sent nothing that stays clean, or
// just behind them; one that goes against them meets them once, wherever they are.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/asio.hpp"
#include "criu_glue/dirty_tracker.hpp"
#include "criu_glue/page_set.hpp"

namespace lifeboat {

// What is known of a process's pages from the rounds so far.
struct PageHistory {
  PageSet carried;  // the target has the newest version, as far as the tracker knows
  PageSet written_in_last;
  PageSet written_in_one_before;
  std::vector<PageRun> held_back;  // in the last round, sorted
};

// Of one process; shared by the connections, which do not change it but for `direct_io`.
struct RoundPages {
  struct Chunk {
    std::uint64_t address = 0;
    std::uint64_t wanted = 0;  // pages that are to be sent, as things stood when the round began
  };

  // `found`: by the tracker's look().
  RoundPages(DirtyTracker& tracker, const PageHistory& history, bool hold_back, const std::vector<PageRun>& found);

  // Written in both of the last rounds: left to the freeze, if pages are held back.
  [[nodiscard]] bool is_held_back(bool in_last, bool in_one_before) const {
    return hold_back && in_last && in_one_before;
  }
  [[nodiscard]] std::uint64_t wanted() const;

  DirtyTracker* tracker;
  const PageHistory* history;
  bool hold_back;
  std::vector<Chunk> chunks;  // with written pages or such as were held back, from the top down
  // Devices write to its memory unseen: nothing that was sent of it counts.
  std::atomic<bool> direct_io{false};
};

// One connection's part of it.
class RoundShard {
 public:
  // `wanted`: what is still to be sent of the round, corrected as more or less is found.
  RoundShard(RoundPages& round, std::uint32_t pid, unsigned shard, unsigned shards,
             std::atomic<std::uint64_t>& wanted, SteadyClock::time_point start);

  // The next pages to be sent, just collected; none: that was all. They last until the next call.
  Result<std::span<const PageRun>> next();

  std::vector<PageRun> sent, held_back;
  // Of those sent: held back in the last round, and not written since. Nothing else would send them before the
  // freeze.
  std::vector<PageRun> rested;
  std::uint64_t pages_sent = 0;
  // Of those sent, sent in the round just before as well, and written since.
  std::uint64_t pages_resent = 0;
  // Sum over the pages sent: from `start` until each was collected.
  double page_seconds = 0;

 private:
  Status collect(const RoundPages::Chunk& chunk);
  void choose(const PageRun& run);
  void send_rested(const RoundPages::Chunk& chunk, const std::vector<PageRun>& written);

  RoundPages* round_;
  std::atomic<std::uint64_t>* wanted_;
  std::vector<RoundPages::Chunk> chunks_;
  std::size_t next_ = 0;
  std::size_t at_once_;  // chunks that are collected by one call
  SteadyClock::time_point start_;
  SteadyClock::time_point last_look_;
};

// Brings the history up to date with what the connections have sent of it.
void note_round(PageHistory& history, std::span<const RoundShard> shards);

}  // namespace lifeboat
