// events.hpp - what a simulation runs on: a clock that jumps from event to event, random numbers from a
// seed, and coroutines that sleep in that time. The same seed gives the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <vector>

#include "base/asio.hpp"

namespace lifeboat::sim {

using Micros = std::int64_t;  // since the beginning of the simulation
inline constexpr Micros kMs = 1000;
inline constexpr Micros kSecond = 1000 * kMs;

// A coroutine that waits; woken once.
class Waker {
 public:
  virtual ~Waker() = default;
  virtual void wake() = 0;
};

// Where one at a time waits.
struct Sleeper {
  std::unique_ptr<Waker> waker;
  std::uint64_t turn = 0;
};

class Events {
 public:
  explicit Events(std::uint64_t seed);
  ~Events();

  [[nodiscard]] Micros now() const { return now_; }
  [[nodiscard]] asio::io_context& io() { return io_; }
  // Of the simulation that this thread runs.
  static Events& current();

  void at(Micros when, std::function<void()> what);
  void after(Micros delay, std::function<void()> what) { at(now_ + delay, std::move(what)); }
  void spawn(awaitable<void> coroutine);
  awaitable<void> sleep(Micros duration);
  // Until signal() is called with the same `who`, or the time is over. One may wait for each.
  awaitable<void> wait(std::shared_ptr<Sleeper> who, Micros limit);
  static void signal(Sleeper& who);

  // Runs the next event. False: there is none.
  bool step();

  // ---- chance
  [[nodiscard]] Micros between(Micros from, Micros to);
  [[nodiscard]] bool happens(double probability);
  [[nodiscard]] std::size_t below(std::size_t end);

  std::uint64_t count = 0;  // events run

 private:
  struct Event {
    Micros when;
    std::uint64_t number;  // those of the same time in the order in which they were asked for
    std::function<void()> what;
    bool operator>(const Event& other) const {
      return std::pair(when, number) > std::pair(other.when, other.number);
    }
  };

  asio::io_context io_{1};
  std::mt19937_64 random_;
  Micros now_ = 0;
  std::uint64_t asked_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
};

}  // namespace lifeboat::sim
