// hide_list.hpp - which memory CRIU is not to see during a dump: the daemon's end of
// hide_pages.h. The list lies in a memfd, so it can be filled after CRIU was started.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"

struct lifeboat_hide_list;

namespace lifeboat {

// Addresses of one process, multiples of the page size, `end` excluded. Only whole mappings of
// private anonymous memory belong here: what CRIU leaves out, nobody else brings back.
struct HiddenRange {
  std::uint32_t pid = 0;  // as seen here, not in the container
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  bool operator==(const HiddenRange&) const = default;
};

// A file without a name that CRIU is to leave to us. One that has lost its name is to seem as if it had not: a file
// with that name must be there when CRIU restores. For anonymous shared memory it is to be given a descriptor.
struct CarriedFile {
  dev_t device = 0;
  ino_t inode = 0;
  std::string path;  // from the container's root on; of anonymous memory external_file_name() (anonymous_memory.hpp)
  bool anonymous = false;
};

// What the library did, so far.
struct HideCounters {
  std::uint64_t loads = 0;          // 0: CRIU runs without it
  std::uint64_t scans = 0;          // looks for present pages
  std::uint64_t hidden_scans = 0;   // of these: some or all of the area was hidden
  std::uint64_t hidden_ranges = 0;  // ranges left out, summed over all scans
  std::uint64_t unknown_scans = 0;  // of a process that could not be told: nothing hidden
  std::uint64_t texts_used = 0;     // smaps that CRIU got from here
  std::uint64_t files_named = 0;    // times that a file without a name seemed another one
};

class HideList {
 public:
  static Result<HideList> create();
  HideList(HideList&& other) noexcept;
  HideList& operator=(HideList&&) = delete;
  ~HideList();

  // Replaces the list, in any order; not while CRIU works on a request. kInvalid: a range is empty,
  // not aligned or overlaps another; kRefused: too many.
  [[nodiscard]] Status set(std::vector<HiddenRange> ranges);
  // Replaces these, on the same terms. Those for which there is no room CRIU sees as they are.
  void set_files(const std::vector<CarriedFile>& files);
  // For smaps_ahead.hpp. A text that is not ready yet is waited for. Nothing: there are too many.
  [[nodiscard]] std::optional<std::size_t> add_text(std::uint32_t pid, const std::string& path);
  void set_text(std::size_t slot, bool ready);
  void clear_texts();
  [[nodiscard]] HideCounters counters() const;
  // What the library gets.
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  HideList(Fd fd, lifeboat_hide_list* list) : fd_(std::move(fd)), list_(list) {}
  Fd fd_;
  lifeboat_hide_list* list_ = nullptr;
};

}  // namespace lifeboat
