// fault_service.hpp - puts missing pages into restored processes: at once where they are asked for,
// and, once told to, everywhere.
//
// One userfaultfd per process. A thread reads faults and events; others fill memory by themselves.
// Copying and reading exclude each other per process: a copy that was begun before an event
// (munmap, madvise) was read could put back what the process has just given up. The reader goes
// first. See userfaultfd(2) and "non-cooperative userfaultfd" in the kernel's documentation.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/pending.hpp"

namespace lifeboat {

class FaultService {
 public:
  // `on_fatal` is called from any thread when a page cannot be delivered: the container must end.
  explicit FaultService(std::function<void(const std::string&)> on_fatal);
  ~FaultService();

  // A process and what it lacks; its faults are served from now on.
  void add(Fd uffd, Pending pending);
  // The container runs: fill everything. Idempotent.
  void push();
  // True once nothing is missing anywhere (after push()).
  [[nodiscard]] bool done() const;

  [[nodiscard]] std::uint64_t bytes_left() const;
  [[nodiscard]] std::uint64_t faults() const { return faults_; }
  [[nodiscard]] std::uint64_t bytes_placed() const { return placed_; }
  [[nodiscard]] std::size_t processes() const;

  // Memory of a chunk of the stores is given back when so many pages of it have been placed.
  void expect_from_chunk(unsigned char* chunk, std::uint32_t pages) { chunk_left_[chunk] += pages; }

 private:
  struct Space {
    Fd uffd;
    Pending pending;
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
  void fill();
  void handle(Space& space);
  void serve_fault(Space& space, std::uint64_t address);
  // Copies; what could not be copied goes back to `space.pending` (the caller holds no lock if
  // `locked` is false). kRetry: an event must be read first, or the memory is in motion.
  Copy copy(Space& space, const Pending::Piece& piece, bool locked);
  void put_back(Space& space, const Pending::Piece& piece, bool locked);
  void placed(const Pending::Piece& piece);

  std::function<void(const std::string&)> on_fatal_;
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
