#include "migration/layer_transfer.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "base/file.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

Error with_name(const Error& error, const std::string& id) {
  return error.context("the writable layer of container " + id);
}

awaitable<Status> send_payload(Link& link, const std::vector<unsigned char>& payload,
                               Milliseconds idle) {
  if (payload.empty()) co_return Status{};
  co_return co_await link.send_bytes(Kind::kLayer, payload.data(), payload.size(), idle);
}

}  // namespace

awaitable<Result<std::unique_ptr<LayerSender>>> LayerSender::open(const Container& container) {
  const std::string id = container.spec().id;
  auto source = LayerSource::open(container.layer()->upper(), container.spec().writable_bytes);
  if (!source) co_return tl::unexpected<Error>(with_name(source.error(), id));
  std::unique_ptr<LayerSender> sender(new LayerSender(std::move(*source), container.cgroup()));
  std::function<Result<LayerListing>()> look = [&source = sender->source_] { return source.look(); };
  auto listing = co_await run_blocking(sender->pool_, std::move(look));
  if (!listing) co_return tl::unexpected<Error>(with_name(listing.error(), id));
  sender->files_ = listing->files;
  sender->bytes_ = listing->allocated;
  co_return sender;
}

Status LayerSender::begin() {
  // First who has what mapped: what is mapped later sets the file's time, which is looked at later.
  MappedFiles mapped;
  for (const pid_t pid : cgroup_->pids()) {
    constexpr std::size_t kMapsBytesMax = 64U << 20;
    auto maps = read_file("/proc/" + std::to_string(pid) + "/maps", kMapsBytesMax);
    if (maps) add_mapped_files(*maps, mapped);  // else it has ended
  }
  return source_.begin(mapped);
}

// Reads the next payload while the last one is on its way.
awaitable<Status> LayerSender::send(Link& link, bool running, Milliseconds idle) {
  using namespace asio::experimental::awaitable_operators;
  std::vector<unsigned char> payload;
  std::vector<unsigned char> next;
  const std::function<Status()> fill = [this, &next, running] { return source_.fill(next, running); };
  do {
    auto [sent, filled] =
        co_await (send_payload(link, payload, idle) && run_blocking(pool_, fill));
    CO_CHECK_OK(filled);
    CO_CHECK_OK(sent);
    std::swap(payload, next);
  } while (!payload.empty());
  co_return Status{};
}

awaitable<Status> LayerSender::send_running(Link& link, LayerReport& report, Milliseconds idle) {
  const std::uint64_t before = source_.counts().sent;
  std::function<Status()> start = [this] { return begin(); };
  CO_CHECK_OK(co_await run_blocking(pool_, std::move(start)));
  CO_CHECK_OK(co_await send(link, true, idle));
  json::object end{{"last", false}};
  CO_CHECK_OK(co_await link.send(Kind::kLayerEnd, std::move(end), idle));
  report.files = source_.counts().files;
  report.bytes_running += source_.counts().sent - before;
  co_return Status{};
}

awaitable<Status> LayerSender::send_frozen(Link& link, LayerReport& report, Milliseconds idle) {
  const auto start_time = SteadyClock::now();
  const std::uint64_t before = source_.counts().sent;
  std::function<Status()> start = [this] { return begin(); };
  CO_CHECK_OK(co_await run_blocking(pool_, std::move(start)));
  CO_CHECK_OK(co_await send(link, false, idle));
  report.files = source_.counts().files;
  report.bytes_frozen += source_.counts().sent - before;
  report.frozen_ms += elapsed_ms(start_time);
  co_return Status{};
}

awaitable<Status> LayerSender::send_rest(Link& link, LayerReport& report, Milliseconds idle) {
  const auto start_time = SteadyClock::now();
  const std::uint64_t before = source_.counts().sent;
  std::function<Status()> start = [this] { return source_.begin_rest(); };
  CO_CHECK_OK(co_await run_blocking(pool_, std::move(start)));
  CO_CHECK_OK(co_await send(link, false, idle));
  json::object end{{"last", true}};
  CO_CHECK_OK(co_await link.send(Kind::kLayerEnd, std::move(end), idle));
  report.bytes_frozen += source_.counts().sent - before;
  report.frozen_ms += elapsed_ms(start_time);
  co_return Status{};
}

Result<std::unique_ptr<LayerReceiver>> LayerReceiver::open(const LayerDirectory& directory,
                                                           std::uint64_t announced,
                                                           std::uint64_t writable) {
  if (announced > writable) {
    return fail(Errc::kRefused, "its writable layer is larger than its limit");
  }
  TRY(const std::uint64_t free, directory.free_bytes());
  if (free < announced + announced / 16 + kMiB) {
    return fail(Errc::kRefused, "no room for its writable layer: " + std::to_string(announced / kMiB) +
                                    " MiB needed, " + std::to_string(free / kMiB) +
                                    " MiB are free where " + directory.upper() +
                                    " is (paths.layers_dir); make room, or choose another node");
  }
  // Files without blocks of their own, and what was written since it was looked at.
  const std::uint64_t pass_max = writable + writable / 4 + 16 * kMiB;
  TRY(LayerSink sink, LayerSink::open(directory.upper(), pass_max));
  return std::unique_ptr<LayerReceiver>(new LayerReceiver(std::move(sink)));
}

awaitable<Status> LayerReceiver::take(Frame frame) {
  if (complete_) co_return fail(Errc::kProtocol, "more of the writable layer after its end");
  if (frame.kind == Kind::kLayer) {
    std::function<Status()> apply = [this, &frame] { return sink_.apply(frame.payload); };
    co_return co_await run_blocking(pool_, std::move(apply));
  }
  CO_TRY(const json::object end, parse_object(frame.text()));
  const json::value* last = end.if_contains("last");
  std::function<Status()> finish = [this] { return sink_.finish_pass(); };
  CO_CHECK_OK(co_await run_blocking(pool_, std::move(finish)));
  complete_ = last != nullptr && last->is_bool() && last->get_bool();
  co_return Status{};
}

awaitable<void> LayerReceiver::settle() {
  std::function<bool()> work = [this] { return sink_.settle(), true; };
  (void)co_await run_blocking(pool_, std::move(work));
}

}  // namespace lifeboat
