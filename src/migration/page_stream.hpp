// page_stream.hpp - pages over one TCP connection: the records, and the two threads' worth of work
// at its ends. Blocking; each end runs on a thread of its own. See page_store.hpp for why several
// connections need no order among each other.
//
//   source                                 target
//   Data {pid, address, pages, ...} ->     into the store, hash checked        any number
//   Zero {pid, address, pages}      ->     marked                              of these
//   Mark {sequence}                 ->
//                                   <-     Ack {sequence, bytes in the store}
//
// In post-copy there is one more connection, for what threads wait for (page_server.hpp is its other
// end, at the source); its pages go into a store of their own:
//
//                                   <-     Want {pid, address, pages}     any number, at any time
//   Data, Zero                      ->     these pages, at once
//                                   <-     Lack {pid, address, pages}     once the container runs: all
//                                   <-     LackEnd {}                     that is still missing
//
// A record is a header of 40 bytes, little endian: magic u32, kind u16, encoding u16, pid u32,
// pages u32, address u64, length u32 (bytes that follow), reserved u32 0, hash u64 (XXH3-64 of the
// bytes that follow, as sent). A Data record lies in one chunk. Kind 0 is never valid.
// Encoding 0: the pages as they are (no other so far).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/memory.hpp"
#include "criu_glue/page_store.hpp"
#include "criu_glue/remote_pages.hpp"

namespace lifeboat {

namespace page_stream {
inline constexpr std::uint32_t kMagic = 0x3150424c;  // "LBP1"
inline constexpr std::size_t kHeaderBytes = 40;
inline constexpr std::uint32_t kRunPagesMax = 128;  // pages in one Data record (512 KiB)
enum class Kind : std::uint16_t {
  kInvalid = 0,
  kData = 1,
  kZero = 2,
  kMark = 3,
  kAck = 4,
  kWant = 5,
  kLack = 6,
  kLackEnd = 7,
};
enum class Encoding : std::uint16_t { kRaw = 0 };
}  // namespace page_stream

// Pages of one process to be sent, as the tracker found them; parts of other shards are left out by
// the sender itself.
struct PageJob {
  pid_t host_pid = -1;    // whose memory is read
  std::uint32_t pid = 0;  // its pid in the container
  std::span<const PageRun> runs;
};

struct SendCounts {
  std::uint64_t pages = 0;         // read and sent or found to be zeros
  std::uint64_t zero_pages = 0;    // of these
  std::uint64_t payload_bytes = 0; // on the wire, headers included
  std::uint64_t raw_bytes = 0;     // of Data records, without headers
  std::uint64_t unread_pages = 0;  // were gone or not readable when their turn came

  SendCounts& operator+=(const SendCounts& more);
};

class PageSender {
 public:
  struct Options {
    unsigned shard = 0;   // this connection's number
    unsigned shards = 1;
    int timeout_s = 30;   // without progress
    // Called by send() every 512 KiB or less with what has gone out since the last time.
    std::function<void(const SendCounts&)> on_sent;
  };
  // Takes a connected stream socket (blocking).
  PageSender(Fd socket, Options options);

  // Reads and sends this shard's part. Pages that cannot be read (unmapped or PROT_NONE meanwhile:
  // /proc/PID/mem is tried, too) are appended to `unread`: they were taken as sent by nobody.
  // kUnavailable when the connection or the target is gone, kCancelled after cancel().
  Result<SendCounts> send(const PageJob& job, std::vector<PageRun>& unread);
  // Sends a Mark and waits for its Ack: everything sent before is in the store, hashes right.
  Result<void> flush();

  // From any thread: send() and flush() fail soon. The connection is of no use after that.
  void cancel();
  // Bytes per second on this connection (SO_MAX_PACING_RATE); 0: as fast as it goes.
  void limit(std::uint64_t bytes_per_s);

  [[nodiscard]] const std::atomic<std::uint64_t>& bytes_on_wire() const { return bytes_; }
  [[nodiscard]] int socket() const { return socket_.get(); }

 private:
  Fd socket_;
  Options options_;
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<bool> cancelled_{false};
  std::uint64_t sequence_ = 0;
};

// The target's end: serves one connection until the peer closes it (success: an orderly end right
// after an Ack), or breaks the protocol, or a hash is wrong. `shard`/`shards` as the source's:
// pages of another shard are a protocol error. Nothing is allocated on a header's word alone that
// the store's limit does not allow.
class PageReceiver {
 public:
  // Called after each record: where the pages are in the store, null for zeros.
  using Arrived = std::function<void(const RemotePages& pages, unsigned char* bytes)>;
  PageReceiver(int socket, PageStore& store, unsigned shard, unsigned shards, Arrived arrived = {})
      : socket_(socket),
        store_(&store),
        shard_(shard),
        shards_(shards),
        arrived_(std::move(arrived)) {}
  Status run();

 private:
  int socket_;
  PageStore* store_;
  unsigned shard_;
  unsigned shards_;
  Arrived arrived_;
};

// Want, Lack and LackEnd, which go from the target to the source.
struct PageRequest {
  page_stream::Kind kind = page_stream::Kind::kInvalid;
  RemotePages pages;
};
// Not thread-safe.
Status send_request(int socket, const PageRequest& request);
// The next one; kUnavailable when the connection has ended, kProtocol for anything else.
Result<PageRequest> receive_request(int socket);

}  // namespace lifeboat
