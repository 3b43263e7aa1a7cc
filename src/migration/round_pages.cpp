#include "migration/round_pages.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "criu_glue/descriptors.hpp"
#include "criu_glue/page_store.hpp"

namespace lifeboat {

namespace {

// A call collects this part of a connection's chunks: between that and the reading of the pages stands the
// look for direct I/O, which would take too long for each chunk.
constexpr std::size_t kCalls = 16;
// Of a process with thousands of open files that look takes long: its part of the time at most.
constexpr double kLookShare = 0.1;

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

// `use(chunk address, part)`: a run by the chunks it reaches into.
template <class Use>
void split_by_chunks(const PageRun& run, Use use) {
  for (std::uint64_t at = run.address; at < run.end();) {
    const std::uint64_t chunk = at / kChunkBytes * kChunkBytes;
    const std::uint64_t stop = std::min(run.end(), chunk + kChunkBytes);
    use(chunk, PageRun{at, static_cast<std::uint32_t>((stop - at) / kPageBytes)});
    at = stop;
  }
}

}  // namespace

RoundPages::RoundPages(DirtyTracker& tracker, const PageHistory& history, bool hold_back,
                       const std::vector<PageRun>& found)
    : tracker(&tracker), history(&history), hold_back(hold_back) {
  std::map<std::uint64_t, std::uint64_t, std::greater<>> wanted;  // by chunk
  for (const PageRun& run : found) {
    split_by_chunks(run, [&](std::uint64_t chunk, const PageRun& part) {
      std::uint64_t& pages = wanted[chunk];
      split_by_history(history, part, [&](const PageRun& piece, bool in_last, bool before) {
        if (!is_held_back(in_last, before)) pages += piece.pages;
      });
    });
  }
  for (const PageRun& run : history.held_back) {
    split_by_chunks(run, [&](std::uint64_t chunk, const PageRun&) { wanted.try_emplace(chunk, 0); });
  }
  for (const auto& [chunk, pages] : wanted) chunks.push_back({chunk, pages});
}

std::uint64_t RoundPages::wanted() const {
  std::uint64_t pages = 0;
  for (const Chunk& chunk : chunks) pages += chunk.wanted;
  return pages;
}

RoundShard::RoundShard(RoundPages& round, std::uint32_t pid, unsigned shard, unsigned shards,
                       std::atomic<std::uint64_t>& wanted, SteadyClock::time_point start)
    : round_(&round), wanted_(&wanted), start_(start), last_look_(start) {
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

void RoundShard::send_rested(const RoundPages::Chunk& chunk, const std::vector<PageRun>& written) {
  const std::vector<PageRun>& held = round_->history->held_back;
  const std::uint64_t end = chunk.address + kChunkBytes;
  const auto ends_before = [](const PageRun& run, std::uint64_t start) { return run.end() <= start; };
  auto run = std::lower_bound(held.begin(), held.end(), chunk.address, ends_before);
  if (run == held.end() || run->address >= end) return;
  PageSet now;
  for (const PageRun& one : written) now.add(one);
  for (; run != held.end() && run->address < end; ++run) {
    now.split(*run, [&](const PageRun& part, bool is_written) {
      if (is_written) return;
      rested.push_back(part);
      sent.push_back(part);
      pages_sent += part.pages;
    });
  }
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
  send_rested(chunk, *found);
  page_seconds += static_cast<double>(pages_sent - before) * since_start_s;
  *wanted_ += pages_sent - before - chunk.wanted;  // modulo 2^64
  return {};
}

Result<std::span<const PageRun>> RoundShard::next() {
  const std::size_t first = sent.size();
  while (first == sent.size() && next_ < chunks_.size() && !round_->direct_io) {
    const std::size_t stop = std::min(chunks_.size(), next_ + at_once_);
    for (; next_ < stop; ++next_) CHECK_OK(collect(chunks_[next_]));
    // Asked after that: a read that was going on then still has its file open.
    const auto look = SteadyClock::now();
    if (uses_direct_io(round_->tracker->pid())) round_->direct_io = true;
    const double since_last_ms = elapsed_ms(std::exchange(last_look_, look), look);
    if (first > 0 && elapsed_ms(look) > kLookShare * since_last_ms) at_once_ *= 2;
  }
  if (round_->direct_io) return std::span<const PageRun>{};
  return std::span<const PageRun>(sent).subspan(first);
}

void note_round(PageHistory& history, std::span<const RoundShard> shards) {
  history.written_in_one_before = std::move(history.written_in_last);
  history.written_in_last.clear();
  history.held_back.clear();
  for (const RoundShard& shard : shards) {
    for (const PageRun& run : shard.sent) {
      history.written_in_last.add(run);
      history.carried.add(run);
    }
    for (const PageRun& run : shard.rested) history.written_in_last.remove(run);
    for (const PageRun& run : shard.held_back) {
      history.written_in_last.add(run);
      history.carried.remove(run);
      history.held_back.push_back(run);
    }
  }
  std::sort(history.held_back.begin(), history.held_back.end(),
            [](const PageRun& a, const PageRun& b) { return a.address < b.address; });
}

}  // namespace lifeboat
