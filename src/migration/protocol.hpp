// protocol.hpp - what daemons say to each other, over TCP and TLS on a fabric (link.hpp).
//
// Every connection starts with Hello from the caller and Hello back; then either requests, or one
// migration.
//
//   caller                                   callee
//   Hello {cluster,node,version}        ->
//                                       <-   Hello | Failed
//   Request {method, params}            ->                                any number of these
//                                       <-   Response {result} | Failed
//
//   source                                   target
//   Offer {migration, container, needs} ->   preflight; room, cgroup, namespaces prepared
//                                       <-   Accepted | Failed {step}
//     [with pages: for each page connection, on a connection of its own, after the Hellos]
//     Pages {migration, shard, shards,  ->   given to the pager
//            encrypted}
//                                       <-   Response {} | Failed; then page_stream.hpp, in a TLS
//                                            session of its own if encrypted (page_socket.hpp)
//     [with pages, once or more]
//     ImagePages ...                    ->   pages that the images will hold, numbered from 0 on; kept
//     [with a writable layer, once or more, the last time while the container is frozen]
//     Layer ..., LayerEnd {last}        ->   written to the layer's directory
//     [rounds of pre-copy on the page connections; from here on the container is frozen]
//     FinalPages ... (FinalPage[])      ->   every page there is
//     MemoryEnd {pages, hash}           ->   the pager checks that it has them all
//   ImageOpen, ImageData, ImageKnown ... ->  written to memory; hashes checked
//   HeldFrames ...                      ->   kept, for the container (hold.hpp)
//   ImageEnd {files, sizes, right}      ->   restored, held before its first instruction
//                                       <-   Staged {timings} | Failed {step, renounced}
//   HeldFrames ...                      ->   kept as well
//   Commit                              ->   the owner's record is swapped: the target's from here on;
//                                            plugged in, announced, resumed
//                                       <-   Running {timings} | Failed {step, renounced}
//   HeldFrames ... HeldEnd              ->   delivered
//                                       <-   Response {delivered}
//
// Before it sends ImageEnd the source may break off at any time by closing the connection: the target
// then removes all it built. With ImageEnd it gives away the right to commit, and stays frozen until it
// knows the outcome, from the registry or by the request `migration.outcome`; see registry/decision.hpp.
//
// A frame is a header of 12 bytes (little endian: magic, kind, reserved 0, length) and a payload:
// JSON text, for ImageData and ImagePages a DataHeader and bytes, for ImageKnown a DataHeader and numbers of
// pages (u32), for HeldFrames as HeldFrames::encode() makes it, for
// FinalPages entries as they are in memory (all nodes have the same byte order: the preflight compares machines). Kind 0 is never valid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.hpp"

namespace lifeboat::protocol {

inline constexpr std::uint32_t kMagic = 0x3154424c;  // "LBT1"
inline constexpr unsigned kVersion = 7;

enum class Kind : std::uint16_t {
  kInvalid = 0,
  kHello = 1,
  kRequest = 2,
  kResponse = 3,
  kFailed = 4,  // {code, step, message}: the end of this exchange
  kOffer = 16,
  kAccepted = 17,
  kImageOpen = 18,  // {file, name}: numbers a file for ImageData
  kImageData = 19,
  kImageEnd = 20,
  kStaged = 21,
  kCommit = 22,
  kRunning = 23,
  kPages = 24,       // {migration, shard, shards, encrypted}: this connection carries pages
  kFinalPages = 25,
  kMemoryEnd = 26,  // {pages, hash}
  kHeldFrames = 27,  // what arrived for the frozen container; see hold.hpp
  kHeldEnd = 28,
  kImagePages = 29,  // its offset: the number of the first
  kImageKnown = 30,  // image bytes that consist of such pages; its hash is of these bytes
  kLayer = 40,      // records of layer.hpp
  kLayerEnd = 41,   // {layer, pass}: the end of a pass over one of them
  kLayersTaken = 42,  // the target has written what a pass brought while the container ran
};

[[nodiscard]] constexpr std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::kInvalid:
      return "Invalid";
    case Kind::kHello:
      return "Hello";
    case Kind::kRequest:
      return "Request";
    case Kind::kResponse:
      return "Response";
    case Kind::kFailed:
      return "Failed";
    case Kind::kOffer:
      return "Offer";
    case Kind::kAccepted:
      return "Accepted";
    case Kind::kImageOpen:
      return "ImageOpen";
    case Kind::kImageData:
      return "ImageData";
    case Kind::kImageEnd:
      return "ImageEnd";
    case Kind::kStaged:
      return "Staged";
    case Kind::kCommit:
      return "Commit";
    case Kind::kRunning:
      return "Running";
    case Kind::kPages:
      return "Pages";
    case Kind::kFinalPages:
      return "FinalPages";
    case Kind::kMemoryEnd:
      return "MemoryEnd";
    case Kind::kHeldFrames:
      return "HeldFrames";
    case Kind::kHeldEnd:
      return "HeldEnd";
    case Kind::kImagePages:
      return "ImagePages";
    case Kind::kImageKnown:
      return "ImageKnown";
    case Kind::kLayer:
      return "Layer";
    case Kind::kLayerEnd:
      return "LayerEnd";
    case Kind::kLayersTaken:
      return "LayersTaken";
  }
  return "unknown";
}

inline constexpr std::size_t kHeaderBytes = 12;
inline constexpr std::size_t kDataHeaderBytes = 24;
inline constexpr std::size_t kDataBytesMax = 512 * 1024;  // image bytes in one ImageData frame
inline constexpr std::size_t kJsonBytesMax = 1024 * 1024;
// Before a Hello has been accepted nothing larger is read.
inline constexpr std::size_t kHelloBytesMax = 4096;

struct Header {
  Kind kind = Kind::kInvalid;
  std::uint32_t length = 0;
};

struct DataHeader {
  std::uint32_t file = 0;    // number given by ImageOpen
  std::uint64_t offset = 0;  // where in the file the bytes go
  std::uint64_t hash = 0;    // XXH3-64 of the bytes
};

void encode(const Header& header, unsigned char (&out)[kHeaderBytes]);
// kProtocol when the magic, kind, reserved bits or length (limits above) are wrong.
Result<Header> decode(const unsigned char (&in)[kHeaderBytes]);

void encode(const DataHeader& header, unsigned char* out);
DataHeader decode_data(const unsigned char* in);

}  // namespace lifeboat::protocol
