#include "criu_glue/smaps_ahead.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <system_error>

namespace lifeboat {

namespace {

constexpr std::size_t kThreads = 2;

}  // namespace

SmapsAhead::SmapsAhead(HideList& list, SmapsCache& cache, const std::vector<pid_t>& pids)
    : list_(&list) {
  list.clear_texts();
  for (const pid_t pid : pids) {
    Fd memory = cache.take(pid);
    const bool known = static_cast<bool>(memory);
    if (!known) memory = Fd(::memfd_create("lifeboat-smaps", MFD_CLOEXEC));
    if (!memory) break;
    const std::string path =
        "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(memory.get());
    const auto slot = list.add_text(static_cast<std::uint32_t>(pid), path);
    if (!slot) break;
    if (known) list.set_text(*slot, true);
    (known ? known_ : wanted_).push_back({pid, std::move(memory), *slot});
  }
  const std::size_t threads = std::min(kThreads, wanted_.size());
  try {
    for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { read_all(); });
  } catch (const std::system_error&) {
    read_all();  // no more threads to be had
  }
}

void SmapsAhead::read_all() {
  for (std::size_t i = next_++; i < wanted_.size(); i = next_++) {
    std::uint64_t names = 0;
    list_->set_text(wanted_[i].slot, copy_smaps(wanted_[i].pid, wanted_[i].memory.get(), &names));
  }
}

SmapsAhead::~SmapsAhead() {
  threads_.clear();
  list_->clear_texts();
}

}  // namespace lifeboat
