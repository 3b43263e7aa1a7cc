// hold.hpp - frames for a frozen container are kept and given to it after it has resumed.
//
// Without that the first segment a peer sends to a frozen container is lost, and comes again only when the
// peer's retransmission timer fires (200 ms at least). For ranks that exchange messages in turn no gain
// was measured: their silence outlasts the freeze by 85 ms with and without it.
//
// Who keeps them is the source, and nothing on the fabric changes before the commit: until then the
// container's address belongs to the source, as the container does. What has arrived there goes to the
// target over the daemons' connection and is put into the container in the order it came:
//
//   source                                              target
//   frozen, unplugged: frames go to a HoldDevice
//   HeldFrames, ImageEnd        (most: a peer      ->   kept in memory
//                                soon has nothing
//                                more in flight)
//   HeldFrames, Commit                             ->   plugged in; kept frames into the container;
//                                                       announced; resumed
//                                                  <-   Running
//   HeldFrames, HeldEnd         (what came until   ->   into the container
//                                the announcement)
//                                                  <-   Response {delivered}
//
// The orders in which it can end:
//   abort before Commit      the source plugs in and gives its container all it kept, also what it has
//                            sent already; the target, never plugged in, drops its copies.
//   in doubt                 the source keeps on keeping, within the bounds below, until the target's
//                            word: committed drops them (peers send again), aborted delivers them.
//   daemon of the source     its devices vanish with it, their frames too; the plug's filter stays and
//   dies                     drops (a redirection to no device does), until the next daemon plugs in.
//   daemon of the target     before the commit as an abort. After it, kept frames are lost.
//   dies
// A frame that is lost or late after all costs its sender a retransmission, as ever; one that arrives
// twice, or after a later one, is what TCP is made for.
//
// A HoldDevice is a tap device that nobody reads until collect: the plug's hook towards the container
// redirects to it (plug.hpp), its queue is the store, and it exists only as long as its descriptor. Its
// kernel side turns segments that a veth pair carries uncut and without a checksum into real ones.
//
// Bounds: 1000 frames in each device (its queue), 8 MiB in HeldFrames; more is dropped and counted, the
// newest first. No limit in time but that of the freeze.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/fd.hpp"
#include "base/netlink.hpp"
#include "base/result.hpp"

namespace lifeboat {

inline constexpr std::size_t kHeldBytesMax = 8U << 20;

// Frames in the order of their arrival, each with the number of the container's interface.
class HeldFrames {
 public:
  struct Frame {
    std::uint16_t port;
    std::vector<unsigned char> bytes;
  };

  // A frame beyond the bound is counted as dropped.
  void add(std::uint16_t port, std::span<const unsigned char> bytes);
  // Those from number `first` on, for the wire: payloads of at most protocol::kDataBytesMax. An entry
  // is port and length (16 bits each, little endian) and the bytes.
  [[nodiscard]] std::vector<std::vector<unsigned char>> encode(std::size_t first) const;
  // Adds what encode() made. kProtocol: it is not that.
  [[nodiscard]] Status decode(std::span<const unsigned char> payload);

  [[nodiscard]] const std::vector<Frame>& frames() const { return frames_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

 private:
  std::vector<Frame> frames_;
  std::size_t bytes_ = 0;
  std::uint64_t dropped_ = 0;
};

// Where frames are kept in the kernel. Made in 0.3 ms; removing one takes the kernel 17 ms, which
// happens on a thread of its own.
class HoldDevice {
 public:
  // In the network namespace of the calling thread, that `node` talks to. kSystem: no tap devices here.
  static Result<HoldDevice> create(Netlink& node);
  HoldDevice(HoldDevice&&) noexcept = default;
  HoldDevice& operator=(HoldDevice&&) = delete;
  ~HoldDevice();

  [[nodiscard]] int link_index() const { return link_index_; }
  // Moves what is in the queue to `into`, as of interface `port`.
  void collect(std::uint16_t port, HeldFrames& into);
  // Frames that its queue had no room for.
  [[nodiscard]] std::uint64_t dropped(Netlink& node) const;

 private:
  HoldDevice() = default;

  Fd fd_;
  int link_index_ = 0;
  std::array<unsigned char, 6> mac_{};  // its own: what this node says on it is nobody's
};

}  // namespace lifeboat
