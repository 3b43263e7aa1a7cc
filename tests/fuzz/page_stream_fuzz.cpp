// Pages as a source sends them: bytes of any kind, and records whose hashes are right but whose
// contents are the source's own. The store keeps within its budget and holds what was sent last.
#include "migration/page_stream.hpp"

#include <sys/socket.h>

#include <cstring>
#include <thread>

#include "base/little_endian.hpp"
#include "fuzz.hpp"

namespace {

using namespace lifeboat;
using namespace lifeboat::page_stream;

constexpr std::uint64_t kBudget = 64 * kPageBytes;
constexpr std::uint64_t kBase = 0x7f0000000000;

// A record as a source would make it, its pages all of one byte.
void append_record(FuzzedDataProvider& input, std::vector<unsigned char>& out) {
  RecordHeader header;
  header.kind =
      input.PickValueInArray({Kind::kData, Kind::kZero, Kind::kMark, Kind::kCopy, Kind::kWant});
  header.encoding =
      input.PickValueInArray({Encoding::kRaw, Encoding::kRaw, Encoding::kLz4, Encoding::kZstd});
  header.pid = input.ConsumeIntegralInRange<std::uint32_t>(0, 3);
  header.pages = input.ConsumeIntegralInRange<std::uint32_t>(0, 4);
  header.address = kBase + input.ConsumeIntegralInRange<std::uint32_t>(0, 600) * kPageBytes;
  std::vector<unsigned char> body;
  if (header.kind == Kind::kData && header.encoding == Encoding::kRaw) {
    body.assign(header.pages * kPageBytes, input.ConsumeIntegral<unsigned char>());
  } else if (header.kind == Kind::kCopy) {
    body.resize(kContentHashBytes + header.pages * kPlaceBytes);
    for (std::uint32_t i = 0; i < header.pages; ++i) {
      PagePlace place;
      place.pid = input.ConsumeIntegralInRange<std::uint32_t>(0, 3);
      place.address = kBase + input.ConsumeIntegralInRange<std::uint32_t>(0, 600) * kPageBytes;
      encode(place, body.data() + kContentHashBytes + i * kPlaceBytes);
    }
    // Of pages of one byte: right when that is what the store holds there.
    const std::vector<unsigned char> pages(header.pages * kPageBytes,
                                           input.ConsumeIntegral<unsigned char>());
    put_le<std::uint64_t>(body.data(), content_hash(pages.data(), header.pages));
  } else if (header.kind == Kind::kData) {
    body = input.ConsumeBytes<unsigned char>(input.ConsumeIntegralInRange<std::size_t>(0, 300));
  }
  header.length = static_cast<std::uint32_t>(body.size());
  if (input.ConsumeIntegralInRange(0, 30) == 0)
    header.length ^= input.ConsumeIntegral<std::uint32_t>();
  const bool raw = header.kind == Kind::kData && header.encoding == Encoding::kRaw;
  const std::uint64_t digest = body.empty() ? 0
                               : raw        ? content_hash(body.data(), header.pages)
                                            : hash_bytes(body.data(), body.size());
  const std::size_t at = out.size();
  out.resize(at + kHeaderBytes);
  encode(header, digest, out.data() + at);
  out.insert(out.end(), body.begin(), body.end());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  const unsigned shards = input.ConsumeIntegralInRange(1U, 2U);
  const bool draining = input.ConsumeBool();
  const bool requests = input.ConsumeIntegralInRange(0, 7) == 0;
  std::vector<unsigned char> stream;
  if (input.ConsumeBool()) {
    while (input.remaining_bytes() > 0 && stream.size() < (96U << 10)) append_record(input, stream);
  } else {
    stream = input.ConsumeRemainingBytes<unsigned char>();
    stream.resize(std::min<std::size_t>(stream.size(), 4096));
  }
  int ends[2];
  fuzz::require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "a socket pair");
  PageSocket ours{Fd(ends[1])};
  Fd peer(ends[0]);
  (void)::send(peer.get(), stream.data(), stream.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(peer.get(), SHUT_WR);
  if (requests) {
    for (;;) {
      const auto request = receive_request(ours);
      fuzz::require_good(request);
      if (!request) return 0;
    }
  }
  const auto budget = std::make_shared<PageBudget>(kBudget);
  PageStore store(budget);
  PageReceiver::Draining drain;
  if (draining) {
    drain.has_begun = [] { return true; };
    drain.arrived = [](const RemotePages& pages, const unsigned char*, unsigned char*) {
      fuzz::require(pages.pages > 0, "pages arrive");
    };
  }
  fuzz::require_good(PageReceiver(ours, store, 0, shards, drain).run());
  fuzz::require(store.bytes() <= kBudget + kRunPagesMax * kPageBytes,
                "the store keeps within its budget");
  std::uint64_t bytes = 0;
  for (const auto& [key, chunk] : store.chunks()) {
    fuzz::require((chunk.data & chunk.zero).none(), "a page is data or zeros");
    fuzz::require(shard_of(key.first, key.second, shards) == 0,
                  "pages came over their own connection");
    bytes += chunk.data.count() * kPageBytes;
  }
  fuzz::require(bytes == store.bytes(), "what is said to be stored is");
  return 0;
}
