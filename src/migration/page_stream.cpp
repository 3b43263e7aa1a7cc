#include "migration/page_stream.hpp"

#include <fcntl.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/little_endian.hpp"

namespace lifeboat {

using namespace page_stream;

namespace {

// Pages read by one system call, and sent by one.
constexpr std::size_t kBatchBytes = 512U << 10;
constexpr std::size_t kBatchPages = kBatchBytes / kPageBytes;
constexpr std::uint64_t kAddressMax = 1ULL << 56;

struct RecordHeader {
  Kind kind = Kind::kInvalid;
  Encoding encoding = Encoding::kRaw;
  std::uint32_t pid = 0;
  std::uint32_t pages = 0;
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint64_t hash = 0;
};

void encode(const RecordHeader& header, unsigned char* out) {
  put_le<std::uint32_t>(out, kMagic);
  put_le<std::uint16_t>(out + 4, static_cast<std::uint16_t>(header.kind));
  put_le<std::uint16_t>(out + 6, static_cast<std::uint16_t>(header.encoding));
  put_le<std::uint32_t>(out + 8, header.pid);
  put_le<std::uint32_t>(out + 12, header.pages);
  put_le<std::uint64_t>(out + 16, header.address);
  put_le<std::uint32_t>(out + 24, header.length);
  put_le<std::uint32_t>(out + 28, 0);
  put_le<std::uint64_t>(out + 32, header.hash);
}

// Of requests, which are not bound to one chunk.
bool right_anywhere(const RecordHeader& header) {
  return header.pages > 0 && header.address % kPageBytes == 0 && header.address < kAddressMax;
}

Result<RecordHeader> decode(const unsigned char* in) {
  RecordHeader header;
  header.kind = static_cast<Kind>(get_le<std::uint16_t>(in + 4));
  header.encoding = static_cast<Encoding>(get_le<std::uint16_t>(in + 6));
  header.pid = get_le<std::uint32_t>(in + 8);
  header.pages = get_le<std::uint32_t>(in + 12);
  header.address = get_le<std::uint64_t>(in + 16);
  header.length = get_le<std::uint32_t>(in + 24);
  header.hash = get_le<std::uint64_t>(in + 32);
  if (get_le<std::uint32_t>(in) != kMagic || get_le<std::uint32_t>(in + 28) != 0) {
    return fail(Errc::kProtocol, "not a page record (wrong magic)");
  }
  const bool pages_right = header.pages > 0 && header.address % kPageBytes == 0 &&
                           header.address < kAddressMax &&
                           header.address % kChunkBytes + header.pages * kPageBytes <= kChunkBytes;
  switch (header.kind) {
    case Kind::kData:
      if (pages_right && header.pages <= kRunPagesMax && header.encoding == Encoding::kRaw &&
          header.length == header.pages * kPageBytes) {
        return header;
      }
      break;
    case Kind::kZero:
      if (pages_right && header.length == 0) return header;
      break;
    case Kind::kWant:
    case Kind::kLack:
      if (right_anywhere(header) && header.length == 0) return header;
      break;
    case Kind::kMark:
    case Kind::kAck:
    case Kind::kLackEnd:
      if (header.length == 0) return header;
      break;
    case Kind::kInvalid: break;
  }
  return fail(Errc::kProtocol, "a page record of kind " +
                                   std::to_string(static_cast<unsigned>(header.kind)) +
                                   " with impossible values");
}

Error stream_error(int error, const std::string& what) {
  if (error == EAGAIN || error == EWOULDBLOCK) {
    return Error(Errc::kTimeout, what + ": no progress before the deadline");
  }
  if (error == 0 || error == EPIPE || error == ECONNRESET) {
    return Error(Errc::kUnavailable, what + ": the peer closed the connection");
  }
  return Error(Errc::kUnavailable, what + ": " + std::strerror(error));
}

// The address of the other end, while it is connected to one.
std::string peer_of(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  char text[INET_ADDRSTRLEN] = "";
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      address.sin_family != AF_INET ||
      ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text) == nullptr) {
    return "the peer";
  }
  return text;
}

Status send_all(int socket, std::vector<iovec>& parts) {
  std::size_t first = 0;
  while (first < parts.size()) {
    msghdr message{};
    message.msg_iov = parts.data() + first;
    message.msg_iovlen = std::min<std::size_t>(parts.size() - first, IOV_MAX);
    ssize_t n = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return tl::unexpected<Error>(stream_error(errno, "send pages to " + peer_of(socket)));
    while (first < parts.size() && static_cast<std::size_t>(n) >= parts[first].iov_len) {
      n -= static_cast<ssize_t>(parts[first++].iov_len);
    }
    if (n > 0) {
      parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + n;
      parts[first].iov_len -= static_cast<std::size_t>(n);
    }
  }
  parts.clear();
  return {};
}

bool is_zero(const unsigned char* page) {
  std::uint64_t first = 0;
  std::memcpy(&first, page, sizeof first);
  return first == 0 && std::memcmp(page, page + sizeof first, kPageBytes - sizeof first) == 0;
}

// Consecutive pages within one chunk.
struct Piece {
  std::uint64_t address = 0;
  std::uint32_t pages = 0;
};

// Reads pages of another process: what is readable of each piece. Returns for every page of the
// batch whether it was read.
class PageReader {
 public:
  explicit PageReader(pid_t pid) : pid_(pid) {}

  void read(const std::vector<Piece>& pieces, unsigned char* out, std::vector<bool>& read) {
    std::vector<iovec> remote;
    std::size_t total = 0;
    for (const Piece& piece : pieces) {
      remote.push_back({reinterpret_cast<void*>(piece.address), piece.pages * kPageBytes});
      total += piece.pages * kPageBytes;
    }
    const iovec local{out, total};
    const ssize_t n = ::process_vm_readv(pid_, &local, 1, remote.data(), remote.size(), 0);
    const std::size_t good = n < 0 ? 0 : static_cast<std::size_t>(n) / kPageBytes;
    read.assign(total / kPageBytes, false);
    std::fill(read.begin(), read.begin() + static_cast<std::ptrdiff_t>(good), true);
    if (good == read.size()) return;
    std::size_t index = 0;
    for (const Piece& piece : pieces) {
      for (std::uint32_t i = 0; i < piece.pages; ++i, ++index) {
        if (!read[index]) read[index] = one(piece.address + i * kPageBytes, out + index * kPageBytes);
      }
    }
  }

 private:
  bool one(std::uint64_t address, unsigned char* out) {
    const iovec local{out, kPageBytes};
    const iovec remote{reinterpret_cast<void*>(address), kPageBytes};
    if (::process_vm_readv(pid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(kPageBytes)) {
      return true;
    }
    // PROT_NONE: only this way in.
    if (!mem_) {
      mem_ = Fd(::open(("/proc/" + std::to_string(pid_) + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
    }
    return mem_ && ::pread(mem_.get(), out, kPageBytes, static_cast<off_t>(address)) ==
                       static_cast<ssize_t>(kPageBytes);
  }

  pid_t pid_;
  Fd mem_;
};

void set_timeout(int socket, int option, int seconds) {
  const timeval limit{seconds, 0};
  (void)::setsockopt(socket, SOL_SOCKET, option, &limit, sizeof limit);
}

}  // namespace

SendCounts& SendCounts::operator+=(const SendCounts& more) {
  pages += more.pages;
  zero_pages += more.zero_pages;
  payload_bytes += more.payload_bytes;
  raw_bytes += more.raw_bytes;
  unread_pages += more.unread_pages;
  return *this;
}

PageSender::PageSender(Fd socket, Options options)
    : socket_(std::move(socket)), options_(std::move(options)) {
  set_timeout(socket_.get(), SO_SNDTIMEO, options_.timeout_s);
  set_timeout(socket_.get(), SO_RCVTIMEO, options_.timeout_s);
}

void PageSender::cancel() {
  cancelled_ = true;
  (void)::shutdown(socket_.get(), SHUT_RDWR);
}

void PageSender::limit(std::uint64_t bytes_per_s) {
  const std::uint64_t rate = bytes_per_s == 0 ? ~std::uint64_t{0} : bytes_per_s;
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
}

namespace {

// Collects records and sends them by one system call each time.
class Batch {
 public:
  Batch(int socket, std::uint32_t pid) : socket_(socket), pid_(pid), pages_(kBatchBytes) {
    headers_.reserve(kHeadersMax);
  }

  // Reads `pieces` and sends what was read.
  Status send(PageReader& reader, const std::vector<Piece>& pieces, SendCounts& counts,
              std::vector<PageRun>& unread) {
    reader.read(pieces, pages_.data(), read_);
    std::size_t index = 0;
    for (const Piece& piece : pieces) {
      std::uint32_t at = 0;
      while (at < piece.pages) {
        const Sort sort = sort_of(index + at);
        std::uint32_t count = 1;
        while (at + count < piece.pages && count < kRunPagesMax &&
               sort_of(index + at + count) == sort) {
          ++count;
        }
        const std::uint64_t address = piece.address + at * kPageBytes;
        if (sort == Sort::kUnread) {
          unread.push_back({address, count, true});
          counts.unread_pages += count;
        } else {
          CHECK_OK(add(sort, address, count, pages_.data() + (index + at) * kPageBytes, counts));
        }
        at += count;
      }
      index += piece.pages;
    }
    return flush();
  }

 private:
  enum class Sort { kUnread, kZero, kData };
  static constexpr std::size_t kHeadersMax = 512;

  Sort sort_of(std::size_t page) const {
    if (!read_[page]) return Sort::kUnread;
    return is_zero(pages_.data() + page * kPageBytes) ? Sort::kZero : Sort::kData;
  }

  Status add(Sort sort, std::uint64_t address, std::uint32_t count, unsigned char* bytes,
             SendCounts& counts) {
    if (headers_.size() == kHeadersMax) CHECK_OK(flush());
    RecordHeader header;
    header.pid = pid_;
    header.pages = count;
    header.address = address;
    header.kind = sort == Sort::kZero ? Kind::kZero : Kind::kData;
    counts.pages += count;
    if (sort == Sort::kZero) {
      counts.zero_pages += count;
    } else {
      header.length = static_cast<std::uint32_t>(count * kPageBytes);
      header.hash = XXH3_64bits(bytes, header.length);
      counts.raw_bytes += header.length;
    }
    headers_.emplace_back();
    encode(header, headers_.back().bytes);
    parts_.push_back({headers_.back().bytes, kHeaderBytes});
    if (header.length > 0) parts_.push_back({bytes, header.length});
    counts.payload_bytes += kHeaderBytes + header.length;
    return {};
  }

  Status flush() {
    CHECK_OK(send_all(socket_, parts_));
    headers_.clear();
    return {};
  }

  struct Raw {
    unsigned char bytes[kHeaderBytes];
  };
  int socket_;
  std::uint32_t pid_;
  std::vector<unsigned char> pages_;
  std::vector<bool> read_;
  std::vector<Raw> headers_;
  std::vector<iovec> parts_;
};

}  // namespace

Result<SendCounts> PageSender::send(const PageJob& job, std::vector<PageRun>& unread) {
  SendCounts counts;
  PageReader reader(job.host_pid);
  Batch batch(socket_.get(), job.pid);
  std::vector<Piece> pieces;
  std::size_t gathered = 0;
  const auto send_gathered = [&]() -> Status {
    if (pieces.empty()) return {};
    SendCounts now;
    auto sent = batch.send(reader, pieces, now, unread);
    bytes_ += now.payload_bytes;
    counts += now;
    if (options_.on_sent) options_.on_sent(now);
    pieces.clear();
    gathered = 0;
    if (!sent && cancelled_) return fail(Errc::kCancelled, "cancelled");
    return sent;
  };
  for (const PageRun& run : job.runs) {
    std::uint64_t address = run.address;
    const std::uint64_t end = run.address + run.pages * kPageBytes;
    while (address < end) {
      const std::uint64_t chunk_end = (address / kChunkBytes + 1) * kChunkBytes;
      const std::uint64_t stop = std::min(end, chunk_end);
      if (shard_of(job.pid, address, options_.shards) != options_.shard) {
        address = stop;
        continue;
      }
      const auto pages = static_cast<std::uint32_t>(
          std::min<std::uint64_t>((stop - address) / kPageBytes, kBatchPages - gathered));
      pieces.push_back({address, pages});
      gathered += pages;
      address += pages * kPageBytes;
      if (gathered == kBatchPages) CHECK_OK(send_gathered());
    }
  }
  CHECK_OK(send_gathered());
  return counts;
}

Result<void> PageSender::flush() {
  RecordHeader mark;
  mark.kind = Kind::kMark;
  mark.pages = static_cast<std::uint32_t>(++sequence_);
  unsigned char bytes[kHeaderBytes];
  encode(mark, bytes);
  std::vector<iovec> parts{{bytes, sizeof bytes}};
  auto sent = send_all(socket_.get(), parts);
  if (!sent) {
    if (cancelled_) return fail(Errc::kCancelled, "cancelled");
    return sent;
  }
  bytes_ += kHeaderBytes;
  std::size_t have = 0;
  while (have < sizeof bytes) {
    const ssize_t n = ::recv(socket_.get(), bytes + have, sizeof bytes - have, 0);
    if (n < 0 && errno == EINTR) continue;
    if (cancelled_) return fail(Errc::kCancelled, "cancelled");
    if (n <= 0) return tl::unexpected<Error>(stream_error(n == 0 ? 0 : errno, "acknowledgement of pages from " + peer_of(socket_.get())));
    have += static_cast<std::size_t>(n);
  }
  TRY(const RecordHeader ack, decode(bytes));
  if (ack.kind != Kind::kAck || ack.pages != mark.pages) {
    return fail(Errc::kProtocol, "the target acknowledged something else than was asked");
  }
  return {};
}

namespace {

// Reads ahead, so that small records do not cost a system call each; large payloads go straight to
// where they belong.
class Input {
 public:
  explicit Input(int socket) : socket_(socket), buffer_(kSize) {}

  // False at an orderly end before the first byte.
  Result<bool> read(unsigned char* out, std::size_t size) {
    std::size_t have = std::min(size, end_ - begin_);
    std::memcpy(out, buffer_.data() + begin_, have);
    begin_ += have;
    const bool fresh = have == 0;
    while (have < size) {
      begin_ = end_ = 0;
      iovec parts[2] = {{out + have, size - have}, {buffer_.data(), buffer_.size()}};
      msghdr message{};
      message.msg_iov = parts;
      message.msg_iovlen = 2;
      const ssize_t n = ::recvmsg(socket_, &message, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n == 0 && fresh && have == 0) return false;
      if (n <= 0) return tl::unexpected<Error>(stream_error(n == 0 ? 0 : errno, "receive pages"));
      const auto got = static_cast<std::size_t>(n);
      const std::size_t wanted = std::min(got, size - have);
      have += wanted;
      end_ = got - wanted;
    }
    return true;
  }

 private:
  static constexpr std::size_t kSize = 128U << 10;
  int socket_;
  std::vector<unsigned char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace

Status PageReceiver::run() {
  Input input(socket_);
  bool orderly = true;  // nothing since the last Ack
  for (;;) {
    unsigned char bytes[kHeaderBytes];
    TRY(const bool more, input.read(bytes, sizeof bytes));
    if (!more) {
      if (orderly) return {};
      return fail(Errc::kUnavailable, "the page connection ended in the middle");
    }
    TRY(const RecordHeader header, decode(bytes));
    orderly = false;
    if (header.kind == Kind::kMark) {
      RecordHeader ack;
      ack.kind = Kind::kAck;
      ack.pages = header.pages;
      ack.address = store_->bytes();
      encode(ack, bytes);
      std::vector<iovec> parts{{bytes, sizeof bytes}};
      CHECK_OK(send_all(socket_, parts));
      orderly = true;
      continue;
    }
    const bool pages = header.kind == Kind::kData || header.kind == Kind::kZero;
    if (!pages || shard_of(header.pid, header.address, shards_) != shard_) {
      return fail(Errc::kProtocol, "a page record that does not belong on this connection");
    }
    if (header.kind == Kind::kZero) {
      CHECK_OK(store_->mark_zero(header.pid, header.address, header.pages));
      if (arrived_) arrived_({header.pid, header.pages, header.address}, nullptr);
      continue;
    }
    TRY(unsigned char* const place, store_->place(header.pid, header.address, header.pages));
    TRY(const bool complete, input.read(place, header.length));
    if (!complete) return tl::unexpected<Error>(stream_error(0, "receive pages"));
    if (XXH3_64bits(place, header.length) != header.hash) {
      return fail(Errc::kProtocol, "pages were damaged on the way (wrong hash)");
    }
    store_->mark_data(header.pid, header.address, header.pages);
    if (arrived_) arrived_({header.pid, header.pages, header.address}, place);
  }
}

Status send_request(int socket, const PageRequest& request) {
  RecordHeader header;
  header.kind = request.kind;
  header.pid = request.pages.pid;
  header.pages = request.pages.pages;
  header.address = request.pages.address;
  unsigned char bytes[kHeaderBytes];
  encode(header, bytes);
  std::vector<iovec> parts{{bytes, sizeof bytes}};
  return send_all(socket, parts);
}

Result<PageRequest> receive_request(int socket) {
  unsigned char bytes[kHeaderBytes];
  ssize_t n = 0;
  do {
    n = ::recv(socket, bytes, sizeof bytes, MSG_WAITALL);
  } while (n < 0 && errno == EINTR);
  if (n != static_cast<ssize_t>(sizeof bytes)) {
    return tl::unexpected<Error>(stream_error(n < 0 ? errno : 0, "wait for requests for pages"));
  }
  TRY(const RecordHeader header, decode(bytes));
  if (header.kind != Kind::kWant && header.kind != Kind::kLack && header.kind != Kind::kLackEnd) {
    return fail(Errc::kProtocol, "a page record where a request was due");
  }
  return PageRequest{header.kind, {header.pid, header.pages, header.address}};
}

}  // namespace lifeboat
