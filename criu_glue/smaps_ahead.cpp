#include "criu_glue/smaps_ahead.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace lifeboat {

namespace {

constexpr std::size_t kThreads = 2;
constexpr std::size_t kBytesMax = 256U << 20;

// In pieces shorter than the text of one mapping: the kernel composes a mapping's text, for which it
// walks its page tables, again if it did not fit into what is left of its buffer of a page.
bool copy_smaps(pid_t pid, int to) {
  const Fd smaps(::open(("/proc/" + std::to_string(pid) + "/smaps").c_str(), O_RDONLY | O_CLOEXEC));
  if (!smaps) return false;
  std::string text;
  char piece[512];
  for (;;) {
    const ssize_t size = ::read(smaps.get(), piece, sizeof piece);
    if (size < 0 || text.size() > kBytesMax) return false;
    if (size == 0) break;
    text.append(piece, static_cast<std::size_t>(size));
  }
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t size = ::write(to, text.data() + done, text.size() - done);
    if (size <= 0) return false;
    done += static_cast<std::size_t>(size);
  }
  return true;
}

}  // namespace

SmapsAhead::SmapsAhead(HideList& list, const std::vector<pid_t>& pids) : list_(&list) {
  list.clear_texts();
  for (const pid_t pid : pids) {
    Fd memory(::memfd_create("lifeboat-smaps", MFD_CLOEXEC));
    if (!memory) break;
    const std::string path =
        "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(memory.get());
    const auto slot = list.add_text(static_cast<std::uint32_t>(pid), path);
    if (!slot) break;
    texts_.push_back({pid, std::move(memory), *slot});
  }
  const std::size_t threads = std::min(kThreads, texts_.size());
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { read_all(); });
}

void SmapsAhead::read_all() {
  for (std::size_t i = next_++; i < texts_.size(); i = next_++) {
    list_->set_text(texts_[i].slot, copy_smaps(texts_[i].pid, texts_[i].memory.get()));
  }
}

SmapsAhead::~SmapsAhead() {
  for (std::thread& thread : threads_) thread.join();
  list_->clear_texts();
}

}  // namespace lifeboat
