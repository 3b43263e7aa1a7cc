// compression.hpp - whether the pages of one connection are compressed, and how: decided from what
// was measured, so that it is done only where it makes the migration faster.
//
// A connection sends as fast as the slower of two: this thread, which reads, hashes and packs, and
// the wire. Per byte of pages that takes
//
//   max(work + packing, ratio / wire)      packing 0 and ratio 1 without compression
//
// seconds. `wire` is known once the thread had to wait for it; a connection that never waits has
// nothing to gain, and nothing is even tried there. Otherwise 64 KiB of a record are tried with each
// encoding now and then, at growing distances while nothing comes of it: never at the beginning of a
// pass, but while the socket's buffer is full, so that the wire has something to do meanwhile.
//
// Pages that are not sent as such (zeros, duplicates) do not count: they cost the wire nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "migration/compression_mode.hpp"
#include "migration/page_record.hpp"

namespace lifeboat {

class CompressionControl {
 public:
  using Encoding = page_stream::Encoding;

  // What a few records cost, compressed or not.
  struct Sent {
    std::uint64_t raw_bytes = 0;   // of pages sent as data, before compression
    std::uint64_t wire_bytes = 0;  // what became of them
    double seconds = 0;            // in all
    double waiting_s = 0;          // of these, for the wire
    double packing_s = 0;          // of these, in compression and trials
  };

  explicit CompressionControl(CompressionMode mode);

  // For the records to come.
  [[nodiscard]] Encoding encoding() const { return always_ && !hurry_ ? *always_ : best_; }
  // Every other encoding is to be tried on a piece of the next record. True once each time.
  bool take_trial();
  // Compression of a record or a piece of one; `packed` >= `raw`: it did not shrink.
  void packed(Encoding encoding, std::uint64_t raw, std::uint64_t packed, double seconds);
  void sent(const Sent& sent);
  // Everything has arrived: the wire is idle.
  void passed() { waits_ = false; }
  // The container is frozen, or about to be: from now on an encoding that was asked for is taken
  // only where it is faster, too.
  void hurry() { hurry_ = true; }
  // The connection's limit in bytes per second from now on; 0: none.
  void limited(std::uint64_t bytes_per_s);

  static constexpr std::uint64_t kTrialBytes = 64U << 10;

 private:
  struct Cost {
    bool known = false;
    double ratio = 1;    // bytes after / before
    double packing = 0;  // seconds per byte before
  };
  [[nodiscard]] double seconds_per_byte(Encoding encoding) const;
  void end_window();
  void decide();
  [[nodiscard]] bool may_be(Encoding encoding) const;

  CompressionMode mode_;
  std::optional<Encoding> always_;  // asked for
  Encoding best_;                   // by what was measured
  bool hurry_ = false;
  std::array<Cost, 3> costs_;  // by encoding
  Sent window_;
  double wire_ = 0;     // bytes per second; 0: not known
  double limit_ = 0;    // bytes per second; 0: none
  double work_ = 0;     // seconds per byte of pages
  bool waits_ = false;  // in the last window
  std::uint64_t since_trial_ = 0;
  std::uint64_t trial_distance_;
};

}  // namespace lifeboat
