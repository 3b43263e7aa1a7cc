#include "migration/round_pages.hpp"

#include <algorithm>

#include "criu_glue/page_store.hpp"
#include "preflight_memory.hpp"

namespace lifeboat {

namespace {

// A call collects this part of a connection's chunks: between that and the reading of the pages stands the
// look for direct I/O, which would take too long for each chunk.
constexpr std::size_t kCalls = 16;

// Cuts `run` by what the last two rounds found: `use(part, in_last, in_one_before)`.
template <class Use>
void split_by_history(const PageHistory& history, const PageRun& run, Use use) {
  history.written_in_last.split(run, [&](const PageRun& part, bool in_last) {
    if (!in_last) {
      use(part, false, false);
      return;
    }
    history.written_in_one_before.split(part, [&](const PageRun& piece, bool before) { use(piece, true, before); });
  });
}

}  // namespace

RoundPages::RoundPages(DirtyTracker& tracker, const PageHistory& history, bool hold_back,
                       const std::vector<PageRun>& found)
    : tracker(&tracker), history(&history), hold_back(hold_back) {
  for (const PageRun& run : found) {
    for (std::uint64_t at = run.address; at < run.end();) {
      const std::uint64_t chunk = at / kChunkBytes * kChunkBytes;
      const std::uint64_t stop = std::min(run.end(), chunk + kChunkBytes);
      if (chunks.empty() || chunks.back().address != chunk) chunks.push_back({chunk, 0});
      const PageRun part{at, static_cast<std::uint32_t>((stop - at) / kPageBytes)};
      split_by_history(history, part, [&](const PageRun& piece, bool in_last, bool before) {
        if (!is_held_back(in_last, before)) chunks.back().wanted += piece.pages;
      });
      at = stop;
    }
  }
  std::reverse(chunks.begin(), chunks.end());
}

std::uint64_t RoundPages::wanted() const {
  std::uint64_t pages = 0;
  for (const Chunk& chunk : chunks) pages += chunk.wanted;
  return pages;
}

RoundShard::RoundShard(RoundPages& round, std::uint32_t pid, unsigned shard, unsigned shards,
                       std::atomic<std::uint64_t>& wanted, SteadyClock::time_point start)
    : round_(&round), wanted_(&wanted), start_(start) {
  for (const RoundPages::Chunk& chunk : round.chunks) {
    if (shard_of(pid, chunk.address, shards) == shard) chunks_.push_back(chunk);
  }
  at_once_ = std::max<std::size_t>(1, chunks_.size() / kCalls);
}

void RoundShard::choose(const PageRun& run) {
  split_by_history(*round_->history, run, [&](const PageRun& part, bool in_last, bool before) {
    if (round_->is_held_back(in_last, before)) {
      held_back.push_back(part);
      return;
    }
    sent.push_back(part);
    pages_sent += part.pages;
    // It went out in the round just before, and has been written again already.
    if (!in_last) return;
    round_->history->carried.split(part, [&](const PageRun& piece, bool carried) {
      if (carried) pages_resent += piece.pages;
    });
  });
}

Status RoundShard::collect(const RoundPages::Chunk& chunk) {
  const std::uint64_t before = pages_sent;
  const double since_start_s = elapsed_ms(start_) / 1000;
  const auto found = round_->tracker->collect({chunk.address, chunk.address + kChunkBytes});
  if (!found) {
    if (round_->tracker->is_gone(found.error())) return {};
    return tl::unexpected<Error>(found.error());
  }
  for (const PageRun& run : *found) choose(run);
  page_seconds += static_cast<double>(pages_sent - before) * since_start_s;
  *wanted_ += pages_sent - before - chunk.wanted;  // modulo 2^64
  return {};
}

Result<std::span<const PageRun>> RoundShard::next() {
  const std::size_t first = sent.size();
  while (first == sent.size() && next_ < chunks_.size() && !round_->direct_io) {
    const std::size_t stop = std::min(chunks_.size(), next_ + at_once_);
    for (; next_ < stop; ++next_) CHECK_OK(collect(chunks_[next_]));
    // Asked after the look: a read that was going on then still has its file open.
    if (uses_direct_io(round_->tracker->pid())) round_->direct_io = true;
  }
  if (round_->direct_io) return std::span<const PageRun>{};
  return std::span<const PageRun>(sent).subspan(first);
}

void note_round(PageHistory& history, std::span<const RoundShard> shards) {
  history.written_in_one_before = std::move(history.written_in_last);
  history.written_in_last.clear();
  for (const RoundShard& shard : shards) {
    for (const PageRun& run : shard.sent) {
      history.written_in_last.add(run);
      history.carried.add(run);
    }
    for (const PageRun& run : shard.held_back) {
      history.written_in_last.add(run);
      history.carried.remove(run);
    }
  }
}

}  // namespace lifeboat
