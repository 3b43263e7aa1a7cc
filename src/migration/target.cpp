#include "migration/target.hpp"

#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "criu_glue/checkpoint.hpp"
#include "criu_glue/images.hpp"
#include "criu_glue/pager.hpp"
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

// The pager of an arrival, known to the node while page connections may come for it.
class ArrivingPager {
 public:
  ArrivingPager(Node& node, std::string migration, std::shared_ptr<PagerClient> client)
      : node_(&node), migration_(std::move(migration)), client_(std::move(client)) {
    node_->add_pager(migration_, client_);
  }
  ArrivingPager(ArrivingPager&& other) noexcept = default;
  ~ArrivingPager() {
    if (!client_) return;
    node_->remove_pager(migration_);
    // Not released: nothing was committed.
    client_->process().kill_and_reap();
  }
  [[nodiscard]] const std::shared_ptr<PagerClient>& shared() const { return client_; }
  std::shared_ptr<PagerClient> release() {
    node_->remove_pager(migration_);
    return std::exchange(client_, nullptr);
  }

 private:
  Node* node_;
  std::string migration_;
  std::shared_ptr<PagerClient> client_;
};

// Dropped in reverse order: restored tasks end before their pager, both before the container.
struct Prepared {
  std::string migration;
  std::string source;
  Arrival arrival;
  std::unique_ptr<ImageDirectory> images;
  std::uint64_t image_bytes_max;
  std::optional<ArrivingPager> pager;  // when memory does not come in CRIU's images
  std::unique_ptr<PreparedRestore> criu;
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
                  *resident + *resident / 4 + kImageSlackBytes,
                  std::nullopt,
                  nullptr};
}

RestoreRequest restore_request(const Node& node, const Prepared& prepared,
                               std::vector<ExternalMount> mounts) {
  Container& container = *prepared.arrival.container();
  RestoreRequest request;
  request.paths.criu = node.config().paths.criu;
  request.paths.images = prepared.images->path();
  request.paths.log = container.directory() + "/restore.log";
  request.netns_fd = container.net().netns_fd();
  request.cgroup = container.cgroup().path();
  request.root = container.directory() + "/root";
  request.limit = node.config().timeouts.restore;
  request.mounts = std::move(mounts);
  return request;
}

// Starts what the arrival needs later: the pager now, CRIU so that the restore need not wait for it.
awaitable<Status> start_helpers(Node& node, Prepared& prepared, bool pages) {
  const std::shared_ptr<Container>& container = prepared.arrival.container();
  if (pages) {
    PagerOptions options;
    options.program = node.libexec() + "/lifeboat-pager";
    options.lazy_socket = container->directory() + "/lazy-pages.socket";
    options.control_socket = container->pager_socket();
    options.cgroup = container->cgroup().path();
    options.bytes_max = prepared.image_bytes_max;
    CO_TRY(PagerClient client, co_await PagerClient::start(std::move(options)));
    prepared.pager.emplace(node, prepared.migration,
                           std::make_shared<PagerClient>(std::move(client)));
  }
  CO_TRY(std::vector<ExternalMount> mounts, external_mounts(container->spec()));
  RestoreRequest request = restore_request(node, prepared, std::move(mounts));
  CO_TRY(PreparedRestore criu, co_await PreparedRestore::prepare(std::move(request)));
  prepared.criu = std::make_unique<PreparedRestore>(std::move(criu));
  co_return Status{};
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

// The pager compares the list of all pages with what it has, while CRIU's images arrive.
struct MemoryCheck {
  explicit MemoryCheck(const asio::any_io_executor& executor) : done(executor) {
    done.expires_at(SteadyClock::time_point::max());
  }
  asio::steady_timer done;
  bool started = false;
  std::optional<Status> result;
};

awaitable<void> check_memory_complete(std::shared_ptr<PagerClient> pager, Fd list,
                                      std::shared_ptr<MemoryCheck> check) {
  auto answer = co_await pager->set_final(std::move(list));
  Status result;
  if (!answer) result = tl::unexpected<Error>(answer.error().context("pager"));
  check->result = std::move(result);
  check->done.cancel();
}

// Receives all images; returns what ImageEnd said.
awaitable<Result<json::object>> receive_images(const Config& config, Prepared& prepared,
                                               Link& link) {
  ImageWriter writer(prepared.images->path(), prepared.image_bytes_max);
  FinalList final_list;
  auto executor = co_await asio::this_coro::executor;
  auto check = std::make_shared<MemoryCheck>(executor);
  // Between Accepted and the first byte are all rounds of pre-copy (a dead source is noticed by the
  // keepalive of the connection); during the dump a container with little memory is silent until
  // its images are complete.
  Milliseconds silence = config.timeouts.dump + config.timeouts.idle;
  if (prepared.pager) silence += config.engine.precopy_limit;
  for (;;) {
    CO_TRY(const Frame frame, co_await link.receive(silence));
    if (frame.kind == Kind::kImageData) {
      CO_CHECK_OK(store_chunk(writer, frame));
      continue;
    }
    if (frame.kind == Kind::kFinalPages) {
      CO_CHECK_OK(final_list.append(frame.payload, prepared.image_bytes_max));
      continue;
    }
    CO_TRY(json::object body, parse_object(frame.text()));
    if (frame.kind == Kind::kMemoryEnd) {
      if (!prepared.pager || check->started) co_return fail(Errc::kProtocol, "unexpected MemoryEnd");
      CO_TRY(Fd list, final_list.finish(body));
      check->started = true;
      asio::co_spawn(executor,
                     check_memory_complete(prepared.pager->shared(), std::move(list), check),
                     asio::detached);
      continue;
    }
    if (frame.kind == Kind::kImageEnd) {
      CO_CHECK_OK(check_complete(writer, body));
      if (prepared.pager && !check->started) co_return fail(Errc::kProtocol, "no MemoryEnd came");
      while (check->started && !check->result) co_await check->done.async_wait(use_tuple);
      if (check->result) CO_CHECK_OK(*check->result);
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
  auto end = co_await receive_images(node.config(), prepared, link);
  const auto start = SteadyClock::now();
  if (!end) co_return failed_at("transfer", end.error());
  const RestoreMemory memory =
      prepared.pager ? RestoreMemory::kPager : RestoreMemory::kImages;
  auto held = co_await std::move(*prepared.criu).start(memory);
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

// Follows the pager until it has put every page in place.
awaitable<void> watch_pager(std::shared_ptr<PagerClient> pager, std::weak_ptr<Container> weak) {
  const auto start = SteadyClock::now();
  Status pushed = co_await pager->push();
  for (;;) {
    co_await sleep_for(Milliseconds(20));
    auto status = co_await pager->status();
    auto container = weak.lock();
    if (!container) co_return;
    const std::string phase = status ? string_or(*status, "phase") : "";
    if (status && phase != "done") continue;
    container->set_filling(false);
    const std::string& id = container->spec().id;
    if (status) {
      log::info("memory is in place", {{"container", id},
                                       {"ms", std::to_string(static_cast<long>(elapsed_ms(start)))},
                                       {"faults", std::to_string(get_u64(*status, "faults").value_or(0))}});
    } else if (container->state() == ContainerState::kRunning && container->init().running()) {
      log::error("the pager of a container has ended; if pages were missing the container ends too",
                 {{"container", id}, {"reason", status.error().message}});
    }
    co_return;
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
  if (restored.prepared.pager) {
    container->set_filling(true);
    asio::co_spawn(node.executor(), watch_pager(restored.prepared.pager->release(), container),
                   asio::detached);
  }
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
  const json::value* pages = offer.if_contains("pages");
  auto started = co_await start_helpers(
      node, *prepared, pages != nullptr && pages->is_bool() && pages->get_bool());
  if (!started) co_return failed_at("restore", started.error());
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

awaitable<void> adopt_pager(std::shared_ptr<Container> container) {
  auto client = co_await PagerClient::open(container->pager_socket());
  if (!client) co_return;  // its memory is in place, as nearly always
  container->set_filling(true);
  auto pager = std::make_shared<PagerClient>(std::move(*client));
  co_await watch_pager(std::move(pager), container);
}

awaitable<Status> take_page_connection(Node& node, Link link, json::object pages, Milliseconds limit) {
  CO_TRY(const std::string migration, get_string(pages, "migration"));
  CO_TRY(const std::uint64_t shard, get_u64(pages, "shard"));
  CO_TRY(const std::uint64_t shards, get_u64(pages, "shards"));
  constexpr std::uint64_t kShardsMax = 64;
  Status status;
  auto pager = node.find_pager(migration);
  if (!pager) {
    status = fail(Errc::kNotFound, "no container arrives here by migration '" + migration + "'");
  } else if (shard >= shards || shards > kShardsMax) {
    status = fail(Errc::kProtocol, "page connection " + std::to_string(shard) + " of " +
                                       std::to_string(shards));
  }
  if (!status) {
    json::object body = failed_body(status.error(), "pages");
    (void)co_await link.send(Kind::kFailed, std::move(body), limit);
    co_return status;
  }
  // The answer first: afterwards the connection is the pager's.
  json::object nothing;
  CO_CHECK_OK(co_await link.send(Kind::kResponse, std::move(nothing), limit));
  Fd socket = std::move(link).release();
  if (!socket) co_return fail(Errc::kUnavailable, "the page connection was closed");
  co_return co_await pager->add_connection(std::move(socket), static_cast<unsigned>(shard),
                                           static_cast<unsigned>(shards));
}

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
