// page_stream.hpp - pages over one TCP connection: the records, and the two threads' worth of work
// at its ends. Blocking; each end runs on a thread of its own. See page_store.hpp for why several
// connections need no order among each other.
//
//   source                                 target
//   Data {pid, address, pages, ...} ->     into the store, hash checked        any number
//   Copy {pid, address, pages, ...} ->     copied within the store             of these
//   Zero {pid, address, pages}      ->     marked
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
// pages u32, address u64, length u32 (bytes that follow), reserved u32 0, hash u64. Its pages lie in
// one chunk. Kind 0 is never valid.
//
//   what follows   Data, encoding 0: the pages
//                  Data, encoding 1 (LZ4 block), 2 (Zstandard frame): content hash u64, then the
//                     packed pages; shorter than the pages, or they go as they are
//                  Copy: content hash u64, then for each page where the same connection has sent the
//                     same before, and nothing else since: address u64, pid u32, reserved u32 0. In
//                     order: a place that this record overwrites may be the source before that
//   content hash   XXH3-64 of the XXH3-128 (low, high) of each page: so that a page is hashed once,
//                     for the record and for finding duplicates
//   hash           XXH3-64 of the first 32 bytes of the header and of a digest: the content hash for
//                     pages as they are, XXH3-64 of what follows for all else, 0 if nothing does
//
// So what arrives is checked before it is unpacked, and what comes out of unpacking and copying is
// checked against the pages as they were read. Anything wrong is kProtocol and ends the connection.
//
// Memory: a PageSender takes 1.1 MiB for a batch, 5.5 MiB while it looks for duplicates and 1.5 MiB
// once it compresses; a PageReceiver 0.6 MiB, 0.8 MiB once it unpacks Zstandard, 0.5 MiB more while draining. Besides that there
// are the sockets' own buffers (net.ipv4.tcp_wmem, tcp_rmem) and the stores (page_store.hpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "criu_glue/memory.hpp"
#include "criu_glue/page_store.hpp"
#include "criu_glue/remote_pages.hpp"
#include "migration/compression.hpp"
#include "migration/page_socket.hpp"
#include "migration/sent_bytes.hpp"

namespace lifeboat {

// Pages of one process to be sent, as the tracker found them; parts of other shards are left out by
// the sender itself.
struct PageJob {
  pid_t host_pid = -1;    // whose memory is read
  std::uint32_t pid = 0;  // its pid in the container
  std::span<const PageRun> runs;
};

// Pages of one process that are found while others are sent.
struct PageSupply {
  pid_t host_pid = -1;
  std::uint32_t pid = 0;
  // The next ones, each time; empty: that was all. What it returned last lasts until it is called again.
  std::function<Result<std::span<const PageRun>>()> next;
};

struct SendCounts {
  std::uint64_t pages = 0;             // read and sent in some way
  std::uint64_t zero_pages = 0;        // of these: all zeros
  std::uint64_t duplicate_pages = 0;   // of these: the target had the same
  std::uint64_t compressed_pages = 0;  // of these
  std::uint64_t payload_bytes = 0;     // on the wire, headers included
  std::uint64_t raw_bytes = 0;         // of all pages, as they are in memory
  std::uint64_t unread_pages = 0;      // were gone or not readable when their turn came

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
    CompressionMode compression = CompressionMode::kAuto;
    bool duplicates = true;  // look for pages that the target has already
    std::shared_ptr<SentBytes> counted_in;  // may be null
  };
  PageSender(PageSocket socket, Options options);
  ~PageSender();

  // Reads and sends this shard's part. Pages that cannot be read (unmapped or PROT_NONE meanwhile:
  // /proc/PID/mem is tried, too) are appended to `unread`: they were taken as sent by nobody.
  // kUnavailable when the connection or the target is gone, kCancelled after cancel().
  Result<SendCounts> send(const PageJob& job, std::vector<PageRun>& unread);
  Result<SendCounts> send(const PageSupply& supply, std::vector<PageRun>& unread);
  // Sends a Mark and waits for its Ack: everything sent before is in the store, hashes right.
  Result<void> flush();
  // No Copy records from now on: for a target that begins to give its store back. By the thread that
  // sends.
  void end_duplicates();

  // What is sent from now on is waited for: nothing is compressed that would go faster as it is. By the
  // thread that sends.
  void hurry();

  // From any thread: send() and flush() fail soon. The connection is of no use after that.
  void cancel();
  // Bytes per second on this connection (SO_MAX_PACING_RATE); 0: as fast as it goes. At any time,
  // from any thread; what the socket's buffer holds goes by the new limit, too.
  void limit(std::uint64_t bytes_per_s);

  [[nodiscard]] const std::atomic<std::uint64_t>& bytes_on_wire() const { return bytes_; }
  [[nodiscard]] PageSocket& socket() { return socket_; }

 private:
  class Batch;

  PageSocket socket_;
  std::optional<SentBytes::Connection> counted_;
  Options options_;
  std::unique_ptr<Batch> batch_;
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<bool> cancelled_{false};
  std::atomic<std::uint64_t> limit_{0};
  std::uint64_t sequence_ = 0;
};

// The target's end: serves one connection until the peer closes it (success: an orderly end right
// after an Ack), or breaks the protocol, or a hash is wrong. `shard`/`shards` as the source's:
// pages of another shard are a protocol error. Nothing is allocated on a header's word alone that
// the store's limit does not allow.
class PageReceiver {
 public:
  // In post-copy, once it is known which pages there are: the container may run, and memory of the store
  // is given back while pages arrive, perhaps a second time. So they come to the receiver's own memory
  // first, and only what is lacked goes to the store. This stage takes no Copy records.
  struct Draining {
    std::function<bool()> has_begun;
    // `bytes` last until this returns, null for zeros; `place` is theirs in the store.
    std::function<void(const RemotePages& pages, const unsigned char* bytes, unsigned char* place)> arrived;
    // A Mark has been acknowledged.
    std::function<void()> acknowledged;
  };
  PageReceiver(PageSocket& socket, PageStore& store, unsigned shard, unsigned shards, Draining draining = {});
  ~PageReceiver();
  Status run();

 private:
  class Input;
  struct Record;
  Status take_pages(const Record& record);
  Status take_late(const Record& record);
  Status take_data(const Record& record, unsigned char* place);
  Status take_packed(const Record& record, unsigned char* place);
  Status take_copies(const Record& record, unsigned char* place);
  // What follows, into packed_; its hash checked.
  Status read_checked(const Record& record);
  Status acknowledge(std::uint32_t sequence);

  PageSocket* socket_;
  PageStore* store_;
  unsigned shard_;
  unsigned shards_;
  Draining draining_;
  std::unique_ptr<Input> input_;
  std::unique_ptr<class Decompressor> decompressor_;
  std::vector<unsigned char> packed_;
  std::vector<unsigned char> late_;  // pages that arrive while draining
};

// Want, Lack and LackEnd, which go from the target to the source.
struct PageRequest {
  page_stream::Kind kind = page_stream::Kind::kInvalid;
  RemotePages pages;
};
// Not thread-safe.
Status send_request(PageSocket& socket, const PageRequest& request);
// The next one; kUnavailable when the connection has ended, kProtocol for anything else.
Result<PageRequest> receive_request(PageSocket& socket);

}  // namespace lifeboat
