// fault_service.hpp - puts missing pages into restored processes: at once where they are asked for,
// and, once told to, everywhere.
//
// One userfaultfd per process. A thread reads faults and events; others fill memory by themselves.
// Copying and reading exclude each other per process: a copy that was begun before an event
// (munmap, madvise) was read could put back what the process has just given up. The reader goes
// first. See userfaultfd(2) and "non-cooperative userfaultfd" in the kernel's documentation.
//
// What a process lacks is `pending` (its bytes are here, in a page store) or, in post-copy, `absent`
// (they are at the source still; `source` of such a piece is no pointer but the address there, which
// differs from the piece's own once the process has moved its memory). A fault on an absent page is
// passed on by `on_want`; arrived() makes absent pages pending.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/missing_pages.hpp"
#include "criu_glue/remote_pages.hpp"

namespace lifeboat {

class OrdinaryTurn;

class FaultService {
 public:
  // `on_fatal` is called from any thread when a page cannot be delivered: the container must end.
  // `on_want`, from the thread that serves faults: a thread waits for these pages.
  FaultService(std::function<void(const std::string&)> on_fatal,
               std::function<void(const RemotePages&)> on_want);
  ~FaultService();

  // What one process lacks.
  struct Missing {
    Pending pending;
    Pending absent;
    bool moved = false;  // what is absent may belong elsewhere than it was at the source
  };
  // A process (its pid in the container) and what it lacks; its faults are served from now on.
  void add(std::uint32_t pid, Fd uffd, Missing missing);
  // Pages of the process `pid` of the source, at their address there, are at `bytes`, or all zeros
  // if that is null. Those that somebody lacks are copied to `place`, which must stay until they have
  // been placed; then its memory is given back. All others are ignored, and their place is not touched:
  // it may be on its way back.
  void arrived(const RemotePages& pages, const unsigned char* bytes, unsigned char* place);
  // What is absent still, in order, each page once; and of that, what threads wait for.
  [[nodiscard]] std::vector<RemotePages> absent() const;
  [[nodiscard]] std::vector<RemotePages> wanted() const;
  // The container runs: fill everything. Idempotent. An error when no thread is to be had: to be told again.
  Status push();
  // True once nothing is missing anywhere (after push()).
  [[nodiscard]] bool done() const;

  [[nodiscard]] std::uint64_t bytes_left() const;
  [[nodiscard]] std::uint64_t bytes_absent() const;
  [[nodiscard]] std::uint64_t faults() const { return faults_; }
  [[nodiscard]] std::uint64_t bytes_placed() const { return placed_; }
  [[nodiscard]] std::size_t processes() const;

  // Memory of a chunk of the stores is given back at once when so many pages of it have been placed;
  // that of chunks which were not announced so, piece by piece.
  void expect_from_chunk(unsigned char* chunk, std::uint32_t pages) { chunk_left_[chunk] += pages; }

 private:
  struct Space : MissingPages {
    explicit Space(MissingPages missing) : MissingPages(std::move(missing)) {}

    std::uint32_t pid = 0;  // of the process at the source that its memory comes from
    Fd uffd;
    // Absent pages that threads wait for: address at the source, and where it is waited for.
    std::map<std::uint64_t, std::uint64_t> waiting;
    std::mutex mutex;
    std::condition_variable changed;
    int copying = 0;          // pushing threads in the middle of a copy
    bool reader_waits = false;
    std::atomic<bool> gone{false};  // the process has ended
    std::uint64_t hint = 0;   // where it touched memory last
    std::atomic<unsigned> stuck{0};  // times a page had no place to go
  };
  enum class Copy { kDone, kRetry, kGone };

  [[nodiscard]] std::vector<std::shared_ptr<Space>> spaces() const;
  void serve();
  void fill(OrdinaryTurn& turn);
  void handle(Space& space);
  void serve_fault(Space& space, std::uint64_t address);
  void deliver(Space& space, const RemotePages& pages, const unsigned char* bytes, unsigned char* place);
  void ask(Space& space, std::uint64_t address);
  static void wake_waiting(Space& space, std::uint64_t start, std::uint64_t end);
  // Copies; what could not be copied goes back to `space.pending` (the caller holds no lock if
  // `locked` is false). kRetry: an event must be read first, or the memory is in motion.
  Copy copy(Space& space, const Pending::Piece& piece, bool locked);
  void put_back(Space& space, const Pending::Piece& piece, bool locked);
  void placed(const Pending::Piece& piece);

  std::function<void(const std::string&)> on_fatal_;
  std::function<void(const RemotePages&)> on_want_;
  Fd epoll_;
  Fd wake_;
  mutable std::mutex spaces_mutex_;
  std::vector<std::shared_ptr<Space>> spaces_;
  std::mutex chunks_mutex_;
  std::unordered_map<unsigned char*, std::uint32_t> chunk_left_;
  std::atomic<bool> forked_{false};  // a child needs the same pages: the stores stay
  std::atomic<bool> pushing_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> faults_{0};
  std::atomic<std::uint64_t> placed_{0};
  std::vector<std::thread> threads_;
};

}  // namespace lifeboat
