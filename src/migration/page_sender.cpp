#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "migration/codec.hpp"
#include "migration/duplicates.hpp"
#include "migration/page_reader.hpp"
#include "migration/page_stream.hpp"

namespace lifeboat {

using namespace page_stream;

namespace {

// Pages read by one system call, and sent by one: the largest that stays in a core's cache between
// reading, hashing and sending.
constexpr std::size_t kBatchBytes = 512U << 10;
constexpr std::size_t kBatchPages = kBatchBytes / kPageBytes;
// A record that does not shrink by this share goes as it is.
constexpr std::size_t kShrinkShare = 16;
// Fewer pages say nothing about compression.
constexpr std::uint32_t kTrialPagesMin = 4;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

SendCounts& SendCounts::operator+=(const SendCounts& more) {
  pages += more.pages;
  zero_pages += more.zero_pages;
  duplicate_pages += more.duplicate_pages;
  compressed_pages += more.compressed_pages;
  payload_bytes += more.payload_bytes;
  raw_bytes += more.raw_bytes;
  unread_pages += more.unread_pages;
  return *this;
}

// Reads pages, makes records of them and sends these by one system call each time.
class PageSender::Batch {
 public:
  Batch(PageSocket& socket, const Options& options)
      : socket_(&socket),
        timeout_s_(options.timeout_s),
        control_(options.compression),
        pages_(kBatchBytes),
        headers_(kBatchPages * kHeaderBytes) {
    if (!options.duplicates) duplicates_.end();
  }

  DuplicateIndex& duplicates() { return duplicates_; }
  CompressionControl& control() { return control_; }

  Status send(PageReader& reader, std::uint32_t pid, const std::vector<PagePiece>& pieces,
              SendCounts& counts, std::vector<PageRun>& unread) {
    const auto start = Clock::now();
    packing_s_ = 0;
    CHECK_OK(reader.read(pieces, pages_.data(), read_));
    std::size_t index = 0;
    for (const PagePiece& piece : pieces) {
      sort_pages(pid, piece, index);
      add_piece(pid, piece, index, counts, unread);
      index += piece.pages;
    }
    double waiting_s = 0;
    auto sent = socket_->send(parts_, timeout_s_, waiting_s);
    header_count_ = packed_used_ = 0;
    CompressionControl::Sent cost;
    cost.raw_bytes = (counts.pages - counts.zero_pages - counts.duplicate_pages) * kPageBytes;
    cost.wire_bytes = counts.payload_bytes;
    cost.seconds = seconds_since(start);
    cost.waiting_s = waiting_s;
    cost.packing_s = packing_s_;
    control_.sent(cost);
    return sent;
  }

 private:
  enum class Sort : unsigned char { kUnread, kZero, kData, kCopy };

  // What becomes of each page of a piece, in the order in which they are sent.
  void sort_pages(std::uint32_t pid, const PagePiece& piece, std::size_t index) {
    for (std::uint32_t i = 0; i < piece.pages; ++i) {
      const std::size_t page = index + i;
      const PagePlace place{pid, piece.address + i * kPageBytes};
      if (!read_[page]) {
        sorts_[page] = Sort::kUnread;  // the target keeps what it has
      } else if (is_zero_page(bytes_of(page))) {
        sorts_[page] = Sort::kZero;
        duplicates_.zero(place);
      } else {
        hashes_[page] = hash_page(bytes_of(page));
        const auto known = duplicates_.next(hashes_[page], place);
        sorts_[page] = known ? Sort::kCopy : Sort::kData;
        if (known) places_[page] = *known;
      }
    }
  }

  void add_piece(std::uint32_t pid, const PagePiece& piece, std::size_t index, SendCounts& counts,
                 std::vector<PageRun>& unread) {
    std::uint32_t at = 0;
    while (at < piece.pages) {
      const std::size_t first = index + at;
      RecordHeader header;
      header.pid = pid;
      header.address = piece.address + at * kPageBytes;
      header.pages = 1;
      while (at + header.pages < piece.pages && header.pages < kRunPagesMax &&
             sorts_[first + header.pages] == sorts_[first]) {
        ++header.pages;
      }
      at += header.pages;
      if (sorts_[first] == Sort::kUnread) {
        unread.push_back({header.address, header.pages});
        counts.unread_pages += header.pages;
        continue;
      }
      counts.pages += header.pages;
      counts.raw_bytes += header.pages * kPageBytes;
      switch (sorts_[first]) {
        case Sort::kZero:
          header.kind = Kind::kZero;
          counts.zero_pages += header.pages;
          add(header, 0, {}, counts);
          break;
        case Sort::kCopy: add_copies(header, first, counts); break;
        case Sort::kData:
        case Sort::kUnread: add_data(header, first, counts); break;
      }
    }
  }

  void add(RecordHeader header, std::uint64_t digest, std::span<unsigned char> follows,
           SendCounts& counts) {
    unsigned char* const bytes = headers_.data() + header_count_++ * kHeaderBytes;
    header.length = static_cast<std::uint32_t>(follows.size());
    encode(header, digest, bytes);
    parts_.push_back({bytes, kHeaderBytes});
    if (!follows.empty()) parts_.push_back({follows.data(), follows.size()});
    counts.payload_bytes += kHeaderBytes + follows.size();
  }

  void add_copies(RecordHeader header, std::size_t first, SendCounts& counts) {
    header.kind = Kind::kCopy;
    const std::span<unsigned char> follows =
        packed_room(kContentHashBytes + header.pages * kPlaceBytes);
    put_content_hash(follows, content(first, header.pages));
    for (std::uint32_t i = 0; i < header.pages; ++i) {
      encode(places_[first + i], follows.data() + kContentHashBytes + i * kPlaceBytes);
    }
    packed_used_ += follows.size();
    counts.duplicate_pages += header.pages;
    add(header, hash_bytes(follows.data(), follows.size()), follows, counts);
  }

  void add_data(RecordHeader header, std::size_t first, SendCounts& counts) {
    header.kind = Kind::kData;
    const std::uint64_t hash = content(first, header.pages);
    const std::span<unsigned char> pages(bytes_of(first), header.pages * kPageBytes);
    if (header.pages >= kTrialPagesMin && control_.take_trial()) try_encodings(pages);
    header.encoding = control_.encoding();
    if (header.encoding != Encoding::kRaw) {
      const std::span<unsigned char> room =
          packed_room(pages.size() - pages.size() / kShrinkShare);
      const std::size_t size = pack(header.encoding, pages, room.subspan(kContentHashBytes));
      if (size > 0) {
        const std::span<unsigned char> follows = room.first(kContentHashBytes + size);
        put_content_hash(follows, hash);
        packed_used_ += follows.size();
        counts.compressed_pages += header.pages;
        add(header, hash_bytes(follows.data(), follows.size()), follows, counts);
        return;
      }
      header.encoding = Encoding::kRaw;
    }
    add(header, hash, pages, counts);
  }

  // Each one's result is measured, and thrown away.
  void try_encodings(std::span<const unsigned char> pages) {
    pages = pages.first(std::min<std::size_t>(pages.size(), CompressionControl::kTrialBytes));
    for (const Encoding encoding : {Encoding::kLz4, Encoding::kZstd}) {
      if (encoding != control_.encoding()) {
        (void)pack(encoding, pages, packed_room(pages.size() - pages.size() / kShrinkShare));
      }
    }
  }

  std::size_t pack(Encoding encoding, std::span<const unsigned char> pages,
                   std::span<unsigned char> out) {
    const auto start = Clock::now();
    const std::size_t size = compressor_.pack(encoding, pages, out);
    const double seconds = seconds_since(start);
    packing_s_ += seconds;
    control_.packed(encoding, pages.size(), size > 0 ? size : pages.size(), seconds);
    return size;
  }

  // What is packed is smaller than its pages, so that a batch's worth is always enough.
  std::span<unsigned char> packed_room(std::size_t size) {
    if (packed_.empty()) packed_.resize(kBatchBytes);
    return std::span(packed_).subspan(packed_used_, size);
  }

  void put_content_hash(std::span<unsigned char> out, std::uint64_t hash) {
    for (std::size_t i = 0; i < kContentHashBytes; ++i) {
      out[i] = static_cast<unsigned char>(hash >> (8 * i));
    }
  }

  unsigned char* bytes_of(std::size_t page) { return pages_.data() + page * kPageBytes; }
  std::uint64_t content(std::size_t first, std::uint32_t pages) const {
    return content_hash(std::span<const PageHash>(hashes_).subspan(first, pages));
  }

  PageSocket* socket_;
  int timeout_s_;
  CompressionControl control_;
  DuplicateIndex duplicates_;
  Compressor compressor_;
  std::vector<unsigned char> pages_;
  std::vector<unsigned char> packed_;
  std::size_t packed_used_ = 0;
  std::vector<unsigned char> headers_;
  std::size_t header_count_ = 0;
  std::vector<bool> read_;
  std::array<Sort, kBatchPages> sorts_{};
  std::array<PageHash, kBatchPages> hashes_{};
  std::array<PagePlace, kBatchPages> places_{};
  std::vector<iovec> parts_;
  double packing_s_ = 0;
};

PageSender::PageSender(PageSocket socket, Options options)
    : socket_(std::move(socket)),
      options_(std::move(options)),
      batch_(std::make_unique<Batch>(socket_, options_)) {
  if (options_.counted_in) counted_.emplace(options_.counted_in, socket_.fd());
  socket_.set_receive_timeout(options_.timeout_s);
}

PageSender::~PageSender() = default;

void PageSender::end_duplicates() { batch_->duplicates().end(); }
void PageSender::hurry() { batch_->control().hurry(); }

void PageSender::cancel() {
  cancelled_ = true;
  socket_.shut_down(SHUT_RDWR);
}

void PageSender::limit(std::uint64_t bytes_per_s) {
  const std::uint64_t rate = bytes_per_s == 0 ? ~std::uint64_t{0} : bytes_per_s;
  (void)::setsockopt(socket_.fd(), SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
  limit_ = bytes_per_s;
}

Result<SendCounts> PageSender::send(const PageJob& job, std::vector<PageRun>& unread) {
  PageSupply supply;
  supply.host_pid = job.host_pid;
  supply.pid = job.pid;
  supply.next = [runs = job.runs]() mutable -> Result<std::span<const PageRun>> {
    return std::exchange(runs, {});
  };
  return send(supply, unread);
}

Result<SendCounts> PageSender::send(const PageSupply& supply, std::vector<PageRun>& unread) {
  SendCounts counts;
  PageReader reader(supply.host_pid);
  std::vector<PagePiece> pieces;
  std::size_t gathered = 0;
  const auto send_gathered = [&]() -> Status {
    if (pieces.empty()) return {};
    batch_->control().limited(limit_);
    SendCounts now;
    auto sent = batch_->send(reader, supply.pid, pieces, now, unread);
    bytes_ += now.payload_bytes;
    counts += now;
    if (options_.on_sent) options_.on_sent(now);
    pieces.clear();
    gathered = 0;
    if (!sent && cancelled_) return fail(Errc::kCancelled, "cancelled");
    return sent;
  };
  const auto gather = [&](const PageRun& run) -> Status {
    std::uint64_t address = run.address;
    const std::uint64_t end = run.end();
    while (address < end) {
      const std::uint64_t chunk_end = (address / kChunkBytes + 1) * kChunkBytes;
      const std::uint64_t stop = std::min(end, chunk_end);
      if (shard_of(supply.pid, address, options_.shards) != options_.shard) {
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
    return {};
  };
  for (;;) {
    TRY(const std::span<const PageRun> runs, supply.next());
    if (runs.empty()) break;
    for (const PageRun& run : runs) CHECK_OK(gather(run));
  }
  CHECK_OK(send_gathered());
  return counts;
}

Result<void> PageSender::flush() {
  RecordHeader mark;
  mark.kind = Kind::kMark;
  mark.pages = static_cast<std::uint32_t>(++sequence_);
  unsigned char bytes[kHeaderBytes];
  encode(mark, 0, bytes);
  std::vector<iovec> parts{{bytes, sizeof bytes}};
  double waiting_s = 0;
  auto sent = socket_.send(parts, options_.timeout_s, waiting_s);
  if (!sent) {
    if (cancelled_) return fail(Errc::kCancelled, "cancelled");
    return sent;
  }
  bytes_ += kHeaderBytes;
  const Status received = socket_.receive_all(bytes, "acknowledgement of pages from");
  if (cancelled_) return fail(Errc::kCancelled, "cancelled");
  CHECK_OK(received);
  TRY(const RecordHeader ack, decode(bytes));
  if (ack.kind != Kind::kAck || ack.pages != mark.pages || !is_intact(bytes, 0)) {
    return fail(Errc::kProtocol, "the target acknowledged something else than was asked");
  }
  batch_->control().passed();
  return {};
}

}  // namespace lifeboat
