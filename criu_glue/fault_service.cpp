#include "criu_glue/fault_service.hpp"

#include <linux/userfaultfd.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <system_error>

#include "base/ordinary_turn.hpp"

namespace lifeboat {

namespace {

constexpr std::uint64_t kFaultAround = 64U << 10;
constexpr std::uint64_t kPushPiece = 256U << 10;
constexpr unsigned kPushThreads = 2;
constexpr unsigned kStuckMax = 2000;  // of 1 ms

// Whoever waits there looks again.
void wake(int uffd, std::uint64_t address, std::uint64_t bytes) {
  uffdio_range range{address, bytes};
  (void)::ioctl(uffd, UFFDIO_WAKE, &range);
}

// Whether a change of mappings is under way that has not been told, or was told and its thread not woken yet.
bool is_changing(int uffd) {
  uffdio_copy nothing{};
  return ::ioctl(uffd, UFFDIO_COPY, &nothing) != 0 && errno == EAGAIN;
}

}  // namespace

FaultService::FaultService(std::function<void(const std::string&)> on_fatal,
                           std::function<void(const RemotePages&)> on_want)
    : on_fatal_(std::move(on_fatal)),
      on_want_(std::move(on_want)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event);
  threads_.emplace_back([this] { serve(); });
}

FaultService::~FaultService() {
  stopping_ = true;
  (void)::eventfd_write(wake_.get(), 1);
  for (std::thread& thread : threads_) thread.join();
}

void FaultService::add(std::uint32_t pid, Fd uffd, Missing missing) {
  auto space = std::make_shared<Space>(
      MissingPages(std::move(missing.pending), std::move(missing.absent), missing.moved));
  space->pid = pid;
  space->uffd = std::move(uffd);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = space.get();
  {
    const std::lock_guard lock(spaces_mutex_);
    spaces_.push_back(space);
  }
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, space->uffd.get(), &event) != 0) {
    on_fatal_(std::string("epoll: ") + std::strerror(errno));
  }
}

Status FaultService::push() {
  if (pushing_.exchange(true)) return {};
  const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1U, kPushThreads);
  const std::size_t before = threads_.size();
  try {
    for (unsigned i = 0; i < count; ++i) {
      threads_.emplace_back([this, turn = std::make_shared<OrdinaryTurn>()] { fill(*turn); });
    }
  } catch (const std::system_error& error) {
    if (threads_.size() > before) return {};  // slower
    pushing_ = false;
    return fail(Errc::kUnavailable, std::string("no thread to fill memory with: ") + error.what());
  }
  return {};
}

// A copy of the list: the reader of a process adds its children to it.
std::vector<std::shared_ptr<FaultService::Space>> FaultService::spaces() const {
  const std::lock_guard lock(spaces_mutex_);
  return spaces_;
}

std::uint64_t FaultService::bytes_left() const {
  std::uint64_t bytes = 0;
  for (const auto& space : spaces()) {
    const std::lock_guard inner(space->mutex);
    if (!space->gone) bytes += space->bytes();
    if (space->copying > 0) ++bytes;  // not over yet
  }
  return bytes;
}

std::uint64_t FaultService::bytes_absent() const {
  std::uint64_t bytes = 0;
  for (const auto& space : spaces()) {
    const std::lock_guard inner(space->mutex);
    if (!space->gone) bytes += space->absent.bytes();
  }
  return bytes;
}

namespace {

std::uint64_t source_address(const Pending::Piece& piece) {
  return reinterpret_cast<std::uint64_t>(piece.source);
}

// In order, and what touches or overlaps made one.
std::vector<RemotePages> merged(std::vector<RemotePages> list) {
  std::sort(list.begin(), list.end(), [](const RemotePages& a, const RemotePages& b) {
    return std::pair(a.pid, a.address) < std::pair(b.pid, b.address);
  });
  std::vector<RemotePages> out;
  for (const RemotePages& next : list) {
    const std::uint64_t end = next.address + next.pages * kPageBytes;
    if (!out.empty() && out.back().pid == next.pid) {
      RemotePages& last = out.back();
      const std::uint64_t last_end = last.address + last.pages * kPageBytes;
      if (next.address <= last_end) {
        if (end > last_end) last.pages += static_cast<std::uint32_t>((end - last_end) / kPageBytes);
        continue;
      }
    }
    out.push_back(next);
  }
  return out;
}

}  // namespace

std::vector<RemotePages> FaultService::absent() const {
  std::vector<RemotePages> list;
  for (const auto& space : spaces()) {
    const std::lock_guard inner(space->mutex);
    if (space->gone) continue;
    for (const Pending::Piece& piece : space->absent.pieces()) {
      list.push_back({space->pid, static_cast<std::uint32_t>(piece.bytes / kPageBytes),
                      source_address(piece)});
    }
  }
  return merged(std::move(list));
}

std::vector<RemotePages> FaultService::wanted() const {
  std::vector<RemotePages> list;
  for (const auto& space : spaces()) {
    const std::lock_guard inner(space->mutex);
    for (const auto& [source, address] : space->waiting) list.push_back({space->pid, 1, source});
  }
  return merged(std::move(list));
}

bool FaultService::done() const { return pushing_ && bytes_left() == 0; }

std::size_t FaultService::processes() const {
  const std::lock_guard lock(spaces_mutex_);
  return spaces_.size();
}

void FaultService::serve() {
  epoll_event events[16];
  while (!stopping_) {
    const int n = ::epoll_wait(epoll_.get(), events, 16, -1);
    for (int i = 0; i < n; ++i) {
      if (events[i].data.ptr != nullptr) handle(*static_cast<Space*>(events[i].data.ptr));
    }
  }
}

// Reads and does everything that is there.
void FaultService::handle(Space& space) {
  std::unique_lock lock(space.mutex);
  space.reader_waits = true;
  space.changed.wait(lock, [&] { return space.copying == 0; });
  std::vector<std::uint64_t> faults;
  for (;;) {
    uffd_msg messages[16];
    const ssize_t n = ::read(space.uffd.get(), messages, sizeof messages);
    if (n <= 0) {
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno != EAGAIN) {
        space.gone = true;
        (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, space.uffd.get(), nullptr);
      }
      if (faults.empty() || space.gone) break;
      // Nothing more to read: now the faults. One that could not be served comes back here.
      const std::uint64_t address = faults.back();
      faults.pop_back();
      serve_fault(space, address);
      continue;
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(n) / sizeof(uffd_msg); ++i) {
      const uffd_msg& message = messages[i];
      switch (message.event) {
        case UFFD_EVENT_PAGEFAULT:
          ++faults_;
          faults.push_back(message.arg.pagefault.address / kPageBytes * kPageBytes);
          break;
        case UFFD_EVENT_REMAP:
          space.move(message.arg.remap.from, message.arg.remap.to, message.arg.remap.len);
          wake_waiting(space, message.arg.remap.from, message.arg.remap.from + message.arg.remap.len);
          break;
        case UFFD_EVENT_UNMAP:
          if (!space.unmap(message.arg.remove.start, message.arg.remove.end)) break;
          wake_waiting(space, message.arg.remove.start, message.arg.remove.end);
          break;
        case UFFD_EVENT_REMOVE:
          space.give_up(message.arg.remove.start, message.arg.remove.end);
          wake_waiting(space, message.arg.remove.start, message.arg.remove.end);
          break;
        case UFFD_EVENT_FORK: {
          forked_ = true;
          Missing same{space.pending, space.absent, space.moved};
          add(space.pid, Fd(static_cast<int>(message.arg.fork.ufd)), std::move(same));
          break;
        }
        default: on_fatal_("an event of userfaultfd that is not known"); break;
      }
    }
  }
  space.reader_waits = false;
  lock.unlock();
  space.changed.notify_all();
}

void FaultService::serve_fault(Space& space, std::uint64_t address) {
  space.hint = address;
  auto piece = space.pending.take_around(address, kFaultAround);
  if (piece) {
    // A retry comes by itself: what is put back is asked for again when the thread is woken.
    if (copy(space, *piece, true) == Copy::kDone) return;
    wake(space.uffd.get(), address, kPageBytes);
    return;
  }
  if (space.absent.contains(address)) {
    ask(space, address);
    return;
  }
  uffdio_zeropage zero{};
  zero.range.start = address;
  zero.range.len = kPageBytes;
  if (::ioctl(space.uffd.get(), UFFDIO_ZEROPAGE, &zero) == 0) return;
  // There already (EEXIST), in motion (EAGAIN) or gone: let the thread look again.
  wake(space.uffd.get(), address, kPageBytes);
}

// All around the page is asked for too, and comes with it; arrived() wakes the thread.
void FaultService::ask(Space& space, std::uint64_t address) {
  const auto absent = space.absent.take_around(address, kFaultAround);
  space.absent.add(*absent);
  const std::uint64_t wanted = source_address(*absent) + (address - absent->address);
  if (!space.waiting.emplace(wanted, address).second) return;
  on_want_({space.pid, static_cast<std::uint32_t>(absent->bytes / kPageBytes),
            source_address(*absent)});
}

// Whoever waits for a page there looks again.
void FaultService::wake_waiting(Space& space, std::uint64_t start, std::uint64_t end) {
  std::erase_if(space.waiting, [&](const auto& item) {
    if (item.second < start || item.second >= end) return false;
    wake(space.uffd.get(), item.second, kPageBytes);
    return true;
  });
}

void FaultService::arrived(const RemotePages& pages, const unsigned char* bytes, unsigned char* place) {
  // A process that forks meanwhile hands what it lacks to its child: again for those that are new.
  std::size_t done = 0;
  for (auto all = spaces(); done < all.size(); all = spaces()) {
    for (; done < all.size(); ++done) {
      if (all[done]->pid == pages.pid) deliver(*all[done], pages, bytes, place);
    }
  }
}

void FaultService::deliver(Space& space, const RemotePages& pages, const unsigned char* bytes,
                           unsigned char* place) {
  const std::uint64_t size = pages.pages * kPageBytes;
  std::unique_lock lock(space.mutex);
  space.changed.wait(lock, [&] { return !space.reader_waits; });
  if (space.gone) return;
  const auto* const source = reinterpret_cast<const unsigned char*>(pages.address);
  auto found = space.moved ? space.absent.take_from_source(source, size)
                           : space.absent.take_within(pages.address, pages.address + size);
  const auto bring = [&](Pending::Piece& piece) {
    const std::uint64_t offset = source_address(piece) - pages.address;
    piece.source = place + offset;
    std::memcpy(piece.source, bytes + offset, piece.bytes);
  };
  for (Pending::Piece& piece : space.absent.displaced.take_from_source(source, size)) {
    if (bytes == nullptr) continue;
    bring(piece);
    space.pending.displaced.add(piece);
  }
  const auto first = space.waiting.lower_bound(pages.address);
  const auto last = space.waiting.lower_bound(pages.address + size);
  for (Pending::Piece& piece : found) {
    if (bytes == nullptr) continue;  // neither pending nor absent: zeros
    bring(piece);
    if (first == last) {
      space.pending.add(piece);
    } else {
      (void)copy(space, piece, true);  // if not now, it is pending
    }
  }
  for (auto at = first; at != last; ++at) wake(space.uffd.get(), at->second, kPageBytes);
  space.waiting.erase(first, last);
}

void FaultService::placed(const Pending::Piece& piece) {
  placed_ += piece.bytes;
  if (forked_) return;
  auto* const chunk = reinterpret_cast<unsigned char*>(
      reinterpret_cast<std::uintptr_t>(piece.source) / kChunkBytes * kChunkBytes);
  const std::lock_guard lock(chunks_mutex_);
  const auto at = chunk_left_.find(chunk);
  if (at == chunk_left_.end()) {
    (void)::madvise(piece.source, piece.bytes, MADV_DONTNEED);
    return;
  }
  at->second -= std::min(at->second, static_cast<std::uint32_t>(piece.bytes / kPageBytes));
  if (at->second > 0) return;
  (void)::madvise(chunk, kChunkBytes, MADV_DONTNEED);
  chunk_left_.erase(at);
}

void FaultService::put_back(Space& space, const Pending::Piece& piece, bool locked) {
  if (piece.bytes == 0) return;
  if (locked) {
    space.pending.add(piece);
    return;
  }
  const std::lock_guard lock(space.mutex);
  space.pending.add(piece);
}

FaultService::Copy FaultService::copy(Space& space, const Pending::Piece& wanted, bool locked) {
  Pending::Piece piece = wanted;
  std::uint64_t step = piece.bytes;
  while (piece.bytes > 0) {
    uffdio_copy request{};
    request.dst = piece.address;
    request.src = reinterpret_cast<std::uint64_t>(piece.source);
    request.len = std::min(step, piece.bytes);
    const int result = ::ioctl(space.uffd.get(), UFFDIO_COPY, &request);
    const int error = errno;
    const std::uint64_t copied = result == 0 ? request.len
                                 : request.copy > 0 ? static_cast<std::uint64_t>(request.copy)
                                                    : 0;
    if (copied > 0) {
      placed({piece.address, copied, piece.source});
      piece = {piece.address + copied, piece.bytes - copied, piece.source + copied};
      space.stuck = 0;
      continue;
    }
    switch (error) {
      case EEXIST: {
        // The page is there already; whoever waits for it may look again.
        wake(space.uffd.get(), piece.address, kPageBytes);
        placed({piece.address, kPageBytes, piece.source});
        piece = {piece.address + kPageBytes, piece.bytes - kPageBytes, piece.source + kPageBytes};
        break;
      }
      case ENOENT:
        // Across the border of two mappings (mprotect makes them without telling), or not
        // registered yet while the restore is going on.
        if (step > kPageBytes) {
          step = kPageBytes;
          break;
        }
        [[fallthrough]];
      case EAGAIN:
        put_back(space, piece, locked);
        if (error == ENOENT && ++space.stuck > kStuckMax && pushing_) {
          on_fatal_("no place for the page at " + std::to_string(piece.address));
        }
        return Copy::kRetry;
      case ESRCH:
      case ENOSPC:
      case EBADF:
        space.gone = true;
        return Copy::kGone;
      case EINTR: break;
      default:
        put_back(space, piece, locked);
        on_fatal_(std::string("UFFDIO_COPY: ") + std::strerror(error));
        return Copy::kRetry;
    }
  }
  return Copy::kDone;
}

// The process runs by now: it gets its part of the processors, and its faults go before all this.
void FaultService::fill(OrdinaryTurn& turn) {
  auto until = std::chrono::steady_clock::now();
  while (!stopping_) {
    bool idle = true;
    for (const auto& space : spaces()) {
      if (std::chrono::steady_clock::now() >= until) until = turn.wait();
      std::unique_lock lock(space->mutex);
      space->changed.wait(lock, [&] { return !space->reader_waits; });
      if (space->gone) continue;
      if (space->untold() && !is_changing(space->uffd.get())) space->all_is_told();
      auto piece = space->pending.take_next(space->hint, kPushPiece);
      if (!piece) continue;
      space->hint = piece->address + piece->bytes;
      ++space->copying;
      lock.unlock();
      const Copy result = copy(*space, *piece, false);
      lock.lock();
      --space->copying;
      lock.unlock();
      space->changed.notify_all();
      if (result == Copy::kDone) {
        idle = false;
      } else {
        ::usleep(1000);
      }
    }
    if (!idle) continue;
    if (done()) return;
    ::usleep(1000);
  }
}

}  // namespace lifeboat
