#include "criu_glue/removed_ranges.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <mutex>
#include <system_error>

#include "criu_glue/kernel_api.hpp"

namespace lifeboat {

namespace {

constexpr std::size_t kPlacesMax = 4096;

}  // namespace

struct RemovedRanges::Shared {
  std::mutex mutex;  // held from before an event is read, which lets its process go on, until it is noted
  std::vector<Place> places;
  bool too_many = false;

  void note(pid_t pid, const AddressRange& range) {
    if (!places.empty() && places.back().pid == pid && places.back().range.end == range.start) {
      places.back().range.end = range.end;
    } else if (places.size() < kPlacesMax) {
      places.push_back({pid, range});
    } else {
      too_many = true;
    }
  }

  // False when there will be no more.
  bool read_events(pid_t pid, int uffd) {
    const std::lock_guard lock(mutex);
    uffd_msg message{};
    ssize_t size = 0;
    while ((size = ::read(uffd, &message, sizeof message)) == static_cast<ssize_t>(sizeof message)) {
      if (message.event == UFFD_EVENT_REMOVE) note(pid, {message.arg.remove.start, message.arg.remove.end});
    }
    return size < 0 && (errno == EAGAIN || errno == EINTR);
  }

  void run(int stop, const std::vector<std::pair<pid_t, int>>& uffds) {
    constexpr int kNice = -20;  // the process waits for it
    (void)::setpriority(PRIO_PROCESS, 0, kNice);
    std::vector<pollfd> polled{{stop, POLLIN, 0}};
    for (const auto& [pid, uffd] : uffds) polled.push_back({uffd, POLLIN, 0});
    while (polled[0].revents == 0) {
      if (::poll(polled.data(), polled.size(), -1) < 0) continue;
      for (std::size_t i = 1; i < polled.size(); ++i) {
        if (polled[i].revents != 0 && !read_events(uffds[i - 1].first, polled[i].fd)) polled[i].fd = -1;
      }
    }
  }
};

Result<RemovedRanges> RemovedRanges::watch(std::vector<std::pair<pid_t, int>> uffds) {
  RemovedRanges watched;
  watched.stop_ = Fd(::eventfd(0, EFD_CLOEXEC));
  if (!watched.stop_) return fail_errno("watch what is removed");
  watched.shared_ = std::make_shared<Shared>();
  try {
    watched.thread_ = std::thread([shared = watched.shared_, stop = watched.stop_.get(), uffds = std::move(uffds)] {
      shared->run(stop, uffds);
    });
  } catch (const std::system_error& error) {
    return fail(Errc::kSystem, std::string("watch what is removed: ") + error.what());
  }
  return watched;
}

RemovedRanges& RemovedRanges::operator=(RemovedRanges&& other) noexcept {
  stop();
  stop_ = std::move(other.stop_);
  shared_ = std::move(other.shared_);
  thread_ = std::move(other.thread_);
  return *this;
}

void RemovedRanges::stop() {
  if (!thread_.joinable()) return;
  (void)::eventfd_write(stop_.get(), 1);
  thread_.join();
}

std::optional<std::vector<RemovedRanges::Place>> RemovedRanges::so_far() const {
  if (!shared_) return std::vector<Place>();
  const std::lock_guard lock(shared_->mutex);
  if (shared_->too_many) return std::nullopt;
  return shared_->places;
}

}  // namespace lifeboat
