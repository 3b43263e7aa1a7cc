#include "migration/layer_transfer.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <boost/asio/experimental/awaitable_operators.hpp>

#include "base/file.hpp"
#include "criu_glue/mappings.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

constexpr const char* kPassNames[] = {"running", "frozen", "rest"};  // by LayerPass

Error with_name(const Error& error, const std::string& id) {
  return error.context("the writable files of container " + id);
}

awaitable<Status> send_payload(Link& link, const std::vector<unsigned char>& payload,
                               Milliseconds idle) {
  co_return co_await link.send_bytes(Kind::kLayer, payload.data(), payload.size(), idle);
}

// What one pass may write: files without blocks of their own, and what was written since somebody
// looked, come on top.
std::uint64_t pass_max(std::uint64_t bytes) { return bytes + bytes / 4 + 16 * kMiB; }

Status check_room(const LayerDirectory& directory, std::uint64_t announced, std::uint64_t writable) {
  if (announced > writable) {
    return fail(Errc::kRefused, "its writable layer is larger than its limit");
  }
  TRY(const std::uint64_t free, directory.free_bytes());
  if (free >= announced + announced / 16 + kMiB) return {};
  return fail(Errc::kRefused, "no room for its writable layer: " + std::to_string(announced / kMiB) +
                                  " MiB needed, " + std::to_string(free / kMiB) +
                                  " MiB are free where " + directory.upper() +
                                  " is (paths.layers_dir); make room, or choose another node");
}

// Files without a name that are mapped shared, by SharedMapping::file, each with a place where it is.
std::map<std::string, std::pair<pid_t, AddressRange>> mapped_without_name(const std::vector<pid_t>& pids) {
  std::map<std::string, std::pair<pid_t, AddressRange>> files;
  for (const pid_t pid : pids) {
    const auto mappings = shared_mappings(pid);
    if (!mappings) continue;  // it has ended
    for (const SharedMapping& mapping : *mappings) files.try_emplace(mapping.file, pid, mapping.range);
  }
  return files;
}

json::array nameless_of(const LayerSource& source) {
  json::array paths;
  for (const NamelessFile* file : source.nameless()) paths.push_back(json::value(file->path));
  return paths;
}

}  // namespace

awaitable<Result<std::unique_ptr<LayerSender>>> LayerSender::open(const Container& container) {
  std::unique_ptr<LayerSender> sender(new LayerSender(container));
  std::function<Status()> work = [&sender]() -> Status {
    CHECK_OK(sender->add_layers());
    return sender->look();
  };
  const Status done = co_await run_blocking(sender->pool_, std::move(work));
  if (!done) co_return tl::unexpected<Error>(with_name(done.error(), container.spec().id));
  co_return sender;
}

Status LayerSender::add_layers() {
  anonymous_max_ = count_anonymous();
  if (anonymous_max_ > 0) sources_.emplace_back(Fd(), UINT64_MAX);
  if (container_->layer()) {
    TRY(LayerSource upper,
        LayerSource::open(container_->layer()->upper(), container_->spec().writable_bytes));
    sources_.push_back(std::move(upper));
  }
  const pid_t init = container_->init().pid();
  TRY(tmpfs_, tmpfs_mounts(init));
  for (const TmpfsMount& mount : tmpfs_) {
    TRY(Fd root, open_tmpfs(init, mount));
    sources_.emplace_back(std::move(root), UINT64_MAX);  // the file system has its own limit
  }
  return {};
}

Status LayerSender::look() {
  const std::size_t own = sources_.size() - tmpfs_.size();
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    TRY(const LayerListing listing, sources_[i].look());
    files_ += listing.files;
    (i < own ? upper_bytes_ : tmpfs_bytes_) += listing.allocated;
  }
  return {};
}

MappedFiles LayerSender::mapped_files() const {
  // First who has what mapped: what is mapped later sets the file's time, which is looked at later.
  MappedFiles mapped;
  for (const pid_t pid : container_->cgroup().pids()) {
    constexpr std::size_t kMapsBytesMax = 64U << 20;
    auto maps = read_file("/proc/" + std::to_string(pid) + "/maps", kMapsBytesMax);
    if (maps) add_mapped_files(*maps, mapped);  // else it has ended
  }
  return mapped;
}

std::size_t LayerSender::layer_of(dev_t device) const {
  std::size_t i = sources_.size() - tmpfs_.size();
  while (i < sources_.size() && sources_[i].device() != device) ++i;
  return i;
}

std::size_t LayerSender::count_anonymous() const {
  std::size_t count = 0;
  for (const auto& [mapped_as, place] : mapped_without_name(container_->cgroup().pids())) {
    const OpenedMapping opened = open_mapped(place.first, place.second);
    struct stat info {};
    if (opened.fd && ::fstat(opened.fd.get(), &info) == 0 && is_anonymous_memory(opened.name, info)) ++count;
  }
  return std::min(count, kAnonymousFilesMax);
}

// Anonymous memory, and shared memory whose files have lost their name, on the container's tmpfs mounts. Those that are
// known already stay open: to open them again would be noted (shared_writes.hpp).
void LayerSender::find_nameless() {
  std::vector<std::vector<NamelessFile>> found(sources_.size());
  for (const auto& [mapped_as, place] : mapped_without_name(container_->cgroup().pids())) {
    bool known = false;
    for (std::size_t i = 0; i < sources_.size() && !known; ++i) {
      if (auto file = sources_[i].take_nameless(mapped_as)) {
        found[i].push_back(std::move(*file));
        known = true;
      }
    }
    if (!known) add_nameless(found, open_mapped(place.first, place.second), mapped_as);
  }
  for (std::size_t i = 0; i < sources_.size(); ++i) sources_[i].set_nameless(std::move(found[i]));
}

void LayerSender::add_nameless(std::vector<std::vector<NamelessFile>>& found, OpenedMapping opened,
                               const std::string& mapped_as) const {
  struct stat info {};
  if (!opened.fd || ::fstat(opened.fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 0) return;
  std::size_t layer = 0;
  std::string path;
  if (is_anonymous_memory(opened.name, info)) {
    auto name = external_file_name(opened.fd.get());
    if (!name || anonymous_max_ == 0 || found[layer].size() == anonymous_max_) return;
    path = std::move(*name);
  } else {
    layer = layer_of(info.st_dev);
    if (layer == sources_.size()) return;
    const std::string root = tmpfs_[layer - (sources_.size() - tmpfs_.size())].target + "/";
    // One of O_TMPFILE ("#1234") never had a name: the flags that it was opened with allow it none, either.
    if (!opened.name.starts_with(root) || name_of(opened.name).starts_with('#')) return;
    path = opened.name.substr(root.size());
  }
  found[layer].push_back({std::move(path), std::move(opened.fd), info.st_dev, info.st_ino, mapped_as});
}

// Anew, unless it is known of all of them what was written: asked after that was collected and before it is read, so
// that direct I/O that was under way has ended, or is seen.
Status LayerSender::watch_nameless() {
  // To hash less than this takes no longer than to track it.
  constexpr off_t kLeast = 32 << 20;
  std::vector<SharedFile> files;
  off_t bytes = 0;
  shared_writes_.check();
  bool known = true;
  for (const LayerSource& source : sources_) {
    for (const NamelessFile& file : source.all_nameless()) {
      struct stat info {};
      if (::fstat(file.fd.get(), &info) == 0) bytes += info.st_size;
      files.push_back({file.mapped_as, file.fd.get()});
      known = known && shared_writes_.knows(file.mapped_as);
    }
  }
  if (known) return {};
  for (LayerSource& source : sources_) source.set_written({});
  return bytes < kLeast ? Status{} : shared_writes_.watch(files);
}

// For the next pass.
void LayerSender::set_written(bool running) {
  for (LayerSource& source : sources_) {
    LayerSource::Written written;
    for (const NamelessFile& file : source.all_nameless()) {
      auto ranges = running ? shared_writes_.collect(file.mapped_as) : shared_writes_.written(file.mapped_as);
      if (ranges) written[file.inode] = std::move(*ranges);
    }
    source.set_written(std::move(written));
  }
}

bool LayerSender::tracks_writes() const {
  return std::any_of(sources_.begin(), sources_.end(), [this](const LayerSource& source) {
    return std::any_of(source.all_nameless().begin(), source.all_nameless().end(),
                       [this](const NamelessFile& file) { return shared_writes_.knows(file.mapped_as); });
  });
}

std::vector<CarriedFile> LayerSender::shared_memory() const {
  std::vector<CarriedFile> files;
  const std::size_t own = sources_.size() - tmpfs_.size();
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    for (const NamelessFile* file : sources_[i].nameless()) {
      const std::string root = is_memory(i) ? "" : tmpfs_[i - own].target + "/";
      files.push_back({file->device, file->inode, root + file->path, is_memory(i)});
    }
  }
  return files;
}

std::set<std::string> LayerSender::shared_memory_mapped() const {
  std::set<std::string> files;
  for (const LayerSource& source : sources_) {
    for (const NamelessFile* file : source.nameless()) files.insert(file->mapped_as);
  }
  return files;
}

Status LayerSender::check_mounts() const {
  TRY(const std::vector<TmpfsMount> now, tmpfs_mounts(container_->init().pid()));
  for (const TmpfsMount& mount : tmpfs_) {
    if (std::find(now.begin(), now.end(), mount) != now.end()) continue;
    return fail(Errc::kConflict, "the container has mounted something else at " + mount.target +
                                     " during the migration; start it again");
  }
  return {};
}

// Reads the next payload while the last one is on its way.
awaitable<Status> LayerSender::send(Link& link, LayerSource& source, Payload payload, bool running,
                                    Milliseconds idle) {
  using namespace asio::experimental::awaitable_operators;
  Payload next;
  const std::function<Status()> fill = [&] { return source.fill(next, running); };
  while (!payload.empty()) {
    auto [sent, filled] = co_await (errors_of(send_payload(link, payload, idle), "send files") &&
                                      errors_of(run_blocking(pool_, fill), "read files"));
    CO_CHECK_OK(filled);
    CO_CHECK_OK(sent);
    std::swap(payload, next);
  }
  co_return Status{};
}

awaitable<Status> LayerSender::pass(Link& link, LayerPass kind, Milliseconds idle) {
  const bool running = kind == LayerPass::kRunning;
  std::vector<Payload> first(sources_.size());  // of each layer; nearly always there is nothing to send
  std::function<Status()> begin = [this, kind, running, &first]() -> Status {
    if (kind == LayerPass::kFrozen) CHECK_OK(check_mounts());
    // Frozen, the same ones: CRIU has been told of them.
    if (running && carries_shared_memory_) find_nameless();
    if (tracks_shared_memory_ && kind != LayerPass::kRest) set_written(running);
    if (tracks_shared_memory_ && running) CHECK_OK(watch_nameless());
    const MappedFiles mapped = kind == LayerPass::kRest ? MappedFiles() : mapped_files();
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      CHECK_OK(kind == LayerPass::kRest ? sources_[i].begin_rest() : sources_[i].begin(mapped));
      CHECK_OK(sources_[i].fill(first[i], running));
    }
    return {};
  };
  CO_CHECK_OK(co_await run_blocking(pool_, std::move(begin)));
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    CO_CHECK_OK(co_await send(link, sources_[i], std::move(first[i]), running, idle));
    json::object end{{"layer", i}, {"pass", kPassNames[static_cast<int>(kind)]}};
    if (kind == LayerPass::kRest) end["nameless"] = nameless_of(sources_[i]);
    CO_CHECK_OK(co_await link.send(Kind::kLayerEnd, std::move(end), idle));
  }
  co_return Status{};
}

std::uint64_t LayerSender::sent() const {
  std::uint64_t bytes = 0;
  for (const LayerSource& source : sources_) bytes += source.counts().sent;
  return bytes;
}

std::uint64_t LayerSender::files_now() const {
  std::uint64_t files = 0;
  for (const LayerSource& source : sources_) files += source.counts().files;
  return files;
}

awaitable<Status> LayerSender::send_running(Link& link, LayerReport& report, Milliseconds idle) {
  const std::uint64_t before = sent();
  if (sources_.empty()) co_return Status{};
  CO_CHECK_OK(co_await pass(link, LayerPass::kRunning, idle));
  // Else it would still be writing when the container is frozen.
  auto taken = co_await link.expect(Kind::kLayersTaken, idle);
  if (!taken) co_return tl::unexpected<Error>(taken.error());
  report.files = files_now();
  report.bytes_running += sent() - before;
  co_return Status{};
}

awaitable<Status> LayerSender::send_frozen(Link& link, LayerReport& report, Milliseconds idle) {
  const auto start = SteadyClock::now();
  const std::uint64_t before = sent();
  CO_CHECK_OK(co_await pass(link, LayerPass::kFrozen, idle));
  report.files = files_now();
  report.bytes_frozen += sent() - before;
  for (const LayerSource& source : sources_) report.bytes_tracked += source.counts().tracked;
  report.frozen_ms += elapsed_ms(start);
  co_return Status{};
}

awaitable<Status> LayerSender::send_rest(Link& link, LayerReport& report, Milliseconds idle) {
  const auto start = SteadyClock::now();
  const std::uint64_t before = sent();
  CO_CHECK_OK(co_await pass(link, LayerPass::kRest, idle));
  report.bytes_frozen += sent() - before;
  report.frozen_ms += elapsed_ms(start);
  co_return Status{};
}

Result<std::unique_ptr<LayerReceiver>> LayerReceiver::open(const Container& container,
                                                           std::vector<TmpfsMount> tmpfs,
                                                           std::uint64_t announced, std::size_t anonymous) {
  std::unique_ptr<LayerReceiver> receiver(new LayerReceiver);
  if (anonymous > 0) {
    std::vector<Fd> memory(anonymous);
    for (Fd& file : memory) {
      TRY(file, make_anonymous_memory());
    }
    receiver->sinks_.emplace_back(std::move(memory), pass_max(container.spec().memory_bytes));
    receiver->has_memory_ = true;
  }
  if (container.layer()) {
    const std::uint64_t writable = container.spec().writable_bytes;
    CHECK_OK(check_room(*container.layer(), announced, writable));
    TRY(LayerSink upper, LayerSink::open(container.layer()->upper(), pass_max(writable)));
    receiver->sinks_.push_back(std::move(upper));
  }
  for (const TmpfsMount& mount : tmpfs) {
    NewMount made;
    TRY(made.root, make_tmpfs(mount));
    made.source = container.directory() + "/tmpfs/" + std::to_string(receiver->mounts_.size());
    CHECK_OK(make_directories(made.source));
    struct statvfs size {};
    if (::fstatvfs(made.root.get(), &size) != 0) return fail_errno("look at the tmpfs of " + mount.target);
    Fd root(::fcntl(made.root.get(), F_DUPFD_CLOEXEC, 0));
    if (!root) return fail_errno("duplicate a descriptor");
    // One without a limit of its own has the container's.
    const std::uint64_t own = size.f_blocks * size.f_frsize;
    receiver->sinks_.emplace_back(std::move(root), pass_max(own > 0 ? own : container.spec().memory_bytes));
    receiver->mounts_.push_back(std::move(made));
  }
  receiver->nameless_.resize(receiver->sinks_.size());
  if (receiver->sinks_.empty()) receiver->complete_ = true;
  return receiver;
}

std::vector<int> LayerReceiver::memory() const {
  std::vector<int> files;
  if (!has_memory_) return files;
  for (const Fd& file : sinks_.front().memory()) files.push_back(file.get());
  return files;
}

std::vector<GivenFile> LayerReceiver::given() const {
  std::vector<GivenFile> files;
  if (!has_memory_) return files;
  for (const auto& [name, index] : sinks_.front().memory_names()) files.push_back({name, index});
  return files;
}

awaitable<Status> LayerReceiver::take(Link& link, Frame frame, Milliseconds limit) {
  if (complete_) co_return fail(Errc::kProtocol, "more writable files after their end");
  std::function<Status()> work = [this, &frame]() -> Status {
    if (frame.kind == Kind::kLayer) return sinks_[at_].apply(frame.payload);
    TRY(const json::object end, parse_object(frame.text()));
    return end_of_layer(end);
  };
  CO_CHECK_OK(co_await run_blocking(pool_, std::move(work)));
  if (!std::exchange(taken_, false)) co_return Status{};
  json::object nothing;
  co_return co_await link.send(Kind::kLayersTaken, std::move(nothing), limit);
}

Status LayerReceiver::end_of_layer(const json::object& end) {
  TRY(const std::uint64_t layer, get_u64(end, "layer"));
  if (layer != at_) return fail(Errc::kProtocol, "the end of another layer");
  CHECK_OK(sinks_[at_].finish_pass());
  at_ = (at_ + 1) % sinks_.size();
  TRY(const std::string pass, get_string(end, "pass"));
  if (end.contains("nameless")) {
    TRY(const json::array* paths, get_array(end, "nameless"));
    for (const json::value& path : *paths) {
      if (!path.is_string()) return fail(Errc::kProtocol, "the path of a file without a name is no text");
      nameless_[layer].emplace_back(path.get_string());
    }
  }
  complete_ = at_ == 0 && pass == kPassNames[static_cast<int>(LayerPass::kRest)];
  taken_ = at_ == 0 && pass == kPassNames[static_cast<int>(LayerPass::kRunning)];
  return {};
}

awaitable<Status> LayerReceiver::settle() {
  std::function<Status()> work = [this]() -> Status {
    for (std::size_t i = 0; i < sinks_.size(); ++i) CHECK_OK(sinks_[i].settle(nameless_[i]));
    return {};
  };
  co_return co_await run_blocking(pool_, std::move(work));
}

}  // namespace lifeboat
