// The writable layer: what is listed, what is planned, and that a layer sent in passes over a socket
// is the same at the other end. What needs root says so and is skipped without.
#include "migration/layer.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <optional>
#include <sstream>
#include <thread>

#include "criu_glue/anonymous_memory.hpp"

namespace lifeboat {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLayerMax = 64 << 20;

std::string attributes_of(const std::string& path) {
  char names[4096];
  const ssize_t length = ::llistxattr(path.c_str(), names, sizeof names);
  std::vector<std::string> lines;
  for (const char* at = names; length > 0 && at < names + length; at += std::strlen(at) + 1) {
    char value[4096];
    const ssize_t size = ::lgetxattr(path.c_str(), at, value, sizeof value);
    lines.push_back(std::string(at) + "=" + std::string(value, static_cast<std::size_t>(std::max<ssize_t>(size, 0))));
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line + ";";
  return text;
}

std::string contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Everything about a tree that a program in the container could see, but inode numbers and ctime.
std::map<std::string, std::string> describe(const fs::path& root) {
  std::map<std::string, std::string> out;
  std::map<ino_t, std::string> first_name;
  std::vector<fs::path> all{root};
  for (const auto& entry : fs::recursive_directory_iterator(root)) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  for (const fs::path& path : all) {
    struct stat info {};
    EXPECT_EQ(::lstat(path.c_str(), &info), 0);
    const std::string name = path == root ? "." : path.lexically_relative(root).string();
    std::ostringstream text;
    text << std::oct << info.st_mode << std::dec << " " << info.st_uid << ":" << info.st_gid << " "
         << info.st_mtim.tv_sec << "." << info.st_mtim.tv_nsec << " " << attributes_of(path);
    if (!S_ISDIR(info.st_mode)) {
      text << " links " << info.st_nlink << " of " << first_name.try_emplace(info.st_ino, name).first->second;
    }
    if (S_ISREG(info.st_mode)) {
      text << " size " << info.st_size << " hash " << std::hash<std::string>()(contents_of(path));
    }
    if (S_ISLNK(info.st_mode)) text << " -> " << fs::read_symlink(path).string();
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) text << " device " << info.st_rdev;
    out[name] = text.str();
  }
  return out;
}

// Two directories and what carries one to the other. Between the two is a socket, as between nodes.
class Layer : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/lifeboat-layer-XXXXXX";
    directory_ = ::mkdtemp(name);
    from_ = directory_ + "/from";
    to_ = directory_ + "/to";
    make_target();
    fs::create_directory(from_);
    auto source = LayerSource::open(from_, kLayerMax);
    ASSERT_TRUE(source) << source.error().message;
    source_.emplace(std::move(*source));
  }
  void TearDown() override { fs::remove_all(directory_); }
  void make_target() {
    fs::create_directory(to_);
    auto sink = LayerSink::open(to_, kLayerMax);
    ASSERT_TRUE(sink) << sink.error().message;
    sink_.emplace(std::move(*sink));
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(from_ + "/" + name, std::ios::binary | std::ios::trunc) << text;
  }
  void append(const std::string& name, const std::string& text) const {
    std::ofstream(from_ + "/" + name, std::ios::binary | std::ios::app) << text;
  }

  // Sends what fill() gives through a socket that holds less than a payload, and applies it.
  Status transfer(bool running) {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return fail_errno("socketpair");
    Status received;
    std::thread target([&, fd = pair[1]] {
      std::uint32_t size = 0;
      while (::recv(fd, &size, sizeof size, MSG_WAITALL) == sizeof size && size > 0) {
        std::vector<unsigned char> payload(size);
        ASSERT_EQ(::recv(fd, payload.data(), size, MSG_WAITALL), static_cast<ssize_t>(size));
        if (received) received = sink_->apply(payload);
      }
    });
    Status status;
    std::vector<unsigned char> payload;
    do {
      status = source_->fill(payload, running);
      EXPECT_LE(payload.size(), 512u * 1024);
      const auto size = static_cast<std::uint32_t>(status ? payload.size() : 0);
      EXPECT_EQ(::send(pair[0], &size, sizeof size, 0), static_cast<ssize_t>(sizeof size));
      EXPECT_EQ(::send(pair[0], payload.data(), size, 0), static_cast<ssize_t>(size));
    } while (status && !payload.empty());
    target.join();
    ::close(pair[0]);
    ::close(pair[1]);
    if (!status) return status;
    if (!received) return received;
    return sink_->finish_pass();
  }

  // The bytes that a pass put on the wire.
  std::uint64_t pass(bool running = false, const MappedFiles& mapped = {}) {
    const std::uint64_t before = source_->counts().sent;
    const auto begun = source_->begin(mapped);
    EXPECT_TRUE(begun) << begun.error().message;
    const auto done = transfer(running);
    EXPECT_TRUE(done) << done.error().message;
    return source_->counts().sent - before;
  }
  void expect_same() const { EXPECT_EQ(describe(to_), describe(from_)); }
  // Until what is written now is told from what was written before by its time alone.
  static void settle() { std::this_thread::sleep_for(std::chrono::milliseconds(45)); }

  std::string directory_;
  std::string from_;
  std::string to_;
  std::optional<LayerSource> source_;
  std::optional<LayerSink> sink_;
};

TEST_F(Layer, EmptyLayerIsItsRoot) {
  ASSERT_EQ(::chmod(from_.c_str(), 0750), 0);
  pass();
  expect_same();
}

TEST_F(Layer, FilesDirectoriesLinks) {
  write("a", "text");
  write("empty", "");
  fs::create_directories(from_ + "/d/e/f");
  write("d/e/big", std::string(300'000, 'x') + "end");
  fs::create_symlink("../nowhere/at all", from_ + "/d/link");
  fs::create_hard_link(from_ + "/a", from_ + "/d/b");
  fs::create_hard_link(from_ + "/a", from_ + "/0");
  ASSERT_EQ(::mkfifo((from_ + "/fifo").c_str(), 0640), 0);
  ASSERT_EQ(::chmod((from_ + "/d/e/f").c_str(), 01770), 0);
  ASSERT_EQ(::chmod((from_ + "/a").c_str(), 0), 0);
  const timespec old[2] = {{1'000'000'000, 123'456'789}, {-5, 999'999'999}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (from_ + "/d").c_str(), old, 0), 0);
  ASSERT_EQ(::utimensat(AT_FDCWD, (from_ + "/empty").c_str(), old, 0), 0);
  pass();
  expect_same();
  EXPECT_EQ(source_->counts().files, 7u);
}

TEST_F(Layer, OwnersAttributesDevices) {
  if (::geteuid() != 0) GTEST_SKIP() << "owners, devices and trusted attributes need root";
  write("file", "text");
  ASSERT_EQ(::setxattr((from_ + "/file").c_str(), "user.note", "a\0b", 3, 0), 0);
  ASSERT_EQ(::chown((from_ + "/file").c_str(), 1000, 4'000'000'000), 0);
  ASSERT_EQ(::chmod((from_ + "/file").c_str(), 06755), 0);
  ASSERT_EQ(::mknod((from_ + "/whiteout").c_str(), S_IFCHR, 0), 0);
  ASSERT_EQ(::mknod((from_ + "/disk").c_str(), S_IFBLK | 0600, makedev(8, 300)), 0);
  ASSERT_EQ(::mknod((from_ + "/socket").c_str(), S_IFSOCK | 0700, 0), 0);
  fs::create_directory(from_ + "/opaque");
  ASSERT_EQ(::setxattr((from_ + "/opaque").c_str(), "trusted.overlay.opaque", "y", 1, 0), 0);
  fs::create_symlink("x", from_ + "/link");
  ASSERT_EQ(::lchown((from_ + "/link").c_str(), 7, 8), 0);
  pass();
  expect_same();
  // An attribute and a set-user-id bit go again.
  settle();
  ASSERT_EQ(::removexattr((from_ + "/file").c_str(), "user.note"), 0);
  ASSERT_EQ(::chmod((from_ + "/file").c_str(), 0644), 0);
  pass();
  expect_same();
}

TEST_F(Layer, WhatBelongsToThisNodesOverlayStays) {
  if (::geteuid() != 0) GTEST_SKIP() << "trusted attributes need root";
  write("file", "text");
  ASSERT_EQ(::setxattr((from_ + "/file").c_str(), "trusted.overlay.origin", "h", 1, 0), 0);
  pass();
  EXPECT_EQ(attributes_of(to_ + "/file"), "");
}

// Shared memory whose name was taken from it.
class NamelessLayer : public Layer {
 protected:
  // Makes a file, takes its name, and has it carried; returns it.
  int make(const std::string& path, const std::string& text) {
    write(path, text);
    Fd file(::open((from_ + "/" + path).c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(::unlink((from_ + "/" + path).c_str()), 0);
    struct stat info {};
    EXPECT_EQ(::fstat(file.get(), &info), 0);
    mapped_.inodes.insert(info.st_ino);
    made_.push_back({path, std::move(file), info.st_dev, info.st_ino, "m"});
    return made_.back().fd.get();
  }
  void carry() {
    std::vector<NamelessFile> files;
    for (const NamelessFile& file : made_) {
      files.push_back({file.path, Fd(::fcntl(file.fd.get(), F_DUPFD_CLOEXEC, 0)), file.device, file.inode, file.mapped_as});
    }
    source_->set_nameless(std::move(files));
  }
  [[nodiscard]] std::vector<std::string> sent() const {
    std::vector<std::string> paths;
    for (const NamelessFile* file : source_->nameless()) paths.push_back(file->path);
    return paths;
  }

  std::vector<NamelessFile> made_;
  MappedFiles mapped_;
};

TEST_F(NamelessLayer, IsThereUntilItIsSettled) {
  write("named", "n");
  const int file = make("shared", std::string(200'000, 's'));
  carry();
  EXPECT_EQ(sent(), std::vector<std::string>{}) << "no pass has sent it";
  EXPECT_GT(pass(true, mapped_), 200'000u);
  EXPECT_EQ(sent(), std::vector<std::string>{"shared"});
  EXPECT_EQ(contents_of(to_ + "/shared"), std::string(200'000, 's'));
  // As if written by its mapping: no time tells of it.
  ASSERT_EQ(::pwrite(file, "x", 1, 70'000), 1);
  const std::uint64_t bytes = pass(false, mapped_);
  EXPECT_GT(bytes, kLayerPieceBytes);
  EXPECT_LT(bytes, 2 * kLayerPieceBytes);
  EXPECT_EQ(contents_of(to_ + "/shared")[70'000], 'x');
  for (const char* bad : {"", "..", "../from/named", "/shared", "a//b"}) {
    EXPECT_EQ(sink_->settle({bad}).error().code, Errc::kProtocol) << bad;
  }
  ASSERT_TRUE(sink_->settle(sent()));
  EXPECT_FALSE(fs::exists(to_ + "/shared"));
  expect_same();
}

TEST_F(NamelessLayer, IsLeftOutWhereItsNameIsTakenOrItsDirectoryGone) {
  fs::create_directory(from_ + "/d");
  make("d/one", "1");
  make("two", "2");
  make("two", "another that had this name");
  carry();
  pass(true, mapped_);
  EXPECT_EQ(sent(), (std::vector<std::string>{"d/one", "two"}));
  EXPECT_EQ(contents_of(to_ + "/two"), "2");
  write("two", "new");
  fs::remove(from_ + "/d");
  EXPECT_EQ(sent(), std::vector<std::string>{}) << "CRIU must not be told of them any more";
  pass(false, mapped_);
  EXPECT_EQ(sent(), std::vector<std::string>{});
  expect_same();
}

TEST_F(NamelessLayer, WhatNobodyHasAnyMoreGoes) {
  make("shared", "text");
  carry();
  pass(true, mapped_);
  EXPECT_TRUE(fs::exists(to_ + "/shared"));
  made_.clear();
  carry();
  pass();
  expect_same();
}

TEST_F(NamelessLayer, OnlyWhatIsToldToBeWrittenIsLookedAt) {
  constexpr std::uint64_t kSize = 40 * kLayerPieceBytes + 100;
  const int file = make("shared", std::string(30 * kLayerPieceBytes, 's'));
  ASSERT_EQ(::ftruncate(file, kSize), 0);
  carry();
  pass(true, mapped_);
  const auto put = [file](std::uint64_t at) { EXPECT_EQ(::pwrite(file, "x", 1, static_cast<off_t>(at)), 1); };
  put(3 * kPageBytes);
  put(20 * kPageBytes);                                         // is not told
  put(35 * kLayerPieceBytes + 7);                               // in a hole
  put(kSize - 1);                                               // in a page that is none
  ASSERT_EQ(::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5 * kLayerPieceBytes - kPageBytes, 2 * kPageBytes), 0);
  struct stat info {};
  ASSERT_EQ(::fstat(file, &info), 0);
  source_->set_written({{info.st_ino,
                         {{3 * kPageBytes, 4 * kPageBytes},
                          {4 * kLayerPieceBytes, 6 * kLayerPieceBytes},
                          {35 * kLayerPieceBytes, 35 * kLayerPieceBytes + kPageBytes},
                          {40 * kLayerPieceBytes, 40 * kLayerPieceBytes + kPageBytes}}}});
  EXPECT_LT(pass(true, mapped_), 3 * kLayerPieceBytes);
  EXPECT_EQ(source_->counts().tracked, kSize);
  const auto expected = [file](bool all) {
    std::string text(kSize, '\0');
    EXPECT_EQ(::pread(file, text.data(), kSize, 0), static_cast<ssize_t>(kSize));
    if (!all) text[20 * kPageBytes] = 's';
    return std::hash<std::string>()(text);
  };
  EXPECT_EQ(std::hash<std::string>()(contents_of(to_ + "/shared")), expected(false));
  struct stat copy {};
  ASSERT_EQ(::stat((to_ + "/shared").c_str(), &copy), 0);
  EXPECT_EQ(copy.st_blocks, info.st_blocks) << "holes are holes";
  // What was told holds for one pass.
  pass(true, mapped_);
  EXPECT_EQ(source_->counts().tracked, 0U);
  EXPECT_EQ(std::hash<std::string>()(contents_of(to_ + "/shared")), expected(true));
}

// Files of the kernel's own tmpfs, in no directory.
class AnonymousLayer : public NamelessLayer {
 protected:
  void SetUp() override {
    NamelessLayer::SetUp();
    source_.emplace(Fd(), kLayerMax);
    std::vector<Fd> memory(kFiles);
    for (Fd& file : memory) file = std::move(*make_anonymous_memory());
    sink_.emplace(std::move(memory), kLayerMax);
  }
  int make(const std::string& path, const std::string& text) {
    auto file = make_anonymous_memory();
    EXPECT_TRUE(file.has_value());
    EXPECT_EQ(::write(file->get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    struct stat info {};
    EXPECT_EQ(::fstat(file->get(), &info), 0);
    mapped_.inodes.insert(info.st_ino);
    made_.push_back({path, std::move(*file), info.st_dev, info.st_ino, path});
    return made_.back().fd.get();
  }
  // What the target has of it; nothing: none.
  [[nodiscard]] std::optional<std::string> arrived(const std::string& path) const {
    const auto at = sink_->memory_names().find(path);
    if (at == sink_->memory_names().end()) return std::nullopt;
    return contents_of("/proc/self/fd/" + std::to_string(sink_->memory()[at->second].get()));
  }

  static constexpr std::size_t kFiles = 2;
};

TEST_F(AnonymousLayer, ArrivesWithItsSizeModeAndContents) {
  const int file = make("file[0:1]", std::string(200'000, 's'));
  ASSERT_EQ(::ftruncate(file, 300'001) | ::fchmod(file, 0640) | ::fchown(file, 7, 8), 0);
  carry();
  EXPECT_GT(pass(true, mapped_), 200'000U);
  EXPECT_EQ(sent(), std::vector<std::string>{"file[0:1]"});
  ASSERT_EQ(::pwrite(file, "x", 1, 70'000), 1);
  EXPECT_LT(pass(false, mapped_), 2 * kLayerPieceBytes);
  EXPECT_EQ(arrived("file[0:1]"), contents_of("/proc/self/fd/" + std::to_string(file)));
  struct stat info {};
  ASSERT_EQ(::fstat(sink_->memory().front().get(), &info), 0);
  EXPECT_EQ(info.st_mode, static_cast<mode_t>(S_IFREG | 0640));
  EXPECT_EQ(info.st_uid, 7U);
  EXPECT_EQ(info.st_gid, 8U);
  EXPECT_EQ(info.st_size, 300'001);
  EXPECT_TRUE(sink_->settle({}));
}

TEST_F(AnonymousLayer, WhatIsGivenUpMakesRoomForAnother) {
  make("one", "1");
  make("two", "22");
  carry();
  pass(true, mapped_);
  made_.erase(made_.begin());
  make("three", "333");
  carry();
  pass(true, mapped_);
  EXPECT_EQ(arrived("one"), std::nullopt);
  EXPECT_EQ(arrived("two"), "22");
  EXPECT_EQ(arrived("three"), "333");
  make("four", "4444");
  carry();
  ASSERT_TRUE(source_->begin(mapped_));
  EXPECT_EQ(transfer(true).error().code, Errc::kProtocol) << "there is room for two";
}

TEST_F(AnonymousLayer, IsKnownByItsNameAndFileSystem) {
  struct stat info {};
  const int file = make("one", "1");
  ASSERT_EQ(::fstat(file, &info), 0);
  EXPECT_TRUE(is_anonymous_memory("/memfd:/dev/zero", info));
  EXPECT_TRUE(is_anonymous_memory("/dev/zero", info));
  EXPECT_FALSE(is_anonymous_memory("/memfd:another", info));
  struct stat named {};
  write("zero", "");
  ASSERT_EQ(::stat((from_ + "/zero").c_str(), &named), 0);
  EXPECT_FALSE(is_anonymous_memory("/dev/zero", named));
  char expected[64];
  std::snprintf(expected, sizeof expected, ":%llx]", static_cast<unsigned long long>(info.st_ino));
  const auto name = external_file_name(file);
  ASSERT_TRUE(name.has_value()) << name.error().message;
  EXPECT_TRUE(name->starts_with("file[") && name->ends_with(expected)) << *name;
}

TEST_F(Layer, HolesStayHoles) {
  const Fd file(::open((from_ + "/sparse").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(::ftruncate(file.get(), 1LL << 36), 0);
  ASSERT_EQ(::pwrite(file.get(), "begin", 5, 0), 5);
  ASSERT_EQ(::pwrite(file.get(), "middle", 6, (1LL << 35) + 70'000), 6);
  struct stat before {};
  ASSERT_EQ(::fstat(file.get(), &before), 0);
  EXPECT_LT(pass(), 100'000u);
  struct stat after {};
  ASSERT_EQ(::stat((to_ + "/sparse").c_str(), &after), 0);
  EXPECT_EQ(after.st_size, before.st_size);
  EXPECT_LE(after.st_blocks, before.st_blocks);
  // A hole where there was data, and data where there was a hole.
  settle();
  ASSERT_EQ(::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
  ASSERT_EQ(::pwrite(file.get(), "late", 4, 1LL << 30), 4);
  EXPECT_LT(pass(), 100'000u);
  const Fd copy(::open((to_ + "/sparse").c_str(), O_RDONLY));
  char text[8] = {};
  ASSERT_EQ(::pread(copy.get(), text, 5, 0), 5);
  EXPECT_EQ(std::string(text, 5), std::string(5, '\0'));
  ASSERT_EQ(::pread(copy.get(), text, 4, 1LL << 30), 4);
  EXPECT_EQ(std::string(text, 4), "late");
  ASSERT_EQ(::pread(copy.get(), text, 6, (1LL << 35) + 70'000), 6);
  EXPECT_EQ(std::string(text, 6), "middle");
}

TEST_F(Layer, SecondPassSendsOnlyWhatChanged) {
  write("log", std::string(10 << 20, 'l'));
  write("still", std::string(1 << 20, 's'));
  fs::create_directories(from_ + "/gone/deep");
  write("gone/deep/file", "x");
  write("shape", "a file");
  settle();
  EXPECT_GT(pass(true), 11u << 20);
  expect_same();
  settle();
  EXPECT_EQ(pass(true), 0u);
  append("log", "one more line\n");
  fs::remove_all(from_ + "/gone");
  fs::remove(from_ + "/shape");
  fs::create_directory(from_ + "/shape");
  write("shape/inside", "now a directory");
  write("new", "new");
  fs::create_hard_link(from_ + "/still", from_ + "/again");
  const std::uint64_t sent = pass();
  EXPECT_LT(sent, 80'000u);
  expect_same();
  settle();
  // Shorter, renamed, replaced by another file of the same name.
  fs::resize_file(from_ + "/log", 100'000);
  fs::rename(from_ + "/new", from_ + "/renamed");
  fs::remove(from_ + "/still");
  write("still.tmp", "replaced");
  fs::rename(from_ + "/still.tmp", from_ + "/still");
  pass();
  expect_same();
}

TEST_F(Layer, ManyPassesOverRandomChanges) {
  std::srand(7);
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 12; ++i) {
      const std::string name = from_ + "/" + std::string(1, static_cast<char>('a' + std::rand() % 5));
      const std::string other = from_ + "/" + std::string(1, static_cast<char>('a' + std::rand() % 5));
      std::error_code ignored;
      switch (std::rand() % 7) {
        case 0: fs::remove_all(name, ignored); break;
        case 1: fs::rename(name, other, ignored); break;
        case 2: fs::create_hard_link(name, other, ignored); break;
        case 3: fs::create_directory(name, ignored); break;
        case 4: fs::rename(name, other + "/" + "x", ignored); break;
        default:
          if (fs::is_directory(name, ignored)) break;
          append(name.substr(from_.size() + 1), std::string(40'000, static_cast<char>('0' + round)));
      }
    }
    pass(round % 3 != 0);
    expect_same();
    if (HasFailure()) FAIL() << "in round " << round;
  }
}

// The time of a file does not change by writes to a page that is written already.
TEST_F(Layer, WritesThroughAMappingAreSeen) {
  write("mapped", std::string(200'000, 'm'));
  const Fd file(::open((from_ + "/mapped").c_str(), O_RDWR));
  auto* memory = static_cast<char*>(::mmap(nullptr, 200'000, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  ASSERT_NE(memory, MAP_FAILED);
  memory[100'000] = 'A';
  settle();
  MappedFiles mapped;
  add_mapped_files(contents_of("/proc/self/maps"), mapped);
  pass(true, mapped);
  settle();
  pass(true, mapped);
  memory[100'000] = 'B';
  ::munmap(memory, 200'000);
  const std::uint64_t sent = pass();
  EXPECT_LT(sent, 70'000u);
  EXPECT_EQ(contents_of(to_ + "/mapped")[100'000], 'B');
  expect_same();
}

TEST_F(Layer, FilesMayVanishAndChangeWhileItRuns) {
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      const std::string name = "v" + std::to_string(i % 50);
      std::error_code ignored;
      fs::create_directory(from_ + "/d" + std::to_string(i % 3), ignored);
      append(name, std::string(5'000, 'v'));
      append("d" + std::to_string(i % 3) + "/file", "text");
      if (i % 7 == 0) fs::remove(from_ + "/" + name, ignored);
      if (i % 11 == 0) fs::remove_all(from_ + "/d" + std::to_string(i % 3), ignored);
      if (i % 200 == 0) fs::resize_file(from_ + "/" + name, 0, ignored);
    }
  });
  for (int i = 0; i < 20; ++i) pass(true);
  stop = true;
  writer.join();
  pass();
  expect_same();
}

TEST_F(Layer, NothingNewCostsNothingFor10000Files) {
  for (int i = 0; i < 10'000; ++i) {
    const std::string name = "d" + std::to_string(i % 100);
    if (i < 100) fs::create_directory(from_ + "/" + name);
    write(name + "/f" + std::to_string(i), "small " + std::to_string(i));
  }
  settle();
  pass(true);
  EXPECT_EQ(source_->counts().files, 10'000u);
  settle();
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t cpu = std::clock();
  EXPECT_EQ(pass(), 0u);
  const double cpu_ms = static_cast<double>(std::clock() - cpu) * 1000 / CLOCKS_PER_SEC;
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  const auto rest = std::chrono::steady_clock::now();
  ASSERT_TRUE(source_->begin_rest());
  const double rest_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - rest).count();
  std::cout << "10,000 files, none changed: " << ms << " ms (" << cpu_ms << " ms of CPU), then " << rest_ms << " ms after the dump\n";
  expect_same();
}

TEST_F(Layer, WhatCriuNamesDuringItsDumpIsFound) {
  fs::create_directory(from_ + "/d");
  write("d/file", "text");
  settle();
  pass();
  ASSERT_TRUE(source_->begin_rest());
  std::vector<unsigned char> payload;
  ASSERT_TRUE(source_->fill(payload, false));
  EXPECT_TRUE(payload.empty());
  fs::create_hard_link(from_ + "/d/file", from_ + "/d/link_remap.7");
  ASSERT_TRUE(source_->begin_rest());
  ASSERT_TRUE(transfer(false));
  expect_same();
}

TEST_F(Layer, MoreThanItMayHoldIsRefused) {
  write("big", std::string(2 << 20, 'b'));
  auto source = LayerSource::open(from_, 1 << 20);
  ASSERT_TRUE(source);
  const auto begun = source->begin({});
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().code, Errc::kRefused);
  EXPECT_NE(begun.error().message.find("it holds 2 MiB, and may hold 1"), std::string::npos);
  // And whoever sends more nevertheless.
  auto sink = LayerSink::open(to_, 1 << 20);
  ASSERT_TRUE(sink);
  sink_.emplace(std::move(*sink));
  ASSERT_TRUE(source_->begin({}));
  const auto sent = transfer(false);
  ASSERT_FALSE(sent);
  EXPECT_NE(sent.error().message.find("more than the 1 MiB"), std::string::npos);
}

TEST_F(Layer, AFullDiskSaysWhereAndWhatToDo) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a small tmpfs needs root";
  if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("tmpfs", to_.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "may not mount a tmpfs";
  }
  make_target();
  write("big", std::string(2 << 20, 'b'));
  ASSERT_TRUE(source_->begin({}));
  const auto sent = transfer(false);
  sink_.reset();
  EXPECT_EQ(::umount(to_.c_str()), 0);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().message,
            "write /big of the writable layer, in paths.layers_dir: No space left on device (free space there)");
}

// ---- what no source sends

std::vector<unsigned char> record(LayerOp op, const std::vector<std::string>& texts,
                                  const std::string& raw = "") {
  std::vector<unsigned char> out{static_cast<unsigned char>(op)};
  for (const std::string& text : texts) {
    for (int i = 0; i < 4; ++i) out.push_back(static_cast<unsigned char>(text.size() >> (8 * i)));
    out.insert(out.end(), text.begin(), text.end());
  }
  out.insert(out.end(), raw.begin(), raw.end());
  return out;
}

TEST_F(Layer, NoPathLeavesTheLayer) {
  std::ofstream(directory_ + "/outside") << "mine";
  fs::create_symlink("..", to_ + "/up");
  const std::string open(9, '\0');  // size 0, not new
  const std::vector<std::string> paths = {"../outside", "up/outside", "/etc/passwd", "a//b", "a/./b",
                                          "a/../../outside", "..", ".", "a/", "", std::string("a\0b", 3)};
  for (const std::string& path : paths) {
    EXPECT_FALSE(sink_->apply(record(LayerOp::kRemove, {path}))) << path;
    EXPECT_FALSE(sink_->apply(record(LayerOp::kOpen, {path}, open))) << path;
    EXPECT_FALSE(sink_->apply(record(LayerOp::kLink, {"x", path}))) << path;
  }
  EXPECT_FALSE(sink_->apply(record(LayerOp::kRemove, {std::string(300, 'n')})));
  std::string deep = "d";
  for (int i = 0; i < 300; ++i) deep += "/d";
  EXPECT_FALSE(sink_->apply(record(LayerOp::kRemove, {deep})));
  EXPECT_EQ(contents_of(directory_ + "/outside"), "mine");
}

TEST_F(Layer, DamagedAndCutRecordsAreRefused) {
  write("file", std::string(100'000, 'f'));
  ASSERT_TRUE(source_->begin({}));
  std::vector<unsigned char> payload;
  ASSERT_TRUE(source_->fill(payload, false));
  std::vector<unsigned char> damaged = payload;
  damaged[damaged.size() / 2] ^= 1;
  const auto applied = sink_->apply(damaged);
  ASSERT_FALSE(applied);
  EXPECT_NE(applied.error().message.find("damaged"), std::string::npos);
  for (const std::size_t size : {1u, 5u, 30u, 60u, 1000u, 99'000u}) {
    fs::remove_all(to_);
    make_target();
    const std::vector<unsigned char> cut(payload.begin(), payload.begin() + static_cast<long>(size));
    EXPECT_FALSE(sink_->apply(cut) && sink_->finish_pass()) << size;
  }
}

// ---- pure parts

LayerEntry entry(const std::string& path, std::uint64_t inode, std::uint64_t links = 1) {
  LayerEntry entry;
  entry.path = path;
  entry.mode = S_IFREG | 0644;
  entry.inode = inode;
  entry.links = links;
  return entry;
}

LayerListing listing(std::vector<LayerEntry> entries) {
  LayerListing listing;
  listing.entries = std::move(entries);
  listing.started_ns = 1'000'000'000'000;
  return listing;
}

TEST(LayerPlan, AChangeInTheTickOfTheLookCounts) {
  LayerListing before = listing({entry("a", 5)});
  before.entries[0].ctime_ns = before.started_ns - 100'000'000;
  EXPECT_TRUE(plan_layer(before, before, {}).changed.empty());
  before.entries[0].ctime_ns = before.started_ns - 1'000'000;
  EXPECT_EQ(plan_layer(before, before, {}).changed, std::vector<std::size_t>{0});
}

TEST(LayerPlan, ANewNameOfAnInodeIsALink) {
  const auto plan = plan_layer(listing({entry("b", 5)}), listing({entry("a", 5, 2), entry("b", 5, 2)}), {});
  EXPECT_TRUE(plan.removed.empty());
  using Link = std::pair<std::size_t, std::size_t>;
  EXPECT_EQ(plan.links, std::vector<Link>{Link(0, 1)});
}

TEST(LayerPlan, RemovalsGoFromInsideOut) {
  LayerEntry directory = entry("d", 1);
  directory.mode = S_IFDIR | 0755;
  const auto plan = plan_layer(listing({directory, entry("d/x", 2)}), listing({entry("d", 3)}), {});
  EXPECT_EQ(plan.removed, (std::vector<std::string>{"d/x", "d"}));
  EXPECT_EQ(plan.changed, std::vector<std::size_t>{0});
}

TEST(LayerPlan, MappedFilesAreOfInodesAndPaths) {
  MappedFiles files;
  add_mapped_files(
      "7f00-7f10 rw-s 00000000 08:01 1234                       /data/a file (deleted)\n"
      "7f10-7f20 rw-p 00000000 08:01 99                         /private\n"
      "7f20-7f30 rw-s 00000000 00:00 0 \n",
      files);
  EXPECT_EQ(files.paths, std::set<std::string>{"data/a file"});
  EXPECT_EQ(files.inodes, std::set<std::uint64_t>{1234});
}

}  // namespace
}  // namespace lifeboat
