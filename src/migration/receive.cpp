#include "migration/receive.hpp"

#include <sys/mman.h>

#include <map>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "criu_glue/images.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

Status store_chunk(ImageWriter& writer, const Frame& frame) {
  if (frame.payload.size() < protocol::kDataHeaderBytes) {
    return fail(Errc::kProtocol, "an ImageData frame without its header");
  }
  const protocol::DataHeader header = protocol::decode_data(frame.payload.data());
  const unsigned char* bytes = frame.payload.data() + protocol::kDataHeaderBytes;
  ImageChunk chunk;
  chunk.file = header.file;
  chunk.offset = header.offset;
  chunk.size = frame.payload.size() - protocol::kDataHeaderBytes;
  if (!hash_matches(header, bytes, chunk.size)) {
    return fail(Errc::kProtocol, "image data was damaged on the way (hash of a chunk is wrong)");
  }
  return writer.write(chunk, bytes);
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
  FinalList final_list;
  bool memory_complete = request.pager == nullptr;
  // Between Accepted and the first byte are all rounds of pre-copy (a dead source is noticed by the
  // keepalive of the connection); during the dump a container with little memory is silent until
  // its images are complete. Before that it may wait for others to be frozen.
  Milliseconds silence = config.timeouts.dump + config.timeouts.idle + config.timeouts.queue;
  if (request.pager) silence += config.engine.precopy_limit;
  for (;;) {
    CO_TRY(Frame frame, co_await link.receive(silence));
    if (frame.kind == Kind::kImageData) {
      CO_CHECK_OK(store_chunk(writer, frame));
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
