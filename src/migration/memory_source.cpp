#include "migration/memory_source.hpp"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <future>
#include <thread>

#include "base/blocking.hpp"
#include "base/file.hpp"
#include "base/process.hpp"

namespace lifeboat {

namespace {

// Less memory than this is sent whole while frozen: cheaper than tracking it.
constexpr std::uint64_t kTrackBytesMin = 8U << 20;

// Its pid in the innermost pid namespace: the last number of "NSpid: 4711 12".
Result<std::uint32_t> pid_in_container(pid_t pid) {
  TRY(const std::string text, read_file("/proc/" + std::to_string(pid) + "/status", 8192));
  const auto at = text.find("NSpid:");
  if (at == std::string::npos) return fail(Errc::kSystem, "no NSpid in /proc/PID/status");
  const std::string line = text.substr(at, text.find('\n', at) - at);
  return static_cast<std::uint32_t>(std::strtoul(line.c_str() + line.find_last_of(" \t"), nullptr, 10));
}

std::uint64_t count_pages(const std::vector<PageRun>& runs) {
  std::uint64_t pages = 0;
  for (const PageRun& run : runs) pages += run.pages;
  return pages;
}

std::uint64_t bytes_of(const std::vector<AddressRange>& ranges) {
  std::uint64_t bytes = 0;
  for (const AddressRange& range : ranges) bytes += range.bytes();
  return bytes;
}

double seconds_since(SteadyClock::time_point start) { return elapsed_ms(start) / 1000; }

}  // namespace

MemorySource::MemorySource(Cgroup cgroup, std::vector<PageSocket> connections, MemoryOptions options,
                           std::shared_ptr<MemoryProgress> progress)
    : cgroup_(std::move(cgroup)),
      timeout_s_(options.timeout_s),
      tracking_(options.tracking),
      bandwidth_(connections.size(),
                 [this](std::size_t i, std::uint64_t rate) { senders_[i]->limit(rate); }),
      progress_(std::move(progress)) {
  PageSender::Options sender;
  sender.shards = static_cast<unsigned>(connections.size());
  sender.timeout_s = options.timeout_s;
  sender.on_sent = [progress = progress_](const SendCounts& sent) { progress->pages_sent += sent.pages; };
  sender.counted_in = counted_in();
  sender.compression = options.compression;
  for (PageSocket& connection : connections) {
    senders_.push_back(std::make_unique<PageSender>(std::move(connection), sender));
    ++sender.shard;
  }
  limit(options.bytes_per_s);
}

std::shared_ptr<SentBytes> MemorySource::counted_in() const { return {progress_, &progress_->bytes_sent}; }

MemorySource::~MemorySource() {
  cancel();
  pool_.join();
}

void MemorySource::cancel() {
  for (const auto& sender : senders_) sender->cancel();
}

std::uint64_t MemorySource::bytes_on_wire() const {
  std::uint64_t bytes = 0;
  for (const auto& sender : senders_) bytes += sender->bytes_on_wire();
  return bytes;
}

awaitable<Result<RoundMeasurement>> MemorySource::round(Round how) {
  std::function<Result<RoundMeasurement>()> work = [this, how] { return run_round(how); };
  co_return co_await run_blocking(pool_, std::move(work));
}

awaitable<Result<FinalMemory>> MemorySource::send_rest() {
  std::function<Result<FinalMemory>()> work = [this] { return run_rest(); };
  co_return co_await run_blocking(pool_, std::move(work));
}

awaitable<Result<FinalMemory>> MemorySource::list_rest() {
  std::function<Result<FinalMemory>()> work = [this] { return survey_rest(true); };
  co_return co_await run_blocking(pool_, std::move(work));
}

Result<std::unique_ptr<PageServer>> MemorySource::serve_rest(PageSocket urgent) {
  std::map<std::uint32_t, pid_t> pids;
  for (const auto& [pid, process] : processes_) pids[process.pid] = pid;
  PageConnections connections;
  for (std::size_t i = 0; i < senders_.size(); ++i) bandwidth_.busy(i, true);
  bandwidth_.end();
  connections.shards = std::move(senders_);
  PageSender::Options options;
  options.timeout_s = timeout_s_;
  options.compression = CompressionMode::kOff;  // a thread waits for each of these pages
  options.duplicates = false;
  options.counted_in = counted_in();
  connections.urgent = std::make_unique<PageSender>(std::move(urgent), options);
  return PageServer::start(std::move(pids), std::move(connections), progress_);
}

Status MemorySource::follow_processes(bool track) {
  const std::vector<pid_t> pids = cgroup_.pids();
  std::erase_if(processes_, [&](const auto& item) {
    return std::find(pids.begin(), pids.end(), item.first) == pids.end() ||
           process_start_time(item.first) != item.second.start_time ||
           !item.second.tracker->current();
  });
  for (const pid_t pid : pids) {
    if (processes_.contains(pid)) continue;
    const auto inner = pid_in_container(pid);
    if (!inner) {
      // It ended in this moment; or, when all are frozen, we must not go on without it.
      if (!track && process_start_time(pid) != 0) return tl::unexpected<Error>(inner.error());
      continue;
    }
    Process process;
    process.pid = *inner;
    process.start_time = process_start_time(pid);
    auto tracker = DirtyTracker::untracked(pid);
    if (!tracker) {
      if (track) continue;
      return tl::unexpected<Error>(tracker.error());
    }
    process.tracker = std::move(*tracker);
    processes_.emplace(pid, std::move(process));
  }
  if (track) {
    for (auto& [pid, process] : processes_) this->track(pid, process);
  }
  return {};
}

// In every round anew: it may have been too small, or have been refused for a passing reason.
void MemorySource::track(pid_t pid, Process& process) {
  if (process.tracker->tracking() || process.refusals == Process::kRefusalsMax) return;
  const auto mappings = owned_mappings(pid);
  if (!mappings || bytes_of(*mappings) < kTrackBytesMin) return;
  auto tracker = DirtyTracker::attach(pid, tracking_);
  if (tracker) {
    process.tracker = std::move(*tracker);
    process.refusal.clear();
  } else if (tracker.error().code != Errc::kNotFound) {  // that is: it has just ended
    ++process.refusals;
    process.refusal = tracker.error().message;
  }
}

Status MemorySource::give_up_tracking(pid_t pid, Process& process) {
  TRY(process.tracker, DirtyTracker::untracked(pid));
  process.history = {};
  process.refusals = Process::kRefusalsMax;
  process.refusal = "process " + std::to_string(pid) +
                    " has a file open with O_DIRECT: devices write to its memory unseen";
  return {};
}

std::string MemorySource::untracked_reason() const {
  for (const auto& [pid, process] : processes_) {
    if (!process.refusal.empty()) return process.refusal;
  }
  return {};
}

// New mappings are registered while everything stands still for some tenths of a millisecond.
Status MemorySource::refresh_frozen() {
  CHECK_OK(cgroup_.freeze_briefly());
  Status status;
  for (auto& [pid, process] : processes_) {
    auto refreshed = process.tracker->refresh();
    if (!refreshed && !process.tracker->is_gone(refreshed.error())) status = refreshed;
  }
  CHECK_OK(cgroup_.thaw());
  return status;
}

Result<MemorySource::Sent> MemorySource::send_all(Priority priority, std::uint64_t pages, const SendPart& part) {
  progress_->pages_sent = 0;
  progress_->pages_to_send = pages;
  std::vector<Result<SendCounts>> counts(senders_.size());
  std::vector<ThreadTime> times(senders_.size());
  const auto send_part = [&](std::size_t index) {
    if (priority == Priority::kTakesTurns) lower_priority();
    const ThreadTime before = thread_time();
    bandwidth_.busy(index, true);
    counts[index] = part(index);
    if (counts[index]) {
      const auto flushed = senders_[index]->flush();
      if (!flushed) counts[index] = tl::unexpected<Error>(flushed.error());
    }
    bandwidth_.busy(index, false);
    const ThreadTime after = thread_time();
    times[index] = {after.ran_s - before.ran_s, after.waited_s - before.waited_s};
  };
  {
    // This thread keeps its priority, and takes a part where each moment counts.
    const bool takes_part = priority == Priority::kGoesFirst;
    std::vector<std::jthread> threads;
    for (std::size_t i = takes_part ? 1 : 0; i < senders_.size(); ++i) threads.emplace_back(send_part, i);
    if (takes_part) send_part(0);
  }
  Sent all;
  for (const Result<SendCounts>& sent : counts) {
    if (!sent) return tl::unexpected<Error>(sent.error());
    all.counts += *sent;
  }
  counts_ += all.counts;
  all.busiest = *std::max_element(times.begin(), times.end(),
                                  [](const ThreadTime& a, const ThreadTime& b) { return a.ran_s < b.ran_s; });
  return all;
}

void MemorySource::count_dirty(RoundMeasurement& measured) const {
  for (const auto& [pid, process] : processes_) {
    const auto mappings = owned_mappings(pid);
    if (!mappings) continue;
    const auto found = process.tracker->survey(*mappings);
    if (!found) continue;
    std::uint64_t pages = 0;
    const auto count = [&](const std::vector<PageRun>& runs, bool wanted) {
      for (const PageRun& run : runs) {
        process.history.carried.split(run, [&](const PageRun& part, bool carried) {
          if (carried == wanted) pages += part.pages;
        });
      }
    };
    count(found->there, false);
    count(found->written, true);
    measured.pages_dirty_after += pages;
    if (process.tries_again()) measured.pages_untracked += pages;
  }
}

struct MemorySource::Part {
  Part(Process& process, bool hold_back, const std::vector<PageRun>& found)
      : pages(*process.tracker, process.history, hold_back, found) {}
  RoundPages pages;
  std::vector<RoundShard> shards{};  // one for each connection
  std::vector<std::vector<PageRun>> unread{};
};

Result<double> MemorySource::note_sent(pid_t pid, const Part& part, RoundMeasurement& measured) {
  Process& process = processes_[pid];
  note_round(process.history, part.shards);
  for (const auto& runs : part.unread) {
    for (const PageRun& run : runs) process.history.carried.remove(run);
  }
  double page_seconds = 0;
  for (const RoundShard& shard : part.shards) {
    measured.pages_sent += shard.pages_sent;
    measured.pages_resent += shard.pages_resent;
    measured.pages_held_back += count_pages(shard.held_back);
    page_seconds += shard.page_seconds;
  }
  if (!part.pages.direct_io) return page_seconds;
  const Status given_up = give_up_tracking(pid, process);
  if (!given_up && !process.tracker->is_gone(given_up.error())) return tl::unexpected<Error>(given_up.error());
  return page_seconds;
}

Result<RoundMeasurement> MemorySource::run_round(Round how) {
  RoundMeasurement measured;
  measured.round = ++rounds_;
  const auto start = SteadyClock::now();
  measured.started_s = elapsed_ms(created_, start) / 1000;
  CHECK_OK(follow_processes(true));
  CHECK_OK(refresh_frozen());
  std::map<pid_t, Part> parts;
  std::uint64_t wanted = 0;
  for (auto& [pid, process] : processes_) {
    const auto found = process.tracker->look();
    if (!found) {
      if (process.tracker->is_gone(found.error())) continue;
      return tl::unexpected<Error>(found.error());
    }
    measured.pages_found += count_pages(*found);
    const auto [part, added] = parts.try_emplace(pid, process, how.hold_back, *found);
    wanted += part->second.pages.wanted();
  }
  measured.scan_s = seconds_since(start);
  const auto send_start = SteadyClock::now();
  for (auto& [pid, part] : parts) {
    for (unsigned shard = 0; shard < senders_.size(); ++shard) {
      part.shards.emplace_back(part.pages, processes_[pid].pid, shard, static_cast<unsigned>(senders_.size()),
                               progress_->pages_to_send, send_start);
    }
    part.unread.resize(senders_.size());
  }
  const auto looking = std::async(std::launch::async, [this, pids = pids()] { smaps_.look(pids); });
  const auto send_part = [&](std::size_t connection) -> Result<SendCounts> {
    SendCounts total;
    for (auto& [pid, part] : parts) {
      PageSupply supply;
      supply.host_pid = pid;
      supply.pid = processes_.at(pid).pid;
      supply.next = [&shard = part.shards[connection]] { return shard.next(); };
      TRY(const SendCounts sent, senders_[connection]->send(supply, part.unread[connection]));
      total += sent;
    }
    return total;
  };
  TRY(const Sent sent,
      send_all(how.goes_first ? Priority::kGoesFirst : Priority::kTakesTurns, wanted, send_part));
  measured.send_s = seconds_since(send_start);
  measured.ran_s = sent.busiest.ran_s;
  measured.waited_s = sent.busiest.waited_s;
  measured.bytes_on_wire = sent.counts.payload_bytes;
  double page_seconds = 0;
  for (auto& [pid, part] : parts) {
    TRY(const double waited, note_sent(pid, part, measured));
    page_seconds += waited;
  }
  if (measured.pages_sent > 0) {
    measured.exposed_s = measured.send_s - page_seconds / static_cast<double>(measured.pages_sent);
  }
  count_dirty(measured);
  return measured;
}

awaitable<Result<WriteSample>> MemorySource::sample() {
  std::function<Result<WriteSample>()> work = [this] { return run_sample(); };
  co_return co_await run_blocking(pool_, std::move(work));
}

Result<WriteSample> MemorySource::run_sample() {
  constexpr Milliseconds kEarly{100};
  constexpr Milliseconds kLate{1000};
  CHECK_OK(follow_processes(true));
  CHECK_OK(refresh_frozen());
  for (auto& [pid, process] : processes_) (void)process.tracker->collect();
  const auto start = SteadyClock::now();
  const auto count_at = [&](Milliseconds when, double& at_s) {
    std::this_thread::sleep_until(start + when);
    std::uint64_t pages = 0;
    for (auto& [pid, process] : processes_) {
      const auto written = process.tracker->look();
      if (written) pages += count_pages(*written);
    }
    at_s = seconds_since(start);
    return pages;
  };
  WriteSample sample;
  sample.early_pages = count_at(kEarly, sample.early_s);
  sample.late_pages = count_at(kLate, sample.late_s);
  return sample;
}

std::vector<pid_t> MemorySource::pids() const {
  std::vector<pid_t> pids;
  for (const auto& [pid, process] : processes_) pids.push_back(pid);
  return pids;
}

Result<std::vector<OwnedMappings>> MemorySource::note_owned() {
  CHECK_OK(follow_processes(false));
  std::vector<OwnedMappings> all;
  for (auto& [pid, process] : processes_) {
    TRY(process.mappings, owned_mappings(pid));
    all.push_back({pid, process.mappings});
  }
  return all;
}

Result<FinalMemory> MemorySource::survey_rest(bool later) {
  FinalMemory rest;
  const auto start = SteadyClock::now();
  std::map<std::uint32_t, Process*> in_order;
  for (auto& [pid, process] : processes_) in_order[process.pid] = &process;
  for (const auto& [pid, process] : in_order) {
    process->to_send.clear();
    TRY(const Survey found, process->tracker->survey(process->mappings));
    for (const PageRun& run : found.written) process->history.carried.remove(run);
    for (const PageRun& run : found.there) {
      if (!later) rest.pages.push_back({pid, run.pages, run.address, 0, 0});
      process->history.carried.split(run, [&, pid = pid](const PageRun& part, bool carried) {
        if (later) rest.pages.push_back({pid, part.pages, part.address, carried ? 0U : 1U, 0});
        if (carried) return;
        if (!process->tracker->tracking()) rest.untracked_pages += part.pages;
        process->to_send.push_back(part);
      });
      rest.present_pages += run.pages;
    }
    rest.sent_pages += count_pages(process->to_send);
  }
  rest.survey_ms = elapsed_ms(start);
  return rest;
}

Result<FinalMemory> MemorySource::run_rest() {
  const std::uint64_t bytes_before = bytes_on_wire();
  for (const auto& sender : senders_) sender->hurry();
  TRY(FinalMemory rest, survey_rest(false));
  const auto send_start = SteadyClock::now();
  const auto send_part = [&](std::size_t connection) -> Result<SendCounts> {
    SendCounts total;
    std::vector<PageRun> unread;  // counted, that is enough
    for (const auto& [pid, process] : processes_) {
      PageJob job;
      job.host_pid = pid;
      job.pid = process.pid;
      job.runs = process.to_send;
      TRY(const SendCounts sent, senders_[connection]->send(job, unread));
      total += sent;
    }
    return total;
  };
  TRY(const Sent sent, send_all(Priority::kGoesFirst, rest.sent_pages, send_part));
  if (sent.counts.unread_pages > 0) {
    return fail(Errc::kSystem, std::to_string(sent.counts.unread_pages) +
                                   " pages of the frozen container could not be read");
  }
  rest.send_ms = elapsed_ms(send_start);
  rest.bytes_on_wire = bytes_on_wire() - bytes_before;
  return rest;
}

}  // namespace lifeboat
