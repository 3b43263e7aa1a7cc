// page_server.hpp - post-copy at the source: the pages of a frozen container, for its copy that runs
// elsewhere already, until that copy needs nothing from here any more.
//
// What the target lacks it says itself (page_stream.hpp, Lack), so a server knows nothing of what was
// sent before it was made: after a lost connection, or a restart of the daemon, a new one goes on.
// What a thread waits for goes over a connection of its own, past the rest.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "migration/page_stream.hpp"
#include "report.hpp"

namespace lifeboat {

// The connections to the target's pager.
struct PageConnections {
  std::vector<std::unique_ptr<PageSender>> shards;  // in their order
  std::unique_ptr<PageSender> urgent;
};

class PageServer {
 public:
  // `processes`: pid in the container -> pid here. They must stay frozen while this lives. Begins at once, on threads
  // of its own. kUnavailable: there is none to be had.
  static Result<std::unique_ptr<PageServer>> start(std::map<std::uint32_t, pid_t> processes, PageConnections connections,
                                                   std::shared_ptr<MemoryProgress> progress);
  // Ends all connections.
  ~PageServer();
  PageServer(const PageServer&) = delete;
  PageServer& operator=(const PageServer&) = delete;

  // True once result() is known.
  [[nodiscard]] bool finished() const { return finished_; }
  // Success: the pager has every page. kUnavailable and the like: a connection is lost, which harms
  // nothing but the time until there is a new server. kSystem: pages cannot be read.
  [[nodiscard]] const Status& result() const { return result_; }

  [[nodiscard]] std::uint64_t bytes_on_wire() const;
  // Pages that were asked for because a thread waited.
  [[nodiscard]] std::uint64_t wanted_pages() const { return wanted_pages_; }

 private:
  PageServer(std::map<std::uint32_t, pid_t> processes, PageConnections connections,
             std::shared_ptr<MemoryProgress> progress);
  void run();
  // Until all that was lacking is sent, or a connection is lost.
  Status serve();
  Status answer(const RemotePages& wanted);
  // Sends what is lacking over all shards, on a thread; ends the urgent connection when done.
  void send_lacking();
  Status send_shard(PageSender& sender);
  void cancel();

  std::map<std::uint32_t, pid_t> processes_;
  PageConnections connections_;
  std::shared_ptr<MemoryProgress> progress_;
  std::map<std::uint32_t, std::vector<PageRun>> lacking_;
  std::atomic<std::uint64_t> wanted_pages_{0};
  std::thread background_;
  Status background_result_;
  std::atomic<bool> complete_{false};  // the pager has everything
  std::atomic<bool> finished_{false};
  Status result_;
  std::thread thread_;
};

}  // namespace lifeboat
