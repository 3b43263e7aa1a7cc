#include "migration/receive.hpp"

#include <sys/mman.h>

#include <map>
#include <span>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/little_endian.hpp"
#include "criu_glue/images.hpp"
#include "migration/known_pages.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

// A frame of a kind with a DataHeader.
struct DataFrame {
  protocol::DataHeader header;
  std::span<const unsigned char> bytes;
};

Result<DataFrame> data_of(const Frame& frame) {
  if (frame.payload.size() < protocol::kDataHeaderBytes) {
    return fail(Errc::kProtocol, "a frame of image data without its header");
  }
  const std::span<const unsigned char> payload = frame.payload;
  return DataFrame{protocol::decode_data(payload.data()), payload.subspan(protocol::kDataHeaderBytes)};
}

Status check_hash(const protocol::DataHeader& header, std::span<const unsigned char> bytes) {
  if (hash_matches(header, bytes.data(), bytes.size())) return {};
  return fail(Errc::kProtocol, "image data was damaged on the way (hash of a chunk is wrong)");
}

Status store(ImageWriter& writer, const protocol::DataHeader& header, std::span<const unsigned char> bytes) {
  CHECK_OK(check_hash(header, bytes));
  ImageChunk chunk;
  chunk.file = header.file;
  chunk.offset = header.offset;
  chunk.size = bytes.size();
  return writer.write(chunk, bytes.data());
}

// ImagePages, ImageData, ImageKnown.
Status take_data(const Frame& frame, PageShelf& shelf, ImageWriter& writer) {
  TRY(const DataFrame data, data_of(frame));
  if (frame.kind == Kind::kImageData) return store(writer, data.header, data.bytes);
  if (frame.kind == Kind::kImagePages) {
    CHECK_OK(check_hash(data.header, data.bytes));
    return shelf.append(data.header.offset, data.bytes.data(), data.bytes.size());
  }
  constexpr std::size_t kNumberBytes = sizeof(std::uint32_t);
  std::vector<unsigned char> bytes(data.bytes.size() / kNumberBytes * kPageBytes);
  for (std::size_t at = 0; at < bytes.size(); at += kPageBytes) {
    const unsigned char* const number = data.bytes.data() + at / kPageBytes * kNumberBytes;
    CHECK_OK(shelf.copy(get_le<std::uint32_t>(number), bytes.data() + at));
  }
  return store(writer, data.header, bytes);
}

Status check_complete(ImageWriter& writer, const json::object& end) {
  TRY(const json::object* files, get_object(end, "files"));
  std::map<std::string, std::uint64_t> sizes;
  for (const auto& item : *files) {
    boost::system::error_code bad;
    sizes[std::string(item.key())] = item.value().to_number<std::uint64_t>(bad);
    if (bad) return fail(Errc::kProtocol, "ImageEnd: a size is not a number");
  }
  return writer.complete(sizes);
}

// Collects FinalPages frames.
class FinalList {
 public:
  Status append(const std::vector<unsigned char>& bytes, std::uint64_t bytes_max) {
    if (!fd_) {
      fd_ = Fd(::memfd_create("lifeboat-final", MFD_CLOEXEC));
      if (!fd_) return fail_errno("memfd for the list of pages");
      XXH3_64bits_reset(&hash_);
    }
    // An entry is at least one page.
    bytes_ += bytes.size();
    if (bytes_ > bytes_max / kPageBytes * sizeof(FinalPage)) {
      return fail(Errc::kProtocol, "the list of pages is longer than the memory that was announced");
    }
    XXH3_64bits_update(&hash_, bytes.data(), bytes.size());
    if (::write(fd_.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      return fail_errno("write the list of pages");
    }
    return {};
  }
  Result<Fd> finish(const json::object& end) {
    if (!fd_) CHECK_OK(append({}, 0));
    TRY(const std::uint64_t hash, get_u64(end, "hash"));
    TRY(const std::uint64_t pages, get_u64(end, "pages"));
    if (pages * sizeof(FinalPage) != bytes_ || hash != XXH3_64bits_digest(&hash_)) {
      return fail(Errc::kProtocol, "the list of pages was damaged on the way");
    }
    return std::move(fd_);
  }

 private:
  Fd fd_;
  std::uint64_t bytes_ = 0;
  XXH3_state_t hash_{};
};

}  // namespace

awaitable<Result<json::object>> receive_images(const Config& config, ReceiveRequest request,
                                               Link& link) {
  ImageWriter writer(request.images, request.bytes_max);
  PageShelf shelf(request.bytes_max);
  FinalList final_list;
  bool memory_complete = request.pager == nullptr;
  // Between Accepted and the first byte are all rounds of pre-copy (a dead source is noticed by the
  // keepalive of the connection); during the dump a container with little memory is silent until
  // its images are complete. Before that it may wait for others to be frozen.
  Milliseconds silence = config.timeouts.dump + config.timeouts.idle + config.timeouts.queue;
  if (request.pager) silence += config.engine.precopy_limit;
  for (;;) {
    CO_TRY(Frame frame, co_await link.receive(silence));
    if (frame.kind == Kind::kImageData || frame.kind == Kind::kImagePages || frame.kind == Kind::kImageKnown) {
      CO_CHECK_OK(take_data(frame, shelf, writer));
      continue;
    }
    if (frame.kind == Kind::kFinalPages && !memory_complete) {
      CO_CHECK_OK(final_list.append(frame.payload, request.bytes_max));
      continue;
    }
    if (frame.kind == Kind::kHeldFrames) {
      CO_CHECK_OK(request.held->decode(frame.payload));
      continue;
    }
    if (frame.kind == Kind::kLayer || frame.kind == Kind::kLayerEnd) {
      CO_CHECK_OK(co_await request.layers->take(link, std::move(frame), config.timeouts.request));
      continue;
    }
    CO_TRY(json::object body, parse_object(frame.text()));
    if (frame.kind == Kind::kMemoryEnd && !memory_complete) {
      CO_TRY(Fd list, final_list.finish(body));
      auto checked = co_await request.pager->set_final(std::move(list));
      if (!checked) co_return tl::unexpected<Error>(checked.error().context("pager"));
      memory_complete = true;
    } else if (frame.kind == Kind::kImageEnd && memory_complete &&
               request.layers->complete()) {
      CO_CHECK_OK(check_complete(writer, body));
      co_return body;
    } else if (frame.kind == Kind::kImageOpen) {
      CO_TRY(const std::uint64_t file, get_u64(body, "file"));
      CO_TRY(const std::string name, get_string(body, "name"));
      if (file > kImageFilesMax) co_return fail(Errc::kProtocol, "too many image files");
      CO_CHECK_OK(writer.open(static_cast<std::uint32_t>(file), name));
    } else {
      co_return fail(Errc::kProtocol, "unexpected " + std::string(to_string(frame.kind)) +
                                          " while receiving images");
    }
  }
}

}  // namespace lifeboat
