#include "migration/protocol.hpp"

#include <string>

#include "base/little_endian.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat::protocol {
namespace {

// The longest payload of a kind; nullopt-like 0 means the kind does not exist.
std::size_t limit_of(Kind kind) {
  switch (kind) {
    case Kind::kHello:
      return kHelloBytesMax;
    case Kind::kImageData:
    case Kind::kImagePages:
      return kDataHeaderBytes + kDataBytesMax;
    case Kind::kImageKnown:
      return kDataHeaderBytes + kDataBytesMax / kPageBytes * sizeof(std::uint32_t);
    case Kind::kFinalPages:
    case Kind::kHeldFrames:
    case Kind::kLayer:
      return kDataBytesMax;
    case Kind::kRequest:
    case Kind::kResponse:
    case Kind::kFailed:
    case Kind::kOffer:
    case Kind::kAccepted:
    case Kind::kImageOpen:
    case Kind::kImageEnd:
    case Kind::kStaged:
    case Kind::kCommit:
    case Kind::kRunning:
    case Kind::kPages:
    case Kind::kMemoryEnd:
    case Kind::kHeldEnd:
    case Kind::kLayerEnd:
    case Kind::kLayersTaken:
      return kJsonBytesMax;
    case Kind::kInvalid:
      return 0;
  }
  return 0;
}

}  // namespace

void encode(const Header& header, unsigned char (&out)[kHeaderBytes]) {
  put_le<std::uint32_t>(out, kMagic);
  put_le<std::uint16_t>(out + 4, static_cast<std::uint16_t>(header.kind));
  put_le<std::uint16_t>(out + 6, 0);
  put_le<std::uint32_t>(out + 8, header.length);
}

Result<Header> decode(const unsigned char (&in)[kHeaderBytes]) {
  if (get_le<std::uint32_t>(in) != kMagic) {
    return fail(Errc::kProtocol, "the peer does not speak Lifeboat's protocol (wrong magic)");
  }
  Header header;
  header.kind = static_cast<Kind>(get_le<std::uint16_t>(in + 4));
  header.length = get_le<std::uint32_t>(in + 8);
  const std::size_t limit = limit_of(header.kind);
  if (limit == 0 || get_le<std::uint16_t>(in + 6) != 0) {
    return fail(Errc::kProtocol, "unknown frame kind " +
                                     std::to_string(static_cast<unsigned>(header.kind)) +
                                     "; is the peer's Lifeboat newer than this one?");
  }
  if (header.length > limit) {
    return fail(Errc::kProtocol, "a " + std::string(to_string(header.kind)) + " frame of " +
                                     std::to_string(header.length) + " bytes; at most " +
                                     std::to_string(limit) + " are allowed");
  }
  return header;
}

void encode(const DataHeader& header, unsigned char* out) {
  put_le<std::uint32_t>(out, header.file);
  put_le<std::uint32_t>(out + 4, 0);
  put_le<std::uint64_t>(out + 8, header.offset);
  put_le<std::uint64_t>(out + 16, header.hash);
}

DataHeader decode_data(const unsigned char* in) {
  DataHeader header;
  header.file = get_le<std::uint32_t>(in);
  header.offset = get_le<std::uint64_t>(in + 8);
  header.hash = get_le<std::uint64_t>(in + 16);
  return header;
}

}  // namespace lifeboat::protocol
