#include "migration/image_transfer.hpp"

#include "base/little_endian.hpp"

namespace lifeboat {

using page_stream::hash_page;
using protocol::Kind;

namespace {

// A shorter run of known pages is sent as it is: a frame of its own costs more.
constexpr std::size_t kLeastRun = 4;

}  // namespace

// The next pages that the target lacks; empty: that was all.
void ImageSender::fill(ImageContent& content, std::vector<unsigned char>& payload) {
  payload.clear();
  std::vector<unsigned char> piece;
  while (payload.size() + ImageContent::kPieceBytes <= protocol::kDataBytesMax) {
    content.read(piece);
    if (piece.empty()) break;
    for (std::size_t at = 0; at < piece.size(); at += kPageBytes) {
      const auto page = piece.begin() + static_cast<std::ptrdiff_t>(at);
      if (known_.add(hash_page(&*page))) payload.insert(payload.end(), page, page + kPageBytes);
    }
  }
}

awaitable<Status> ImageSender::send_ahead(Link& link, const Container& container, std::set<std::string> without,
                                          MigrationReport& report, Milliseconds idle) {
  const auto start = SteadyClock::now();
  std::function<ImageContent()> find = [&] { return ImageContent::of(container.cgroup().pids(), std::move(without)); };
  ImageContent content = co_await run_blocking(pool_, std::move(find));
  std::vector<unsigned char> payload;
  const std::function<void()> next = [&] { fill(content, payload); };
  for (;;) {
    const std::uint32_t first = known_.size();
    co_await run_on(pool_, next);
    if (payload.empty()) break;
    CO_CHECK_OK(co_await link.send_data(Kind::kImagePages, {0, first}, payload.data(), payload.size(), idle));
    // No part of the progress: what a socket has taken says nothing of the rate, and a limit of it is for pages.
    report.images.ahead_bytes += payload.size();
  }
  report.images.passes += 1;
  report.images.ahead_ms += elapsed_ms(start);
  co_return Status{};
}

std::vector<ImageSender::Run> ImageSender::runs_of(const ImageChunk& chunk, const unsigned char* bytes) const {
  std::vector<Run> runs;
  const auto append = [&runs](std::size_t at, std::size_t size) {
    if (runs.empty() || !runs.back().numbers.empty()) runs.push_back({at, 0, {}});
    runs.back().size += size;
  };
  std::size_t at = 0;
  const std::size_t pages_end = chunk.pages && known_.size() > 0 ? chunk.size / kPageBytes * kPageBytes : 0;
  while (at < pages_end) {
    Run run{at, 0, {}};
    for (; at < pages_end; at += kPageBytes, run.size += kPageBytes) {
      const auto number = known_.find(hash_page(bytes + at));
      if (!number) break;
      run.numbers.push_back(*number);
    }
    if (run.numbers.size() >= kLeastRun) {
      runs.push_back(std::move(run));
      continue;
    }
    if (run.size > 0) append(run.at, run.size);
    if (at == pages_end) break;
    append(at, kPageBytes);
    at += kPageBytes;
  }
  if (at < chunk.size) append(at, chunk.size - at);
  return runs;
}

awaitable<Status> ImageSender::send_chunk(Link& link, const ImageChunk& chunk, const unsigned char* bytes,
                                          MigrationReport& report, Milliseconds idle) {
  for (const Run& run : runs_of(chunk, bytes)) {
    const protocol::DataHeader where{chunk.file, chunk.offset + run.at};
    const unsigned char* const data = bytes + run.at;
    if (run.numbers.empty()) {
      CO_CHECK_OK(co_await link.send_data(Kind::kImageData, where, data, run.size, idle));
      report.progress->bytes_sent.add(run.size);
      continue;
    }
    protocol::DataHeader checked = where;
    checked.hash = page_stream::hash_bytes(data, run.size);
    std::vector<unsigned char> payload(protocol::kDataHeaderBytes + run.numbers.size() * sizeof(std::uint32_t));
    encode(checked, payload.data());
    unsigned char* out = payload.data() + protocol::kDataHeaderBytes;
    for (std::size_t i = 0; i < run.numbers.size(); ++i) put_le(out + i * sizeof(std::uint32_t), run.numbers[i]);
    CO_CHECK_OK(co_await link.send_bytes(Kind::kImageKnown, payload.data(), payload.size(), idle));
    report.images.known_bytes += run.size;
    report.progress->bytes_sent.add(payload.size());
  }
  co_return Status{};
}

awaitable<Status> ImageSender::send_images(Link& link, ImageReader& reader, const bool& dump_ended,
                                           MigrationReport& report, Milliseconds idle) {
  std::vector<unsigned char> buffer(protocol::kDataBytesMax);
  std::size_t announced = 0;
  for (;;) {
    const bool complete = dump_ended;  // read before scanning: what is there then is all
    CO_CHECK_OK(reader.scan(complete));
    for (; announced < reader.files().size(); ++announced) {
      json::object open{{"file", announced}, {"name", reader.files()[announced].name}};
      CO_CHECK_OK(co_await link.send(Kind::kImageOpen, std::move(open), idle));
    }
    CO_TRY(const ImageChunk chunk, reader.next(buffer.data(), buffer.size()));
    if (chunk.size > 0) {
      CO_CHECK_OK(co_await send_chunk(link, chunk, buffer.data(), report, idle));
      report.images.bytes += chunk.size;
    } else if (complete) {
      co_return Status{};
    } else {
      co_await sleep_for(Milliseconds(1));
    }
  }
}

}  // namespace lifeboat
