#include "migration/target.hpp"

#include "base/file.hpp"
#include "base/log.hpp"
#include "criu_glue/checkpoint.hpp"
#include "criu_glue/images.hpp"
#include "migration/sockets.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

// Which step of the target failed: told to the source.
struct StepError {
  StepError(std::string s, Error e) : step(std::move(s)), error(std::move(e)) {}
  std::string step;
  Error error;
};

template <class T>
using StepResult = tl::expected<T, StepError>;

tl::unexpected<StepError> failed_at(const char* step, Error error) {
  return tl::unexpected<StepError>(StepError(step, std::move(error)));
}

// A container on its way here. Dropped before it is committed, it leaves nothing behind.
class Arrival {
 public:
  Arrival(Node& node, std::string migration, std::shared_ptr<Container> container)
      : node_(&node), migration_(std::move(migration)), container_(std::move(container)) {}
  Arrival(Arrival&& other) noexcept = default;
  ~Arrival() {
    if (!container_) return;
    // The record first: from here on a late Commit is refused, whatever happens.
    (void)node_->record_outcome(migration_, Outcome::kAborted);
    node_->remove(container_->spec().id);
    container_->destroy();
  }
  [[nodiscard]] const std::shared_ptr<Container>& container() const { return container_; }
  std::shared_ptr<Container> release() { return std::exchange(container_, nullptr); }

 private:
  Node* node_;
  std::string migration_;
  std::shared_ptr<Container> container_;
};

struct Prepared {
  std::string migration;
  std::string source;
  Arrival arrival;
  std::unique_ptr<ImageDirectory> images;
  std::uint64_t image_bytes_max;
};

struct Restored {
  Prepared prepared;
  HeldRestore held;
  std::vector<std::string> established;  // connections at the moment of the freeze
  double restore_ms;
};

// Images are pages plus little else; and a container may have grown since it made the offer.
constexpr std::uint64_t kImageSlackBytes = 256U << 20;

Status check_memory(std::uint64_t image_bytes) {
  // The images and the restored memory are there at the same time.
  const std::uint64_t needed = 2 * image_bytes;
  const std::uint64_t available = memory_available_bytes();
  if (available >= needed) return {};
  return fail(Errc::kRefused, "not enough free memory: " + std::to_string(needed >> 20) +
                                  " MiB needed for images and pages, " +
                                  std::to_string(available >> 20) + " MiB available");
}

StepResult<Prepared> prepare(Node& node, const json::object& offer) {
  const char* const step = "preflight";
  auto migration = get_string(offer, "migration");
  if (!migration) return failed_at(step, migration.error());
  auto source = get_string(offer, "source");
  if (!source) return failed_at(step, source.error());
  auto resident = get_u64(offer, "resident_bytes");
  if (!resident) return failed_at(step, resident.error());
  auto facts_json = get_object(offer, "facts");
  if (!facts_json) return failed_at(step, facts_json.error());
  auto facts = node_facts_from(**facts_json);
  if (!facts) return failed_at(step, facts.error());
  auto spec_json = get_object(offer, "spec");
  if (!spec_json) return failed_at(step, spec_json.error());
  auto spec = container_spec_from(**spec_json);
  if (!spec) return failed_at(step, spec.error());

  if (auto ok = check_compatible(*facts, node.facts()); !ok) return failed_at(step, ok.error());
  if (auto ok = node.check_room(*spec); !ok) return failed_at(step, ok.error());
  if (auto ok = check_memory(*resident); !ok) return failed_at(step, ok.error());
  auto container = Container::prepare(std::move(*spec), node.config());
  if (!container) return failed_at(step, container.error());
  std::shared_ptr<Container> shared = std::move(*container);
  if (auto ok = shared->set_state(ContainerState::kArriving, *migration, *source); !ok) {
    return failed_at(step, ok.error());
  }
  auto images = ImageDirectory::create(node.config().paths.run_dir + "/images", *migration);
  if (!images) return failed_at(step, images.error());
  node.add(shared);
  return Prepared{*migration, *source, Arrival(node, *migration, shared),
                  std::make_unique<ImageDirectory>(std::move(*images)),
                  *resident + *resident / 4 + kImageSlackBytes};
}

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

// Receives all images; returns what ImageEnd said.
awaitable<Result<json::object>> receive_images(const Config& config, Prepared& prepared,
                                               Link& link) {
  ImageWriter writer(prepared.images->path(), prepared.image_bytes_max);
  // Between Accepted and the first byte the source freezes its tasks; during the dump a container
  // with little memory is silent until its images are complete.
  const Milliseconds silence = config.timeouts.dump + config.timeouts.idle;
  for (;;) {
    CO_TRY(const Frame frame, co_await link.receive(silence));
    if (frame.kind == Kind::kImageData) {
      CO_CHECK_OK(store_chunk(writer, frame));
      continue;
    }
    CO_TRY(json::object body, parse_object(frame.text()));
    if (frame.kind == Kind::kImageEnd) {
      CO_CHECK_OK(check_complete(writer, body));
      co_return body;
    }
    if (frame.kind != Kind::kImageOpen) {
      co_return fail(Errc::kProtocol, "unexpected " + std::string(to_string(frame.kind)) +
                                          " while receiving images");
    }
    CO_TRY(const std::uint64_t file, get_u64(body, "file"));
    CO_TRY(const std::string name, get_string(body, "name"));
    if (file > kImageFilesMax) co_return fail(Errc::kProtocol, "too many image files");
    CO_CHECK_OK(writer.open(static_cast<std::uint32_t>(file), name));
  }
}

std::vector<std::string> missing_connections(const std::vector<std::string>& before, pid_t init) {
  auto now = tcp_sockets(init);
  if (!now) return {};
  const std::vector<std::string> present = established_pairs(*now);
  std::vector<std::string> missing;
  for (const std::string& pair : before) {
    if (std::find(present.begin(), present.end(), pair) == present.end()) missing.push_back(pair);
  }
  return missing;
}

// What CRIU restored is what was dumped, as far as the peers can tell: looked at while nothing runs
// yet and everything can still be undone.
Status check_connections(const std::vector<std::string>& before, pid_t init) {
  const std::vector<std::string> missing = missing_connections(before, init);
  if (missing.empty()) return {};
  return fail(Errc::kSystem, "criu did not restore " + std::to_string(missing.size()) +
                                 " connection(s), first " + missing.front());
}

awaitable<StepResult<Restored>> restore(Node& node, Prepared prepared, Link& link) {
  const Config& config = node.config();
  auto end = co_await receive_images(config, prepared, link);
  const auto start = SteadyClock::now();
  if (!end) co_return failed_at("transfer", end.error());
  const std::shared_ptr<Container>& container = prepared.arrival.container();
  RestoreRequest request;
  request.paths.criu = config.paths.criu;
  request.paths.images = prepared.images->path();
  request.paths.log = container->directory() + "/restore.log";
  request.netns_fd = container->net().netns_fd();
  request.cgroup = container->cgroup().path();
  request.root = container->directory() + "/root";
  request.limit = config.timeouts.restore;
  auto mounts = external_mounts(container->spec());
  if (!mounts) co_return failed_at("restore", mounts.error());
  request.mounts = std::move(*mounts);
  auto held = co_await HeldRestore::start(std::move(request));
  if (!held) co_return failed_at("restore", held.error());
  std::vector<std::string> established;
  if (auto list = get_array(*end, "established")) {
    for (const json::value& item : **list) {
      if (item.is_string()) established.emplace_back(item.get_string());
    }
  }
  if (auto ok = check_connections(established, held->init_pid()); !ok) {
    co_return failed_at("restore", ok.error());
  }
  Restored restored{std::move(prepared), std::move(*held), std::move(established),
                    elapsed_ms(start)};
  co_return restored;
}

// A peer may have given a connection up during the freeze; it says so when it hears from us.
awaitable<void> check_connections_later(std::weak_ptr<Container> weak,
                                        std::vector<std::string> before) {
  constexpr Milliseconds kAfter{3000};
  co_await sleep_for(kAfter);
  auto container = weak.lock();
  if (!container || container->state() != ContainerState::kRunning) co_return;
  for (const std::string& pair : missing_connections(before, container->init().pid())) {
    log::warn("a connection is gone since the migration (closed by the job, or lost)",
              {{"container", container->spec().id}, {"connection", pair}});
  }
}

// Commit has come: the container becomes ours. Up to the record everything can be undone.
awaitable<Result<json::object>> take_over(Node& node, Restored& restored) {
  const auto start = SteadyClock::now();
  std::shared_ptr<Container> container = restored.prepared.arrival.container();
  CO_CHECK_OK(container->net().settle_mtu());
  // Should this daemon die from here on, the next one finds the processes by this record, and by
  // the outcome whether they are to run.
  CO_TRY(Process found, Process::open(restored.held.init_pid()));
  container->set_init(std::move(found));
  CO_CHECK_OK(container->set_state(ContainerState::kArriving, restored.prepared.migration,
                                   restored.prepared.source));
  CO_CHECK_OK(node.record_outcome(restored.prepared.migration, Outcome::kCommitted));

  // Committed. Only now the plug: once its sockets have acknowledged a byte, no other copy may go
  // on. CRIU still holds the tasks, so they run the moment it lets go of them.
  (void)restored.prepared.arrival.release();
  const auto network_start = SteadyClock::now();
  auto plugged = container->net().plug();
  if (plugged) plugged = container->net().announce();
  if (!plugged) {
    log::error("the container runs here but is not on the network; restarting lifeboatd plugs it in",
               {{"container", container->spec().id}, {"reason", plugged.error().message}});
  }
  const double network_ms = elapsed_ms(network_start);
  (void)container->cgroup().thaw();
  auto init = co_await std::move(restored.held).release();
  const double resume_ms = elapsed_ms(start) - network_ms;
  if (!init) {
    log::warn("criu complained after the commit", {{"reason", init.error().message}});
  }
  (void)container->set_state(ContainerState::kRunning);
  node.watch(container);
  json::object body{{"network_ms", network_ms}, {"resume_ms", resume_ms}};
  co_return body;
}

// The whole arrival; an error has undone everything.
awaitable<StepResult<bool>> arrive(Node& node, Link& link, const json::object& offer) {
  const Timeouts& timeouts = node.config().timeouts;
  auto prepared = prepare(node, offer);
  if (!prepared) co_return tl::unexpected<StepError>(prepared.error());
  const std::string migration = prepared->migration;
  json::object accepted;
  auto sent = co_await link.send(Kind::kAccepted, std::move(accepted), timeouts.request);
  if (!sent) co_return failed_at("preflight", sent.error());

  auto restored = co_await restore(node, std::move(*prepared), link);
  if (!restored) co_return tl::unexpected<StepError>(restored.error());
  json::object staged{{"restore_ms", restored->restore_ms}};
  sent = co_await link.send(Kind::kStaged, std::move(staged), timeouts.request);
  if (!sent) co_return failed_at("commit", sent.error());
  auto decision = co_await link.expect(Kind::kCommit, timeouts.commit);
  if (!decision) co_return failed_at("commit", decision.error());

  const std::shared_ptr<Container> container = restored->prepared.arrival.container();
  auto running = co_await take_over(node, *restored);
  if (!running) co_return failed_at("commit", running.error());
  // Should this not get through, the source asks for the outcome.
  (void)co_await link.send(Kind::kRunning, std::move(*running), timeouts.request);
  asio::co_spawn(node.executor(),
                 check_connections_later(container, restored->established), asio::detached);
  log::info("container arrived",
            {{"migration", migration}, {"container", container->spec().id}});
  co_return true;
}

}  // namespace

awaitable<void> serve_migration(Node& node, Link link, json::object offer) {
  auto arrived = co_await arrive(node, link, offer);
  if (arrived) co_return;
  const StepError& failure = arrived.error();
  log::warn("arrival of a container failed, nothing is left of it here",
            {{"migration", string_or(offer, "migration")},
             {"from", link.remote()},
             {"step", failure.step},
             {"reason", failure.error.message}});
  json::object body = failed_body(failure.error, failure.step);
  (void)co_await link.send(Kind::kFailed, std::move(body), node.config().timeouts.request);
}

}  // namespace lifeboat
