// bandwidth.hpp - one limit for all page connections of a migration: those that have something to send
// share it, and their sum never exceeds it.
//
// One that has nothing to send keeps its rate until it has: with next to none it would begin to send
// by that.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace lifeboat {

class BandwidthShare {
 public:
  // `apply(connection, bytes_per_s)` sets a connection's own limit (0: none).
  BandwidthShare(std::size_t connections, std::function<void(std::size_t, std::uint64_t)> apply);

  // For all together; 0: no limit. Any thread, any time.
  void limit(std::uint64_t bytes_per_s);
  [[nodiscard]] std::uint64_t limit() const;
  // Whether a connection has something to send. At first all have.
  void busy(std::size_t connection, bool is);
  // The connections are somebody else's from now on: nothing is applied any more.
  void end();

 private:
  void share();

  std::function<void(std::size_t, std::uint64_t)> apply_;
  mutable std::mutex mutex_;
  std::uint64_t limit_ = 0;
  bool ended_ = false;
  std::vector<bool> busy_;
  std::vector<std::uint64_t> applied_;
};

}  // namespace lifeboat
