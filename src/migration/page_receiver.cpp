#include <algorithm>
#include <array>
#include <cstring>

#include "base/little_endian.hpp"
#include "migration/codec.hpp"
#include "migration/page_stream.hpp"
#include "migration/page_wait.hpp"

namespace lifeboat {

using namespace page_stream;

// Reads ahead a little, so that small records do not cost a system call each; large payloads go
// straight to where they belong.
class PageReceiver::Input {
 public:
  explicit Input(PageSocket& socket) : socket_(&socket), buffer_(kSize) {}

  // False at an orderly end before the first byte.
  Result<bool> read(unsigned char* out, std::size_t size) {
    std::size_t have = std::min(size, end_ - begin_);
    std::memcpy(out, buffer_.data() + begin_, have);
    begin_ += have;
    const bool fresh = have == 0;
    while (have < size) {
      begin_ = end_ = 0;
      TRY(const std::size_t got, socket_->receive({out + have, size - have}, buffer_, kReceiving));
      if (got == 0 && fresh && have == 0) return false;
      if (got == 0) return ended();
      const std::size_t wanted = std::min(got, size - have);
      have += wanted;
      end_ = got - wanted;
    }
    return true;
  }

  // As above, but an end is an error.
  Status read_all(unsigned char* out, std::size_t size) {
    TRY(const bool complete, read(out, size));
    if (!complete) return ended();
    return {};
  }

 private:
  [[nodiscard]] tl::unexpected<Error> ended() const {
    return tl::unexpected<Error>(page_socket_error(socket_->fd(), 0, kReceiving));
  }

  static constexpr const char* kReceiving = "receive pages from";
  // What is read ahead of a large payload is copied once more.
  static constexpr std::size_t kSize = 16U << 10;
  PageSocket* socket_;
  std::vector<unsigned char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

struct PageReceiver::Record {
  RecordHeader header;
  unsigned char bytes[kHeaderBytes];
};

PageReceiver::PageReceiver(PageSocket& socket, PageStore& store, unsigned shard, unsigned shards,
                           Draining draining)
    : socket_(&socket),
      store_(&store),
      shard_(shard),
      shards_(shards),
      draining_(std::move(draining)),
      input_(std::make_unique<Input>(socket)),
      decompressor_(std::make_unique<Decompressor>()) {}

PageReceiver::~PageReceiver() = default;

namespace {

tl::unexpected<Error> damaged() {
  return fail(Errc::kProtocol, "pages were damaged on the way (wrong hash)");
}

}  // namespace

Status PageReceiver::run() {
  bool orderly = true;  // nothing since the last Ack
  for (;;) {
    Record record;
    TRY(const bool more, input_->read(record.bytes, sizeof record.bytes));
    if (!more) {
      if (orderly) return {};
      return fail(Errc::kUnavailable, "the page connection ended in the middle");
    }
    TRY(record.header, decode(record.bytes));
    orderly = record.header.kind == Kind::kMark;
    if (!orderly) {
      CHECK_OK(take_pages(record));
      continue;
    }
    if (!is_intact(record.bytes, 0)) return damaged();
    CHECK_OK(acknowledge(record.header.pages));
    if (draining_.acknowledged) draining_.acknowledged();
  }
}

Status PageReceiver::acknowledge(std::uint32_t sequence) {
  RecordHeader ack;
  ack.kind = Kind::kAck;
  ack.pages = sequence;
  ack.address = store_->bytes();
  unsigned char bytes[kHeaderBytes];
  encode(ack, 0, bytes);
  std::vector<iovec> parts{{bytes, sizeof bytes}};
  double waiting_s = 0;
  return socket_->send(parts, 0, waiting_s);
}

Status PageReceiver::take_pages(const Record& record) {
  const RecordHeader& header = record.header;
  const bool pages = header.kind == Kind::kData || header.kind == Kind::kCopy ||
                     header.kind == Kind::kZero;
  if (!pages || shard_of(header.pid, header.address, shards_) != shard_) {
    return fail(Errc::kProtocol, "a page record that does not belong on this connection");
  }
  if (draining_.has_begun && draining_.has_begun()) return take_late(record);
  if (header.kind == Kind::kZero) {
    if (!is_intact(record.bytes, 0)) return damaged();
    return store_->mark_zero(header.pid, header.address, header.pages);
  }
  TRY(unsigned char* const place, store_->place(header.pid, header.address, header.pages));
  if (header.kind == Kind::kCopy) {
    CHECK_OK(take_copies(record, place));
  } else {
    CHECK_OK(take_data(record, place));
  }
  store_->mark_data(header.pid, header.address, header.pages);
  return {};
}

Status PageReceiver::take_late(const Record& record) {
  const RecordHeader& header = record.header;
  const RemotePages pages{header.pid, header.pages, header.address};
  if (header.kind == Kind::kZero) {
    if (!is_intact(record.bytes, 0)) return damaged();
    draining_.arrived(pages, nullptr, nullptr);
    return {};
  }
  if (header.kind == Kind::kCopy) {
    return fail(Errc::kProtocol, "a page is said to be the same as one that has been given back");
  }
  TRY(unsigned char* const place, store_->place(header.pid, header.address, header.pages));
  late_.resize(kRunPagesMax * kPageBytes);
  CHECK_OK(take_data(record, late_.data()));
  draining_.arrived(pages, late_.data(), place);
  return {};
}

Status PageReceiver::take_data(const Record& record, unsigned char* place) {
  const RecordHeader& header = record.header;
  if (header.encoding != Encoding::kRaw) return take_packed(record, place);
  CHECK_OK(input_->read_all(place, header.length));
  if (!is_intact(record.bytes, content_hash(place, header.pages))) return damaged();
  return {};
}

Status PageReceiver::read_checked(const Record& record) {
  packed_.resize(kRunPagesMax * kPageBytes);
  CHECK_OK(input_->read_all(packed_.data(), record.header.length));
  if (!is_intact(record.bytes, hash_bytes(packed_.data(), record.header.length))) return damaged();
  return {};
}

Status PageReceiver::take_packed(const Record& record, unsigned char* place) {
  const RecordHeader& header = record.header;
  CHECK_OK(read_checked(record));
  const std::span<const unsigned char> packed(packed_.data() + kContentHashBytes,
                                              header.length - kContentHashBytes);
  CHECK_OK(decompressor_->unpack(header.encoding, packed,
                                 std::span(place, header.pages * kPageBytes)));
  if (content_hash(place, header.pages) != get_le<std::uint64_t>(packed_.data())) {
    return fail(Errc::kProtocol, "compressed pages are not what they were before (wrong hash)");
  }
  return {};
}

Status PageReceiver::take_copies(const Record& record, unsigned char* place) {
  const RecordHeader& header = record.header;
  CHECK_OK(read_checked(record));
  std::array<PageHash, kRunPagesMax> hashes;
  for (std::uint32_t i = 0; i < header.pages; ++i) {
    const PagePlace source =
        decode_place(packed_.data() + kContentHashBytes + i * kPlaceBytes);
    const unsigned char* const bytes = store_->find(source.pid, source.address);
    if (bytes == nullptr) {
      return fail(Errc::kProtocol, "a page is said to be the same as one that never came");
    }
    unsigned char* const out = place + i * kPageBytes;
    if (bytes != out) std::memcpy(out, bytes, kPageBytes);
    hashes[i] = hash_page(out);
  }
  const std::uint64_t content =
      content_hash(std::span<const PageHash>(hashes).first(header.pages));
  if (content != get_le<std::uint64_t>(packed_.data())) {
    return fail(Errc::kProtocol, "a page is not the same as the one that it is said to be (wrong hash)");
  }
  return {};
}

Status send_request(PageSocket& socket, const PageRequest& request) {
  RecordHeader header;
  header.kind = request.kind;
  header.pid = request.pages.pid;
  header.pages = request.pages.pages;
  header.address = request.pages.address;
  unsigned char bytes[kHeaderBytes];
  encode(header, 0, bytes);
  std::vector<iovec> parts{{bytes, sizeof bytes}};
  double waiting_s = 0;
  return socket.send(parts, 0, waiting_s);
}

Result<PageRequest> receive_request(PageSocket& socket) {
  unsigned char bytes[kHeaderBytes];
  CHECK_OK(socket.receive_all(bytes, "wait for requests for pages from"));
  TRY(const RecordHeader header, decode(bytes));
  if (header.kind != Kind::kWant && header.kind != Kind::kLack && header.kind != Kind::kLackEnd) {
    return fail(Errc::kProtocol, "a page record where a request was due");
  }
  if (!is_intact(bytes, 0)) return damaged();
  return PageRequest{header.kind, {header.pid, header.pages, header.address}};
}

}  // namespace lifeboat
