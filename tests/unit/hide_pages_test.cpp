// liblifeboat-criu.so, loaded into this process instead of CRIU and asked as CRIU asks.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/fd.hpp"
#include "criu_glue/anonymous_memory.hpp"
#include "criu_glue/hide_list.hpp"
#include "criu_glue/hide_pages.h"
#include "criu_glue/memory.hpp"
#include "criu_glue/smaps_ahead.hpp"

namespace lifeboat {
namespace {

struct Scan {
  std::uint64_t size = sizeof(Scan), flags = 0, start = 0, end = 0, walk_end = 0, vec = 0,
                vec_len = 0, max_pages = 0, inverted = 0, mask = 0, anyof = 0, wanted = 0;
};
struct Region {
  std::uint64_t start, end, categories;
};
constexpr unsigned long kScan = _IOWR('f', 16, Scan);
constexpr std::uint64_t kPresent = 1U << 3, kSwapped = 1U << 4;
constexpr std::size_t kPages = 64;

// The library as CRIU has it, with `list` or without.
class Library {
 public:
  explicit Library(const HideList* list) {
    // The library closes the descriptor it is given.
    if (list != nullptr) {
      setenv(LIFEBOAT_HIDE_VARIABLE, std::to_string(::dup(list->fd())).c_str(), 1);
    }
    const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    const char* elsewhere = std::getenv("LIFEBOAT_CRIU_LIBRARY");
    const std::string path = elsewhere != nullptr ? elsewhere : beside / "liblifeboat-criu.so";
    handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    unsetenv(LIFEBOAT_HIDE_VARIABLE);
    if (handle_ == nullptr) throw std::runtime_error(::dlerror());
    find(ioctl, "ioctl");
    find(openat, "openat64");
    find(read, "read");
    find(close, "close");
    find(pread, "pread64");
    find(fstat, "fstat64");
    find(fstatat, "fstatat64");
    find(readlink, "readlink");
  }
  Library(const Library&) = delete;
  ~Library() { ::dlclose(handle_); }

  int (*ioctl)(int, unsigned long, ...) = nullptr;
  int (*openat)(int, const char*, int, ...) = nullptr;
  ssize_t (*read)(int, void*, std::size_t) = nullptr;
  int (*close)(int) = nullptr;
  ssize_t (*pread)(int, void*, std::size_t, off64_t) = nullptr;
  int (*fstat)(int, struct stat*) = nullptr;
  int (*fstatat)(int, const char*, struct stat*, int) = nullptr;
  ssize_t (*readlink)(const char*, char*, std::size_t) = nullptr;

 private:
  template <class Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(::dlsym(handle_, name));
  }
  void* handle_ = nullptr;
};

class HidePages : public ::testing::Test {
 protected:
  void SetUp() override {
    void* memory = ::mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    ::madvise(memory, kPages * kPageBytes, MADV_NOHUGEPAGE);
    for (std::size_t i = 0; i < kPages; ++i) static_cast<char*>(memory)[i * kPageBytes] = 1;
    start_ = reinterpret_cast<std::uint64_t>(memory);
    pagemap_ = Fd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(pagemap_);
    auto list = HideList::create();
    ASSERT_TRUE(list.has_value());
    list_ = std::make_unique<HideList>(std::move(*list));
    if (text(nullptr, all()) == "error" && asks_by_scan()) {
      GTEST_SKIP() << "this kernel has no PAGEMAP_SCAN";
    }
  }
  // False where the test reads the file instead, as CRIU does on older kernels.
  virtual bool asks_by_scan() { return true; }
  void TearDown() override {
    ::munmap(reinterpret_cast<void*>(start_), kPages * kPageBytes);
  }

  // Pages by their number in the test's memory.
  [[nodiscard]] HiddenRange range(std::uint64_t from, std::uint64_t to) const {
    HiddenRange hidden;
    hidden.pid = static_cast<std::uint32_t>(::getpid());
    hidden.start = start_ + from * kPageBytes;
    hidden.end = start_ + to * kPageBytes;
    return hidden;
  }
  void hide(std::vector<HiddenRange> ranges) {
    ASSERT_TRUE(list_->set(std::move(ranges)).has_value());
  }
  [[nodiscard]] Scan all() const {
    Scan scan;
    scan.start = start_;
    scan.end = start_ + kPages * kPageBytes;
    scan.vec_len = 100;
    scan.anyof = kPresent | kSwapped;
    scan.wanted = kPresent | kSwapped;
    return scan;
  }
  // "FROM-TO ... ; end WALK_END", in numbers of pages.
  std::string text(const Library* library, Scan scan) const {
    std::vector<Region> regions(100);
    scan.vec = reinterpret_cast<std::uint64_t>(regions.data());
    const int found = library == nullptr ? ::ioctl(pagemap_.get(), kScan, &scan)
                                         : library->ioctl(pagemap_.get(), kScan, &scan);
    if (found < 0) return "error";
    std::string all;
    for (int i = 0; i < found; ++i) {
      const Region& region = regions[static_cast<std::size_t>(i)];
      all += number(region.start) + "-" + number(region.end) + " ";
    }
    return all + "; end " + number(scan.walk_end);
  }
  [[nodiscard]] std::string number(std::uint64_t address) const {
    return std::to_string((address - start_) / kPageBytes);
  }

  std::uint64_t start_ = 0;
  Fd pagemap_;
  std::unique_ptr<HideList> list_;
};

TEST_F(HidePages, WithoutAListNothingChanges) {
  const Library library(nullptr);
  EXPECT_EQ(text(&library, all()), "0-64 ; end 64");
}

TEST_F(HidePages, ListFilledAfterLoadingIsObeyed) {
  const Library library(list_.get());
  EXPECT_EQ(text(&library, all()), "0-64 ; end 64");
  hide({range(20, 24), range(8, 16)});
  EXPECT_EQ(text(&library, all()), "0-8 16-20 24-64 ; end 64");
  const HideCounters counters = list_->counters();
  EXPECT_EQ(counters.loads, 1U);
  EXPECT_EQ(counters.scans, 2U);
  EXPECT_EQ(counters.hidden_scans, 1U);
  EXPECT_EQ(counters.hidden_ranges, 2U);
  EXPECT_EQ(counters.unknown_scans, 0U);
}

TEST_F(HidePages, EdgesAndAll) {
  const Library library(list_.get());
  hide({range(0, 4), range(60, 64)});
  EXPECT_EQ(text(&library, all()), "4-60 ; end 64");
  hide({range(0, 64)});
  EXPECT_EQ(text(&library, all()), "; end 64");
  hide({range(0, 32), range(32, 64)});
  EXPECT_EQ(text(&library, all()), "; end 64");
  Scan part = all();
  part.start += 30 * kPageBytes;
  part.end = start_ + 40 * kPageBytes;
  EXPECT_EQ(text(&library, part), "; end 40");
  hide({range(0, 33), range(38, 64)});
  EXPECT_EQ(text(&library, part), "33-38 ; end 40");
}

TEST_F(HidePages, ArrayTooSmallIsContinuedByTheNextScan) {
  const Library library(list_.get());
  hide({range(8, 16), range(20, 24)});
  Scan scan = all();
  scan.vec_len = 2;
  EXPECT_EQ(text(&library, scan), "0-8 16-20 ; end 24");
  scan.vec_len = 1;
  EXPECT_EQ(text(&library, scan), "0-8 ; end 16");
  scan.start = start_ + 16 * kPageBytes;
  EXPECT_EQ(text(&library, scan), "16-20 ; end 24");
  scan.start = start_ + 24 * kPageBytes;
  EXPECT_EQ(text(&library, scan), "24-64 ; end 64");
}

TEST_F(HidePages, LimitOfPagesCountsOverAllGaps) {
  const Library library(list_.get());
  hide({range(8, 16)});
  Scan scan = all();
  scan.max_pages = 10;
  EXPECT_EQ(text(&library, scan), "0-8 16-18 ; end 18");
  scan.max_pages = 8;
  EXPECT_EQ(text(&library, scan), "0-8 ; end 16");
}

TEST_F(HidePages, OtherProcessesAreNotHidden) {
  const Library library(list_.get());
  HiddenRange before = range(0, 64);
  before.pid -= 1;
  HiddenRange after = range(0, 64);
  after.pid += 1;
  hide({before, after});
  EXPECT_EQ(text(&library, all()), "0-64 ; end 64");
  EXPECT_EQ(list_->counters().hidden_scans, 0U);
}

class HideEntries : public HidePages {
 protected:
  bool asks_by_scan() override { return false; }
  // "8-16 20-24": the pages from `first` to `last` that seem to be there, in a single read.
  std::string entries(const Library& library, std::uint64_t first = 0, std::uint64_t last = kPages) const {
    std::vector<std::uint64_t> found(last - first + 1, 0);
    const auto bytes = static_cast<ssize_t>((last - first) * 8);
    const auto offset = static_cast<off64_t>((start_ / kPageBytes + first) * 8);
    if (library.pread(pagemap_.get(), found.data(), static_cast<std::size_t>(bytes), offset) != bytes) {
      return "short";
    }
    std::string all;
    bool inside = false;
    for (std::uint64_t i = 0; i < found.size(); ++i) {
      const bool there = (found[i] >> 63 & 1U) != 0;
      if (there != inside) all += std::to_string(first + i) + (there ? "-" : " ");
      inside = there;
    }
    return all;
  }
};

TEST_F(HideEntries, AreNotPresentInHiddenRanges) {
  const Library library(list_.get());
  EXPECT_EQ(entries(library), "0-64 ");
  hide({range(20, 24), range(8, 16)});
  EXPECT_EQ(entries(library), "0-8 16-20 24-64 ");
  EXPECT_EQ(entries(library, 10, 22), "16-20 ") << "a read that begins and ends in hidden ranges";
  EXPECT_EQ(entries(library, 9, 15), "") << "all of it is hidden";
  EXPECT_EQ(entries(library, 24, 30), "24-30 ") << "none of it is hidden";
  const HideCounters counters = list_->counters();
  EXPECT_EQ(counters.scans, 5U);
  EXPECT_EQ(counters.hidden_scans, 3U);
  EXPECT_EQ(counters.hidden_ranges, 5U);
}

TEST_F(HideEntries, OtherProcessesAndFilesAreRead) {
  const Library library(list_.get());
  HiddenRange other = range(0, 64);
  other.pid += 1;
  hide({other});
  EXPECT_EQ(entries(library), "0-64 ");
  EXPECT_EQ(list_->counters().hidden_scans, 0U);
  const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  std::uint64_t value = 1;
  EXPECT_EQ(library.pread(zero.get(), &value, sizeof value, 0), 8);
  EXPECT_EQ(value, 0U);
  EXPECT_EQ(list_->counters().scans, 1U) << "that was no look for pages";
  EXPECT_EQ(library.pread(-1, &value, sizeof value, 0), -1);
  EXPECT_EQ(errno, EBADF);
}

// CRIU looks for guard regions, which it must see wherever they are.
TEST_F(HidePages, ScanForSomethingElseSeesAll) {
  const Library library(list_.get());
  hide({range(0, 64)});
  Scan scan = all();
  scan.anyof = 0;
  scan.mask = kPresent;
  EXPECT_EQ(text(&library, scan), "0-64 ; end 64");
  EXPECT_EQ(list_->counters().scans, 0U);
}

TEST_F(HidePages, ErrorsPass) {
  const Library library(list_.get());
  hide({range(8, 16)});
  Scan scan = all();
  scan.inverted = ~std::uint64_t{0};
  EXPECT_EQ(text(&library, scan), "error");
  EXPECT_EQ(library.ioctl(-1, kScan, &scan), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_F(HidePages, ListOfAnotherVersionIsNotUsed) {
  const std::uint32_t version = LIFEBOAT_HIDE_VERSION + 1;
  ASSERT_EQ(::pwrite(list_->fd(), &version, sizeof version, offsetof(lifeboat_hide_list, version)),
            static_cast<ssize_t>(sizeof version));
  hide({range(0, 64)});
  const Library library(list_.get());
  EXPECT_EQ(text(&library, all()), "0-64 ; end 64");
  EXPECT_EQ(list_->counters().loads, 0U);
}

TEST_F(HidePages, SmapsComeInSmallPieces) {
  const Library library(list_.get());
  const Fd self(::open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC));
  char text[4096];
  const int smaps = library.openat(self.get(), "smaps", O_RDONLY);
  ASSERT_GE(smaps, 0);
  EXPECT_LE(library.read(smaps, text, sizeof text), 512);
  EXPECT_EQ(library.close(smaps), 0);
  const int zero = library.openat(AT_FDCWD, "/dev/zero", O_RDONLY);
  EXPECT_EQ(zero, smaps) << "the lowest free number comes again";
  EXPECT_EQ(library.read(zero, text, sizeof text), static_cast<ssize_t>(sizeof text));
  EXPECT_EQ(library.close(zero), 0);
}

TEST_F(HidePages, MalformedListsAreRefused) {
  EXPECT_FALSE(list_->set({range(0, 8), range(7, 9)}).has_value());
  EXPECT_FALSE(list_->set({range(8, 8)}).has_value());
  HiddenRange odd = range(0, 8);
  odd.end += 1;
  EXPECT_FALSE(list_->set({odd}).has_value());
  HiddenRange nobody = range(0, 8);
  nobody.pid = 0;
  EXPECT_FALSE(list_->set({nobody}).has_value());
}

// Without the amounts of memory: what other processes share changes them.
std::string all_of(const Library& library, int fd) {
  std::string text;
  char piece[4096];
  for (ssize_t size; (size = library.read(fd, piece, sizeof piece)) > 0;) {
    text.append(piece, static_cast<std::size_t>(size));
  }
  std::istringstream lines(text);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    if (!line.ends_with(" kB")) kept += line + "\n";
  }
  return kept;
}

// Stopped, so that its mappings stay as they are.
class StoppedChild {
 public:
  StoppedChild() : pid_(::fork()) {
    if (pid_ == 0) {
      ::raise(SIGSTOP);
      ::_exit(0);
    }
    ::waitpid(pid_, nullptr, WUNTRACED);
  }
  ~StoppedChild() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

TEST_F(HidePages, SmapsReadAheadAreWhatCriuWouldRead) {
  const StoppedChild child;
  const Library library(list_.get());
  const std::string directory = "/proc/" + std::to_string(child.pid());
  const Fd process(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const int plain = library.openat(process.get(), "smaps", O_RDONLY);
  const std::string expected = all_of(library, plain);
  EXPECT_EQ(library.close(plain), 0);
  EXPECT_EQ(list_->counters().texts_used, 0u);
  {
    SmapsCache cache;
    const SmapsAhead ahead(*list_, cache, {child.pid()});
    const int fd = library.openat(process.get(), "smaps", O_RDONLY);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(all_of(library, fd), expected);
    EXPECT_EQ(library.close(fd), 0);
    EXPECT_EQ(list_->counters().texts_used, 1u);
    // Of another process nothing has been read.
    const Fd self(::open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC));
    const int other = library.openat(self.get(), "smaps", O_RDONLY);
    ASSERT_GE(other, 0);
    EXPECT_EQ(library.close(other), 0);
    EXPECT_EQ(list_->counters().texts_used, 1u);
  }
  const int after = library.openat(process.get(), "smaps", O_RDONLY);
  EXPECT_EQ(all_of(library, after), expected);
  EXPECT_EQ(library.close(after), 0);
  EXPECT_EQ(list_->counters().texts_used, 1u) << "forgotten with the object";
}

// A file in /dev/shm that is open and has lost its name.
class HideFiles : public HidePages {
 protected:
  void SetUp() override {
    HidePages::SetUp();
    char path[] = "/dev/shm/lifeboat-nameless-XXXXXX";
    fd_ = Fd(::mkstemp(path));
    path_ = path;
    ASSERT_TRUE(fd_);
    ASSERT_EQ(::unlink(path), 0);
    ASSERT_EQ(::fstat(fd_.get(), &info_), 0);
  }
  // "LINKS NAME": what CRIU finds out about it.
  std::string seen_by(const Library& library, int fd) const {
    struct stat info {};
    char name[256] = {};
    if (library.fstat(fd, &info) != 0) return "no file";
    const ssize_t size = library.readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), name, sizeof name);
    return std::to_string(info.st_nlink) + " " + std::string(name, static_cast<std::size_t>(size));
  }
  [[nodiscard]] bool is_there(const Library& library, const std::string& path) const {
    struct stat info {};
    return library.fstatat(AT_FDCWD, path.c_str(), &info, 0) == 0 && info.st_ino == info_.st_ino &&
           info.st_dev == info_.st_dev;
  }

  Fd fd_;
  std::string path_;
  struct stat info_ {};
};

TEST_F(HideFiles, SeemToHaveTheirNameWhenTheyAreListed) {
  const Library library(list_.get());
  EXPECT_EQ(seen_by(library, fd_.get()), "0 " + path_ + " (deleted)");
  EXPECT_FALSE(is_there(library, "." + path_));
  list_->set_files({{info_.st_dev, info_.st_ino, path_}});
  EXPECT_EQ(seen_by(library, fd_.get()), "1 " + path_);
  EXPECT_TRUE(is_there(library, "." + path_));
  EXPECT_FALSE(is_there(library, "." + path_ + "x"));
  EXPECT_FALSE(is_there(library, path_)) << "not as CRIU asks";
  EXPECT_GE(list_->counters().files_named, 1u);
  list_->set_files({});
  EXPECT_EQ(seen_by(library, fd_.get()), "0 " + path_ + " (deleted)");
}

TEST_F(HideFiles, OthersAreSeenAsTheyAre) {
  const Library library(list_.get());
  list_->set_files({{info_.st_dev, info_.st_ino + 1, path_}});
  EXPECT_EQ(seen_by(library, fd_.get()), "0 " + path_ + " (deleted)");
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(seen_by(library, null.get()), "1 /dev/null");
  EXPECT_EQ(seen_by(library, 12345), "no file");
  // What has the name now is told of, not what had it.
  list_->set_files({{info_.st_dev, info_.st_ino, path_}});
  const Fd other(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  ASSERT_TRUE(other);
  EXPECT_EQ(::chdir("/"), 0);
  EXPECT_FALSE(is_there(library, "." + path_));
  EXPECT_EQ(::unlink(path_.c_str()), 0);
}

TEST_F(HideFiles, AnonymousMemorySeemsToBeElsewhere) {
  const Library library(list_.get());
  const auto memory = make_anonymous_memory();
  ASSERT_TRUE(memory.has_value());
  struct stat info {}, seen {};
  ASSERT_EQ(::fstat(memory->get(), &info), 0);
  list_->set_files({{info.st_dev, info.st_ino, "file[0:1]", true}});
  ASSERT_EQ(library.fstat(memory->get(), &seen), 0);
  EXPECT_NE(seen.st_dev, info.st_dev);
  EXPECT_EQ(seen.st_ino, info.st_ino);
  EXPECT_EQ(seen.st_nlink, 0U);
  EXPECT_EQ(library.fstatat(AT_FDCWD, ".", &seen, 0), 0);
  EXPECT_NE(seen.st_ino, info.st_ino) << "it has no name";
}

TEST_F(HideFiles, TooLongAPathIsNotListed) {
  const Library library(list_.get());
  list_->set_files({{info_.st_dev, info_.st_ino, "/" + std::string(300, 'x')}});
  EXPECT_EQ(seen_by(library, fd_.get()), "0 " + path_ + " (deleted)");
}

TEST_F(HidePages, SmapsThatCannotBeReadAheadAreLeftToCriu) {
  constexpr pid_t kNobody = 0x3ffffff;
  const Library library(list_.get());
  SmapsCache cache;
  const SmapsAhead ahead(*list_, cache, {kNobody});
  const Fd self(::open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const int fd = library.openat(self.get(), "smaps", O_RDONLY);
  EXPECT_GT(all_of(library, fd).size(), 512u);
  EXPECT_EQ(library.close(fd), 0);
  EXPECT_EQ(list_->counters().texts_used, 0u);
}

}  // namespace
}  // namespace lifeboat
