#include "criu_glue/shared_writes.hpp"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "criu_glue/descriptors.hpp"
#include "criu_glue/fork_counter.hpp"
#include "criu_glue/inject.hpp"
#include "criu_glue/write_protect.hpp"

namespace lifeboat {

namespace {

// Null: nothing is known of any file.
const ForkCounter* fork_counter() { return opened_once<ForkCounter>("writes to shared memory are not tracked"); }

// The file of a descriptor, as SharedMapping::file says it; nothing when that cannot be told.
std::optional<std::string> file_of(pid_t pid, const std::string& number) {
  struct stat info {};
  if (::stat(("/proc/" + std::to_string(pid) + "/fd/" + number).c_str(), &info) != 0) return std::nullopt;
  char text[64];
  std::snprintf(text, sizeof text, "%02x:%02x %llu", major(info.st_dev), minor(info.st_dev),
                static_cast<unsigned long long>(info.st_ino));
  return text;
}

std::vector<pid_t> sorted(std::vector<pid_t> pids) {
  std::sort(pids.begin(), pids.end());
  return pids;
}

}  // namespace

std::optional<SharedWrites::Files> SharedWrites::mappings_of_watched(const std::vector<pid_t>& pids) const {
  Files found;
  for (const pid_t pid : pids) {
    auto mappings = shared_mappings(pid);
    if (!mappings && mappings.error().code == Errc::kNotFound) continue;
    if (!mappings) return std::nullopt;
    for (const SharedMapping& mapping : *mappings) {
      if (files_.contains(mapping.file)) found[mapping.file].emplace_back(pid, mapping);
    }
  }
  return found;
}

void SharedWrites::attach(pid_t pid) {
  if (processes_.contains(pid)) return;
  auto pagemap = Pagemap::open(pid);
  if (!pagemap) return;
  auto uffd = inject_userfaultfd(pid);
  if (!uffd || !write_protect::enable(uffd->get(), true)) return;
  processes_.emplace(pid, Process{std::move(*pagemap), std::move(*uffd)});
}

// All of them, where a descriptor cannot be looked at.
void SharedWrites::forget_what_descriptors_reach(const std::vector<pid_t>& pids) {
  for (const pid_t pid : pids) {
    const bool read = each_descriptor(pid, [&](const std::string& number, const std::string& target) {
      if (is_for_direct_io(pid, number, target).value_or(true)) files_.clear();
      if (!target.ends_with(" (deleted)")) return files_.empty();
      if (const auto file = file_of(pid, number)) {
        files_.erase(*file);
      } else {
        files_.clear();
      }
      return files_.empty();
    });
    if (!read) files_.clear();
  }
}

// Everything stands still: as it is now, it has to be in the end.
void SharedWrites::note_frozen() {
  const std::vector<pid_t> pids = sorted(cgroup_.pids());
  const auto forks = fork_counter()->read(init_);
  auto now = mappings_of_watched(pids);
  if (!forks || !now) {
    files_.clear();
    return;
  }
  forks_ = *forks;
  for (auto& [name, mappings] : *now) {
    const bool registered = std::all_of(mappings.begin(), mappings.end(), [&](const auto& mapping) {
      const auto process = processes_.find(mapping.first);
      return process != processes_.end() &&
             write_protect::register_range(process->second.uffd.get(), mapping.second.range);
    });
    if (registered) files_[name] = std::move(mappings);
  }
  std::erase_if(files_, [](const auto& file) { return file.second.empty(); });
  forget_what_descriptors_reach(pids);
}

Status SharedWrites::watch(const std::vector<SharedFile>& files) {
  removed_ = {};
  processes_.clear();
  files_.clear();
  watched_by_.clear();
  events_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (fork_counter() == nullptr || !has_pagemap_scan() || !events_) return {};
  for (const SharedFile& file : files) {
    const std::string path = "/proc/self/fd/" + std::to_string(file.fd);
    const int number = ::inotify_add_watch(events_.get(), path.c_str(), IN_OPEN | IN_MODIFY);
    if (number < 0) continue;
    watched_by_[number] = file.mapped_as;
    files_[file.mapped_as];
  }
  const auto now = mappings_of_watched(cgroup_.pids());
  for (const auto& [name, mappings] : now.value_or(Files())) {
    for (const auto& [pid, mapping] : mappings) attach(pid);
  }
  std::vector<std::pair<pid_t, int>> uffds;
  for (const auto& [pid, process] : processes_) uffds.emplace_back(pid, process.uffd.get());
  auto removed = RemovedRanges::watch(std::move(uffds));
  if (!removed) {
    files_.clear();
    return {};
  }
  removed_ = std::move(*removed);
  if (cgroup_.freeze_briefly()) {
    note_frozen();
  } else {
    files_.clear();
  }
  CHECK_OK(cgroup_.thaw());
  std::erase_if(files_, [&](const auto& file) {
    return !std::all_of(file.second.begin(), file.second.end(), [&](const auto& mapping) {
      return write_protect::set(processes_.at(mapping.first).uffd.get(), mapping.second.range, true);
    });
  });
  return {};
}

void SharedWrites::forget_with_events() {
  alignas(inotify_event) char buffer[4096];
  for (;;) {
    const ssize_t size = ::read(events_.get(), buffer, sizeof buffer);
    if (size <= 0) return;
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      if ((event->mask & IN_Q_OVERFLOW) != 0) files_.clear();
      if (const auto name = watched_by_.find(event->wd); name != watched_by_.end()) files_.erase(name->second);
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
}

void SharedWrites::check() {
  if (files_.empty()) return;
  const auto forks = fork_counter()->read(init_);
  if (!forks || *forks != forks_) files_.clear();
  forget_with_events();
  if (!removed_.so_far()) files_.clear();
  const std::vector<pid_t> pids = sorted(cgroup_.pids());
  forget_what_descriptors_reach(pids);
  const auto now = mappings_of_watched(pids);
  if (!now) files_.clear();
  std::erase_if(files_, [&](const auto& file) {
    const auto found = now->find(file.first);
    return found == now->end() || found->second != file.second;
  });
}

std::optional<std::vector<FileRange>> SharedWrites::written(const std::string& mapped_as) const {
  return scan(mapped_as, PM_SCAN_CHECK_WPASYNC);
}

std::optional<std::vector<FileRange>> SharedWrites::collect(const std::string& mapped_as) {
  auto found = scan(mapped_as, PM_SCAN_CHECK_WPASYNC | PM_SCAN_WP_MATCHING);
  if (!found) files_.erase(mapped_as);  // part of it may be protected again
  return found;
}

std::optional<std::vector<FileRange>> SharedWrites::scan(const std::string& mapped_as, std::uint64_t flags) const {
  const auto file = files_.find(mapped_as);
  const auto removed = removed_.so_far();
  if (file == files_.end() || !removed) return std::nullopt;
  pm_scan_arg request{};
  request.flags = flags;
  request.category_mask = PAGE_IS_WRITTEN;
  request.return_mask = PAGE_IS_WRITTEN;
  std::vector<FileRange> found;
  for (const auto& [pid, mapping] : file->second) {
    const std::uint64_t start = mapping.range.start;
    const int error = processes_.at(pid).pagemap.scan(mapping.range, request, [&](const page_region& region) {
      found.push_back({region.start - start + mapping.offset, region.end - start + mapping.offset});
    });
    if (error != 0) return std::nullopt;
    for (const RemovedRanges::Place& place : *removed) {
      const std::uint64_t from = std::max(place.range.start, start);
      const std::uint64_t to = std::min(place.range.end, mapping.range.end);
      if (place.pid == pid && from < to) found.push_back({from - start + mapping.offset, to - start + mapping.offset});
    }
  }
  std::sort(found.begin(), found.end(), [](const FileRange& a, const FileRange& b) { return a.start < b.start; });
  std::vector<FileRange> apart;
  for (const FileRange& range : found) {
    if (apart.empty() || range.start > apart.back().end) {
      apart.push_back(range);
    } else {
      apart.back().end = std::max(apart.back().end, range.end);
    }
  }
  return apart;
}

}  // namespace lifeboat
