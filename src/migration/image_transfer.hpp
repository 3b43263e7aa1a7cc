// image_transfer.hpp - CRIU's images on their way, at the source: what they will mostly hold is sent while the
// container runs (known_pages.hpp, image_content.hpp), so that in the freeze a page that is still the same goes
// as a number.
#pragma once

#include <vector>

#include "base/blocking.hpp"
#include "container.hpp"
#include "criu_glue/images.hpp"
#include "migration/image_content.hpp"
#include "migration/known_pages.hpp"
#include "migration/link.hpp"
#include "report.hpp"

namespace lifeboat {

// What it is asked to do must have ended before it goes.
class ImageSender {
 public:
  // `bytes_max`: of pages that are sent while the container runs.
  explicit ImageSender(std::uint64_t bytes_max) : known_(bytes_max / kPageBytes) {}

  // A pass over what the images will hold: sends what the target lacks of it. The container runs. `without`: files
  // that they will not hold (ImageContent).
  awaitable<Status> send_ahead(Link& link, const Container& container, std::set<std::string> without,
                               MigrationReport& report, Milliseconds idle);
  // All that there is in `reader`'s directory, until the dump has ended and everything is sent.
  awaitable<Status> send_images(Link& link, ImageReader& reader, const bool& dump_ended, MigrationReport& report,
                                Milliseconds idle);

 private:
  // Consecutive bytes of a chunk, either to be sent or known by their numbers.
  struct Run {
    std::size_t at = 0;
    std::size_t size = 0;
    std::vector<std::uint32_t> numbers;  // of its pages; empty: not known
  };

  void fill(ImageContent& content, std::vector<unsigned char>& payload);
  [[nodiscard]] std::vector<Run> runs_of(const ImageChunk& chunk, const unsigned char* bytes) const;
  awaitable<Status> send_chunk(Link& link, const ImageChunk& chunk, const unsigned char* bytes, MigrationReport& report,
                               Milliseconds idle);

  KnownPages known_;
  asio::thread_pool pool_{1};  // last: its thread ends first
};

}  // namespace lifeboat
