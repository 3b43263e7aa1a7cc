// ordinary_turn.hpp - lets a thread of high priority do much work that nobody waits for without keeping ordinary
// processes from the processors: it works as long as a thread of ordinary priority had to wait for its turn.
//
// Lowering its own priority instead would have it lose its processor in the middle of a step that somebody of high
// priority does wait for.
#pragma once

#include <atomic>
#include <chrono>
#include <semaphore>
#include <thread>

#include "base/process.hpp"

namespace lifeboat {

class OrdinaryTurn {
 public:
  // Throws std::system_error when no thread is to be had.
  OrdinaryTurn()
      : thread_([this] {
          lower_priority();
          for (;;) {
            asked_.acquire();
            if (stopping_) return;
            given_.release();
          }
        }) {}
  OrdinaryTurn(const OrdinaryTurn&) = delete;
  OrdinaryTurn& operator=(const OrdinaryTurn&) = delete;
  ~OrdinaryTurn() {
    stopping_ = true;
    asked_.release();
    thread_.join();
  }

  // Returns when the turn has come: until when to work.
  std::chrono::steady_clock::time_point wait() {
    const auto start = std::chrono::steady_clock::now();
    asked_.release();
    given_.acquire();
    const auto now = std::chrono::steady_clock::now();
    return now + (now - start);
  }

 private:
  std::binary_semaphore asked_{0};
  std::binary_semaphore given_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace lifeboat
