#include "migration/page_server.hpp"

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <system_error>
#include <thread>

namespace lifeboat {

using page_stream::Kind;

namespace {

// Starts a thread. Without one pages pause, and are asked for again over a new connection: not kSystem, which
// says that they are lost.
Status begin(const std::function<void()>& start) {
  try {
    start();
  } catch (const std::system_error& error) {
    return fail(Errc::kUnavailable, std::string("no thread to send pages with: ") + error.what());
  }
  return {};
}

}  // namespace

PageServer::PageServer(std::map<std::uint32_t, pid_t> processes, PageConnections connections,
                       std::shared_ptr<MemoryProgress> progress)
    : processes_(std::move(processes)),
      connections_(std::move(connections)),
      progress_(std::move(progress)) {
  // The target's store gives pages back by now: it is no source of copies any more.
  for (const auto& shard : connections_.shards) shard->end_duplicates();
  connections_.urgent->end_duplicates();
}

Result<std::unique_ptr<PageServer>> PageServer::start(std::map<std::uint32_t, pid_t> processes,
                                                      PageConnections connections,
                                                      std::shared_ptr<MemoryProgress> progress) {
  std::unique_ptr<PageServer> server(
      new PageServer(std::move(processes), std::move(connections), std::move(progress)));
  CHECK_OK(begin([&server] { server->thread_ = std::thread([own = server.get()] { own->run(); }); }));
  return server;
}

PageServer::~PageServer() {
  cancel();
  if (thread_.joinable()) thread_.join();
}

void PageServer::cancel() {
  for (const auto& shard : connections_.shards) shard->cancel();
  connections_.urgent->cancel();
}

std::uint64_t PageServer::bytes_on_wire() const {
  std::uint64_t bytes = connections_.urgent->bytes_on_wire();
  for (const auto& shard : connections_.shards) bytes += shard->bytes_on_wire();
  return bytes;
}

void PageServer::run() {
  result_ = serve();
  cancel();
  if (background_.joinable()) background_.join();
  if (complete_) {
    result_ = Status{};
  } else if (!background_result_ && background_result_.error().code == Errc::kSystem) {
    result_ = background_result_;
  }
  finished_ = true;
}

Status PageServer::serve() {
  // Only then does the target ask: what it sent before would be lost in the connection's first life as a link,
  // which reads ahead.
  CHECK_OK(connections_.urgent->flush());
  for (;;) {
    const auto request = receive_request(connections_.urgent->socket());
    if (!request && request.error().code == Errc::kTimeout) continue;  // nobody waits for a page
    if (!request) return tl::unexpected<Error>(request.error());
    switch (request->kind) {
      case Kind::kWant: CHECK_OK(answer(request->pages)); break;
      case Kind::kLack:
        lacking_[request->pages.pid].push_back({request->pages.address, request->pages.pages});
        break;
      case Kind::kLackEnd:
        if (background_.joinable()) return fail(Errc::kProtocol, "a second list of missing pages");
        CHECK_OK(begin([this] { background_ = std::thread([this] { send_lacking(); }); }));
        break;
      case Kind::kInvalid:
      case Kind::kData:
      case Kind::kZero:
      case Kind::kCopy:
      case Kind::kMark:
      case Kind::kAck: break;  // receive_request() lets none of these through
    }
  }
}

namespace {

// What cannot be read is tried again for a moment: given up, it costs the container.
Result<SendCounts> send_all(PageSender& sender, std::uint32_t pid, pid_t host_pid, std::vector<PageRun> runs) {
  constexpr int kTries = 20;
  constexpr auto kPause = std::chrono::milliseconds(50);
  SendCounts counts;
  for (int tries = 0; tries < kTries; ++tries) {
    if (tries > 0) std::this_thread::sleep_for(kPause);
    PageJob job;
    job.host_pid = host_pid;
    job.pid = pid;
    job.runs = runs;
    std::vector<PageRun> unread;
    TRY(const SendCounts sent, sender.send(job, unread));
    counts += sent;
    if (unread.empty()) return counts;
    runs = std::move(unread);
  }
  return fail(Errc::kSystem, "pages of the frozen container cannot be read any more, first at " +
                                 std::to_string(runs.front().address));
}

}  // namespace

Status PageServer::answer(const RemotePages& wanted) {
  const auto process = processes_.find(wanted.pid);
  if (process == processes_.end()) {
    return fail(Errc::kProtocol, "the target asks for pages of process " +
                                     std::to_string(wanted.pid) + ", which is none of this container");
  }
  TRY(const SendCounts sent, send_all(*connections_.urgent, wanted.pid, process->second,
                                      {{wanted.address, wanted.pages}}));
  wanted_pages_ += sent.pages;
  return {};
}

Status PageServer::send_shard(PageSender& sender) {
  for (const auto& [pid, runs] : lacking_) {
    const auto process = processes_.find(pid);
    if (process == processes_.end()) {
      return fail(Errc::kProtocol, "the target lacks pages of an unknown process");
    }
    CHECK_OK(send_all(sender, pid, process->second, runs));
  }
  return sender.flush();
}

void PageServer::send_lacking() {
  std::uint64_t pages = 0;
  for (const auto& [pid, runs] : lacking_) {
    for (const PageRun& run : runs) pages += run.pages;
  }
  progress_->pages_sent = 0;
  progress_->pages_to_send = pages;
  std::vector<Status> results(connections_.shards.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < results.size(); ++i) {
      auto begun = begin([&] {
        threads.emplace_back([this, i, &results] { results[i] = send_shard(*connections_.shards[i]); });
      });
      if (!begun) results[i] = std::move(begun);
    }
  }
  for (Status& result : results) {
    if (!result && background_result_) background_result_ = std::move(result);
  }
  complete_ = background_result_.has_value();
  // serve() waits for requests: there will be none that matters.
  connections_.urgent->cancel();
}

}  // namespace lifeboat
