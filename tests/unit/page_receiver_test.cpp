// A receiver against peers that are wrong in every way that can be made by chance: it never crashes,
// never hangs, never holds more than it may, and never takes pages that are not as they were sent.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "base/little_endian.hpp"
#include "migration/codec.hpp"
#include "migration/page_stream.hpp"

namespace lifeboat {
namespace {

using namespace page_stream;

constexpr std::uint32_t kPid = 5;
constexpr std::uint64_t kStart = 3 * kChunkBytes;
constexpr std::uint64_t kPages = 2 * kChunkPages;
constexpr std::uint64_t kBudget = 700 * kPageBytes;

// Writes streams of records as a right sender would, and knows what the target must hold after them.
class Writer {
 public:
  explicit Writer(std::uint64_t seed) : random_(seed) {}

  std::vector<unsigned char> bytes;
  std::vector<std::size_t> records;              // where each begins
  std::map<std::uint64_t, unsigned char> pages;  // by index: what fills it, 0: zeros

  void random_record() {
    const std::uint64_t first = random_() % kPages;
    const auto room = static_cast<std::uint32_t>(kChunkPages - first % kChunkPages);
    const auto count = static_cast<std::uint32_t>(1 + random_() % std::min<std::uint32_t>(room, 20));
    switch (random_() % 6) {
      case 0: zero(first, count); break;
      case 1: mark(); break;
      case 2: copy(first, count); break;
      case 3: data(first, count, Encoding::kLz4); break;
      case 4: data(first, count, Encoding::kZstd); break;
      default: data(first, count, Encoding::kRaw); break;
    }
  }
  void data(std::uint64_t first, std::uint32_t count, Encoding encoding) {
    std::vector<unsigned char> raw;
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto fill = static_cast<unsigned char>(1 + random_() % 255);
      raw.insert(raw.end(), kPageBytes, fill);
      pages[first + i] = fill;
    }
    const std::uint64_t content = content_hash(raw.data(), count);
    if (encoding == Encoding::kRaw) {
      add(header(Kind::kData, first, count), content, raw);
      return;
    }
    std::vector<unsigned char> packed(raw.size());
    packed.resize(compressor_.pack(encoding, raw, packed));
    RecordHeader record = header(Kind::kData, first, count);
    record.encoding = encoding;
    add_hashed(record, content, packed);
  }
  void zero(std::uint64_t first, std::uint32_t count) {
    add(header(Kind::kZero, first, count), 0, {});
    for (std::uint32_t i = 0; i < count; ++i) pages[first + i] = 0;
  }
  void mark() {
    RecordHeader record;
    record.kind = Kind::kMark;
    add(record, 0, {});
  }
  // Of pages that were there before the record; nothing if there were none.
  void copy(std::uint64_t first, std::uint32_t count) {
    std::vector<unsigned char> places;
    std::array<PageHash, 32> hashes;
    const std::map<std::uint64_t, unsigned char> before = pages;
    for (std::uint32_t i = 0; i < count; ++i) {
      auto was = before.lower_bound(random_() % kPages);
      const auto holds_data = [&] {
        while (was != before.end() && was->second == 0) ++was;
        return was != before.end();
      };
      if (!holds_data()) was = before.begin();
      if (!holds_data()) {
        count = i;
        break;
      }
      const auto at = pages.find(was->first);  // what the record itself has put there by then
      unsigned char place[kPlaceBytes];
      encode(PagePlace{kPid, kStart + at->first * kPageBytes}, place);
      places.insert(places.end(), place, place + sizeof place);
      const std::vector<unsigned char> page(kPageBytes, at->second);
      hashes[i] = hash_page(page.data());
      pages[first + i] = at->second;
    }
    if (count == 0) return;
    add_hashed(header(Kind::kCopy, first, count),
               content_hash(std::span<const PageHash>(hashes).first(count)), places);
  }
  void add_hashed(RecordHeader record, std::uint64_t content, const std::vector<unsigned char>& rest) {
    std::vector<unsigned char> follows(kContentHashBytes);
    put_le<std::uint64_t>(follows.data(), content);
    follows.insert(follows.end(), rest.begin(), rest.end());
    add(record, hash_bytes(follows.data(), follows.size()), follows);
  }
  void add(RecordHeader record, std::uint64_t digest, const std::vector<unsigned char>& follows) {
    record.length = static_cast<std::uint32_t>(follows.size());
    unsigned char head[kHeaderBytes];
    encode(record, digest, head);
    records.push_back(bytes.size());
    bytes.insert(bytes.end(), head, head + sizeof head);
    bytes.insert(bytes.end(), follows.begin(), follows.end());
  }
  static RecordHeader header(Kind kind, std::uint64_t first, std::uint32_t count) {
    RecordHeader record;
    record.kind = kind;
    record.pid = kPid;
    record.pages = count;
    record.address = kStart + first * kPageBytes;
    return record;
  }

 private:
  std::mt19937_64 random_;
  Compressor compressor_;
};

class PageReceiverTest : public ::testing::Test {
 protected:
  // A receiver that hangs fails the test by its own timeout: the peer closes after the last byte.
  Status receive(const std::vector<unsigned char>& bytes, const PageReceiver::Draining& draining = {}) {
    store_ = std::make_unique<PageStore>(std::make_shared<PageBudget>(kBudget));
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    Fd ours(pair[0]);
    PageSocket theirs{Fd(pair[1])};
    Status result;
    {
      std::jthread receiving([&] {
        result = PageReceiver(theirs, *store_, 0, 1, draining).run();
        theirs = PageSocket();
      });
      std::jthread acknowledged([socket = ours.get()] {
        char ignored[4096];
        while (::read(socket, ignored, sizeof ignored) > 0) {
        }
      });
      std::size_t at = 0;
      while (at < bytes.size()) {
        const ssize_t n = ::send(ours.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
        if (n <= 0) break;
        at += static_cast<std::size_t>(n);
      }
      (void)::shutdown(ours.get(), SHUT_WR);
    }
    EXPECT_LE(store_->bytes(), kBudget + kRunPagesMax * kPageBytes);
    return result;
  }
  void expect_holds(const Writer& writer) {
    for (const auto& [page, fill] : writer.pages) {
      const unsigned char* const found = store_->find(kPid, kStart + page * kPageBytes);
      if (fill == 0) {
        EXPECT_EQ(found, nullptr) << page;
        continue;
      }
      ASSERT_NE(found, nullptr) << page;
      const std::vector<unsigned char> expected(kPageBytes, fill);
      EXPECT_EQ(std::memcmp(found, expected.data(), kPageBytes), 0) << page;
    }
  }
  void expect_protocol_error(const Writer& writer, const char* text) {
    const auto result = receive(writer.bytes);
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_EQ(result.error().code, Errc::kProtocol) << result.error().message;
    EXPECT_NE(result.error().message.find(text), std::string::npos) << result.error().message;
  }

  std::unique_ptr<PageStore> store_;
};

TEST_F(PageReceiverTest, RightStreamsAreTaken) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Writer writer(seed);
    for (int i = 0; i < 40; ++i) writer.random_record();
    writer.mark();
    const auto result = receive(writer.bytes);
    ASSERT_TRUE(result.has_value()) << seed << ": " << result.error().message;
    expect_holds(writer);
  }
}

// Every byte of a record counts: with any of them changed nothing of it is taken.
// What comes then is told, and goes to the store only by whoever is told: it may be giving back the
// memory of a page that comes a second time.
TEST_F(PageReceiverTest, WhileDrainingTheStoreIsNotTouched) {
  Writer writer(5);
  for (const Encoding encoding : {Encoding::kRaw, Encoding::kLz4, Encoding::kRaw}) {
    writer.data(3, 4, encoding);
  }
  writer.zero(9, 2);
  writer.mark();
  std::vector<std::uint32_t> told;
  std::map<std::uint64_t, unsigned char> seen;
  bool in_store = true;
  PageReceiver::Draining draining;
  draining.has_begun = [] { return true; };
  draining.arrived = [&](const RemotePages& pages, const unsigned char* bytes, unsigned char* place) {
    told.push_back(pages.pages);
    for (std::uint32_t i = 0; bytes != nullptr && i < pages.pages; ++i) {
      seen[(pages.address - kStart) / kPageBytes + i] = bytes[i * kPageBytes];
      in_store = in_store && place[i * kPageBytes] != 0;
    }
    EXPECT_EQ(place == nullptr, bytes == nullptr);
  };
  const Status result = receive(writer.bytes, draining);
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(told, (std::vector<std::uint32_t>{4, 4, 4, 2}));
  for (std::uint64_t page = 3; page < 7; ++page) EXPECT_EQ(seen[page], writer.pages[page]) << page;
  EXPECT_FALSE(in_store);
  EXPECT_EQ(store_->bytes(), 0u);

  writer.copy(1, 1);
  EXPECT_FALSE(receive(writer.bytes, draining).has_value()) << "there is nothing to copy from";
}

TEST_F(PageReceiverTest, DamageIsSeenWhereverItIs) {
  std::mt19937_64 random(1);
  for (std::uint64_t trial = 0; trial < 300; ++trial) {
    Writer writer(trial);
    for (int i = 0; i < 4; ++i) writer.random_record();
    writer.mark();
    const std::size_t at = random() % writer.bytes.size();
    writer.bytes[at] = static_cast<unsigned char>(writer.bytes[at] ^ (1U << (random() % 8)));
    EXPECT_FALSE(receive(writer.bytes).has_value()) << trial;
  }
}

// Values changed by someone who makes the hash right again: limits alone protect the target.
TEST_F(PageReceiverTest, WrongValuesWithRightHashes) {
  std::mt19937_64 random(2);
  for (std::uint64_t trial = 0; trial < 1500; ++trial) {
    Writer writer(trial);
    for (int i = 0; i < 6; ++i) writer.random_record();
    writer.mark();
    for (unsigned n = 0; n < 1 + trial % 3; ++n) {
      unsigned char* const head = writer.bytes.data() + writer.records[random() % writer.records.size()];
      const std::size_t left = static_cast<std::size_t>(writer.bytes.data() + writer.bytes.size() - head);
      const std::size_t length = std::min<std::size_t>(get_le<std::uint32_t>(head + 24), left - kHeaderBytes);
      const bool raw = get_le<std::uint16_t>(head + 4) == 1 && get_le<std::uint16_t>(head + 6) == 0;
      if (length > kContentHashBytes && random() % 2 == 0) {
        // What is packed, or the places of copies.
        head[kHeaderBytes + random() % length] = static_cast<unsigned char>(random());
      } else {
        constexpr std::size_t kFieldsAt[] = {4, 6, 8, 12, 13, 16, 18, 24, 25};
        head[kFieldsAt[random() % std::size(kFieldsAt)]] = static_cast<unsigned char>(random());
      }
      const auto header = decode(head);
      if (!header) continue;
      const auto whole = static_cast<std::uint32_t>(length / kPageBytes);
      const std::uint64_t digest = length == 0 ? 0
                                   : raw       ? content_hash(head + kHeaderBytes, whole)
                                               : hash_bytes(head + kHeaderBytes, length);
      encode(*header, digest, head);
    }
    (void)receive(writer.bytes);  // right or wrong: it ends, within its bounds
  }
}

TEST_F(PageReceiverTest, CutOffStreamsAreNoSuccess) {
  std::mt19937_64 random(3);
  for (std::uint64_t trial = 0; trial < 100; ++trial) {
    Writer writer(trial);
    for (int i = 0; i < 4; ++i) writer.random_record();
    writer.zero(1, 1);
    writer.bytes.resize(1 + random() % writer.bytes.size());
    const auto result = receive(writer.bytes);
    // Unless it was cut right after a Mark.
    if (!result) continue;
    ASSERT_GE(writer.bytes.size(), kHeaderBytes);
    const auto last = decode(&writer.bytes[writer.bytes.size() - kHeaderBytes]);
    ASSERT_TRUE(last.has_value());
    EXPECT_EQ(last->kind, Kind::kMark);
  }
}

TEST_F(PageReceiverTest, MoreThanTheBudgetIsRefused) {
  Writer writer(1);
  for (std::uint64_t page = 0; page < kPages; page += 32) writer.data(page, 32, Encoding::kZstd);
  const auto result = receive(writer.bytes);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::kRefused);
  Writer copies(2);
  copies.data(0, 1, Encoding::kRaw);
  for (std::uint64_t page = 1; page + 16 < kPages; page += 16) {
    if (page / kChunkPages == (page + 15) / kChunkPages) copies.copy(page, 16);
  }
  const auto copied = receive(copies.bytes);
  ASSERT_FALSE(copied.has_value());
  EXPECT_EQ(copied.error().code, Errc::kRefused) << copied.error().message;
}

TEST_F(PageReceiverTest, ACopyNeedsItsOriginal) {
  const std::vector<unsigned char> page(kPageBytes, 7);
  const PageHash hash = hash_page(page.data());
  std::vector<unsigned char> place(kPlaceBytes);
  encode(PagePlace{kPid, kStart}, place.data());
  const std::uint64_t content = content_hash(std::span(&hash, 1));
  Writer never(1);
  never.add_hashed(Writer::header(Kind::kCopy, 5, 1), content, place);
  expect_protocol_error(never, "never came");
  Writer zeroed(1);
  zeroed.data(0, 1, Encoding::kRaw);
  zeroed.zero(0, 1);
  zeroed.add_hashed(Writer::header(Kind::kCopy, 5, 1), content, place);
  expect_protocol_error(zeroed, "never came");
  Writer other(1);
  other.data(0, 1, Encoding::kRaw);
  other.add_hashed(Writer::header(Kind::kCopy, 5, 1), content + 1, place);
  expect_protocol_error(other, "not the same");
}

TEST_F(PageReceiverTest, WhatUnpacksWronglyIsRefused) {
  Compressor compressor;
  const std::vector<unsigned char> raw(4 * kPageBytes, 9);
  for (const Encoding encoding : {Encoding::kLz4, Encoding::kZstd}) {
    std::vector<unsigned char> packed(raw.size());
    packed.resize(compressor.pack(encoding, raw, packed));
    RecordHeader header = Writer::header(Kind::kData, 0, 5);  // four pages were packed
    header.encoding = encoding;
    Writer less(1);
    less.add_hashed(header, content_hash(raw.data(), 4), packed);
    expect_protocol_error(less, "cannot be decompressed");
    header.pages = 3;
    Writer more(1);
    more.add_hashed(header, content_hash(raw.data(), 3), packed);
    expect_protocol_error(more, "cannot be decompressed");
    header.pages = 4;
    Writer wrong(1);
    wrong.add_hashed(header, content_hash(raw.data(), 4) + 1, packed);
    expect_protocol_error(wrong, "wrong hash");
    EXPECT_EQ(store_->bytes(), 0U);
  }
}

}  // namespace
}  // namespace lifeboat
