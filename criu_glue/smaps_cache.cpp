#include "criu_glue/smaps_cache.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/file.hpp"

namespace lifeboat {

namespace {

constexpr std::size_t kBytesMax = 256U << 20;

// One mapping of smaps begins with its line of maps, and goes on with "Name: value" lines.
bool begins_mapping(std::string_view line) {
  const std::string_view word = line.substr(0, line.find(' '));
  return !word.empty() && word.back() != ':';
}

std::uint64_t hash_of_names(std::string_view smaps) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  while (!smaps.empty()) {
    const std::string_view line = smaps.substr(0, smaps.find('\n') + 1);
    if (line.empty()) break;
    if (begins_mapping(line)) XXH3_64bits_update(&state, line.data(), line.size());
    smaps.remove_prefix(line.size());
  }
  return XXH3_64bits_digest(&state);
}

// Null: nothing is kept.
const VmaReader* shared_reader() { return opened_once<VmaReader>("mappings are read during the freeze"); }

}  // namespace

// In pieces shorter than the text of one mapping: the kernel composes a mapping's text, for which it
// walks its page tables, again if it did not fit into what is left of its buffer of a page.
bool copy_smaps(pid_t pid, int to, std::uint64_t* names) {
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
  *names = hash_of_names(text);
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t size = ::write(to, text.data() + done, text.size() - done);
    if (size <= 0) return false;
    done += static_cast<std::size_t>(size);
  }
  return true;
}

std::uint64_t names_hash(pid_t pid) {
  auto maps = read_file("/proc/" + std::to_string(pid) + "/maps", kBytesMax);
  return maps ? hash_of_names(*maps) : 0;
}

void SmapsCache::look(const std::vector<pid_t>& pids) {
  const VmaReader* const reader = shared_reader();
  if (reader == nullptr) return;
  std::erase_if(entries_, [&](const auto& entry) {
    return std::find(pids.begin(), pids.end(), entry.first) == pids.end();
  });
  for (const pid_t pid : pids) {
    auto before = reader->read(pid);
    if (!before || before->empty()) continue;
    Entry& entry = entries_[pid];
    if (entry.text && entry.mappings == *before && entry.names == names_hash(pid)) continue;
    entry.text = Fd(::memfd_create("lifeboat-smaps", MFD_CLOEXEC));
    if (!entry.text || !copy_smaps(pid, entry.text.get(), &entry.names)) {
      entry.text.reset();
      continue;
    }
    auto after = reader->read(pid);
    if (after && *after == *before) {
      entry.mappings = std::move(*before);
    } else {
      entry.text.reset();
    }
  }
}

Fd SmapsCache::take(pid_t pid) {
  const auto entry = entries_.find(pid);
  if (entry == entries_.end() || !entry->second.text) return {};
  auto now = shared_reader()->read(pid);  // there is one: else there were no entries
  if (!now || *now != entry->second.mappings || names_hash(pid) != entry->second.names) return {};
  return std::move(entry->second.text);
}

}  // namespace lifeboat
