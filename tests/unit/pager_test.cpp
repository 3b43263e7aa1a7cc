// lifeboat-pager with a stand-in for CRIU: what a restored process reads is what was sent, and if the
// pager dies it reads nothing at all.
#include "criu_glue/pager.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "base/cgroup.hpp"
#include "base/file.hpp"
#include "migration/page_server.hpp"

namespace lifeboat {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kPid = 7;
constexpr std::uint64_t kPages = 3000;
constexpr std::uint64_t kBytes = kPages * kPageBytes;

unsigned char byte_of(std::uint64_t page) { return static_cast<unsigned char>(1 + page % 250); }
bool is_zero_page(std::uint64_t page) { return page % 7 == 3; }

class PagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / ("lifeboat-pager-" + std::to_string(::getpid()));
    fs::create_directory(directory_);
    auto cgroup = Cgroup::create("lifeboat-pager-test", std::to_string(::getpid()));
    ASSERT_TRUE(cgroup.has_value()) << cgroup.error().message;
    cgroup_ = std::make_unique<Cgroup>(std::move(*cgroup));
    memory_ = static_cast<unsigned char*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (std::uint64_t page = 0; page < kPages; ++page) {
      std::memset(memory_ + page * kPageBytes, is_zero_page(page) ? 0 : byte_of(page), kPageBytes);
    }
  }
  void TearDown() override {
    if (HasFailure()) std::cerr << "pager.log: " << read_file(directory_ / "pager.log").value_or("") << "\n";
    if (restored_ > 0) {
      ::kill(restored_, SIGKILL);
      ::waitpid(restored_, nullptr, 0);
    }
    if (pager_) pager_->process().kill_and_reap();
    (void)cgroup_->remove(Milliseconds(2000));
    ::rmdir(fs::path(cgroup_->path()).parent_path().c_str());
    fs::remove_all(directory_);
    ::munmap(memory_, kBytes);
  }

  // Runs a coroutine to its end.
  template <class T>
  static awaitable<void> keep(awaitable<T> task, std::optional<T>& result) {
    result.emplace(co_await std::move(task));
  }
  template <class T>
  T run(awaitable<T> task) {
    std::optional<T> result;
    asio::co_spawn(context_, keep(std::move(task), result), asio::detached);
    context_.restart();
    context_.run();
    return std::move(*result);
  }

  void start() {
    PagerOptions options;
    options.program = fs::read_symlink("/proc/self/exe").parent_path() / "lifeboat-pager";
    options.lazy_socket = directory_ / "lazy-pages.socket";
    options.control_socket = directory_ / "pager.sock";
    options.cgroup = cgroup_->path();
    options.bytes_max = 2 * kBytes;
    auto client = run(PagerClient::start(std::move(options)));
    ASSERT_TRUE(client.has_value()) << client.error().message;
    pager_.emplace(std::move(*client));
  }

  // Gives it two page connections at once, and the urgent one of post-copy; these are our ends.
  void connect(bool urgent, PageConnections& ends) {
    constexpr unsigned kShards = 2;
    std::vector<std::optional<Status>> added(kShards);
    for (unsigned shard = 0; shard < kShards; ++shard) {
      int pair[2];
      ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
      PageSender::Options options;
      options.shard = shard;
      options.shards = kShards;
      ends.shards.push_back(std::make_unique<PageSender>(Fd(pair[0]), options));
      asio::co_spawn(context_,
                     keep(pager_->add_connection(Fd(pair[1]), "", shard, kShards), added[shard]),
                     asio::detached);
    }
    context_.restart();
    context_.run();
    for (const auto& status : added) ASSERT_TRUE(status->has_value()) << status->error().message;
    if (!urgent) return;
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ends.urgent = std::make_unique<PageSender>(Fd(pair[0]), PageSender::Options());
    const Status status = run(pager_->add_urgent_connection(Fd(pair[1]), ""));
    ASSERT_TRUE(status.has_value()) << status.error().message;
  }

  void send_over(const PageConnections& ends, const PageRun& pages) {
    const std::vector<PageRun> runs{pages};
    for (const auto& sender : ends.shards) {
      PageJob job;
      job.host_pid = ::getpid();
      job.pid = kPid;
      job.runs = runs;
      std::vector<PageRun> unread;
      ASSERT_TRUE(sender->send(job, unread).has_value());
      ASSERT_TRUE(sender->flush().has_value());
    }
  }

  // All pages of this process.
  void send_pages() {
    PageConnections ends;
    connect(false, ends);
    send_over(ends, {address(0), kPages});
  }

  // Some pages of this process as they were earlier, and of these some as they are; the rest is to
  // come when the copy runs.
  void send_some_pages(const PageConnections& ends) {
    std::memset(memory_, 0xee, 500 * kPageBytes);
    send_over(ends, {address(0), 1000});
    for (std::uint64_t page = 0; page < 500; ++page) {
      std::memset(memory_ + page * kPageBytes, is_zero_page(page) ? 0 : byte_of(page), kPageBytes);
    }
    const auto known = set_final({{kPid, 500, address(0), 1, 0},
                                  {kPid, 500, address(500), 0, 0},
                                  {kPid, kPages - 1000, address(1000), 1, 0}});
    ASSERT_TRUE(known.has_value()) << known.error().message;
    EXPECT_EQ(known->at("later_pages").to_number<std::uint64_t>(), kPages - 500);
  }

  std::unique_ptr<PageServer> serve(PageConnections ends) {
    auto server = PageServer::start({{kPid, ::getpid()}}, std::move(ends), std::make_shared<MemoryProgress>());
    return server ? std::move(*server) : nullptr;
  }

  std::string phase() {
    const auto status = run(pager_->status());
    return status ? string_or(*status, "phase") : status.error().message;
  }

  Result<json::object> set_final(const std::vector<FinalPage>& entries) {
    Fd list(::memfd_create("final", MFD_CLOEXEC));
    const std::size_t size = entries.size() * sizeof(FinalPage);
    EXPECT_EQ(::write(list.get(), entries.data(), size), static_cast<ssize_t>(size));
    return run(pager_->set_final(std::move(list)));
  }
  Result<json::object> set_final(std::uint32_t pages) {
    return set_final({{kPid, pages, address(0), 0, 0}});
  }

  [[nodiscard]] std::uint64_t address(std::uint64_t page) const {
    return reinterpret_cast<std::uint64_t>(memory_) + page * kPageBytes;
  }

  // A child whose memory at the same address is missing, as CRIU announces it; it then runs `body`.
  template <class Body>
  void restore(std::uint32_t announced_pid, Body body) {
    restored_ = ::fork();
    if (restored_ != 0) return;
    (void)write_value(cgroup_->procs_file(), std::to_string(::getpid()));
    ::munmap(memory_, kBytes);
    void* const again = ::mmap(memory_, kBytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    const int uffd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
                   UFFD_FEATURE_EVENT_UNMAP;
    uffdio_register area{};
    area.range.start = reinterpret_cast<std::uint64_t>(again);
    area.range.len = kBytes;
    area.mode = UFFDIO_REGISTER_MODE_MISSING;
    const int lazy = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    std::strcpy(where.sun_path, (directory_ / "lazy-pages.socket").c_str());
    if (again != memory_ || ::ioctl(uffd, UFFDIO_API, &api) != 0 ||
        ::ioctl(uffd, UFFDIO_REGISTER, &area) != 0 ||
        ::connect(lazy, reinterpret_cast<sockaddr*>(&where), sizeof where) != 0) {
      ::_exit(90);
    }
    (void)!::write(lazy, &announced_pid, sizeof announced_pid);
    char dummy = 0;
    iovec part{&dummy, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &uffd, sizeof uffd);
    (void)!::sendmsg(lazy, &message, 0);
    const std::uint32_t end = 0x52535446;
    (void)!::write(lazy, &end, sizeof end);
    ::close(uffd);
    ::_exit(body());
  }

  // How the restored process ended: its status, or 128 + signal. -1: it has not, within 10 s.
  int ended() {
    for (int i = 0; i < 10'000; ++i) {
      int status = 0;
      if (::waitpid(restored_, &status, WNOHANG) == restored_) {
        restored_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      ::usleep(1000);
    }
    return -1;
  }

  // Changes its mappings while they are filled, and reads everything: 0 if all of it is right.
  int change_mappings() const {
    constexpr std::uint64_t kPart = 512;
    if (!right(0)) return 1;
    ::madvise(memory_ + 600 * kPageBytes, 100 * kPageBytes, MADV_DONTNEED);
    for (std::uint64_t page = 600; page < 700; ++page) {
      if (memory_[page * kPageBytes] != 0) return 2;  // given up: zeros
    }
    void* const room = ::mmap(nullptr, kPart * kPageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void* const moved = ::mremap(memory_ + 1024 * kPageBytes, kPart * kPageBytes,
                                 kPart * kPageBytes, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    if (moved == MAP_FAILED) return 3;
    for (std::uint64_t page = 1024; page < 1024 + kPart; ++page) {
      const unsigned char wanted = is_zero_page(page) ? 0 : byte_of(page);
      if (static_cast<unsigned char*>(moved)[(page - 1024) * kPageBytes] != wanted) return 4;
    }
    // Moved and not looked at: a child looks first.
    constexpr std::uint64_t kFirst = 1700, kLast = 1900;
    void* const place = ::mmap(nullptr, (kLast - kFirst) * kPageBytes, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void* const unseen = ::mremap(memory_ + kFirst * kPageBytes, (kLast - kFirst) * kPageBytes,
                                  (kLast - kFirst) * kPageBytes, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    if (unseen == MAP_FAILED) return 3;
    const auto unseen_right = [&] {
      for (std::uint64_t page = kFirst; page < kLast; ++page) {
        const unsigned char wanted = is_zero_page(page) ? 0 : byte_of(page);
        if (static_cast<unsigned char*>(unseen)[(page - kFirst) * kPageBytes] != wanted) return false;
      }
      return true;
    };
    const pid_t child = ::fork();
    if (child == 0) {
      if (!unseen_right()) ::_exit(7);
      for (std::uint64_t page = 2000; page < kPages; ++page) {
        if (!right(page)) ::_exit(5);
      }
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) return 5;
    if (!unseen_right()) return 7;
    for (std::uint64_t page = kLast; page < kPages; ++page) {
      if (!right(page)) return 6;
    }
    return 0;
  }

  bool right(std::uint64_t page) const {
    const unsigned char* at = memory_ + page * kPageBytes;
    const unsigned char wanted = is_zero_page(page) ? 0 : byte_of(page);
    return at[0] == wanted && at[kPageBytes - 1] == wanted;
  }

  asio::io_context context_{1};
  fs::path directory_;
  std::unique_ptr<Cgroup> cgroup_;
  std::optional<PagerClient> pager_;
  unsigned char* memory_ = nullptr;
  pid_t restored_ = -1;
};

TEST_F(PagerTest, TheProcessReadsWhatWasSent) {
  start();
  send_pages();
  const auto known = set_final(kPages);
  ASSERT_TRUE(known.has_value()) << known.error().message;
  EXPECT_EQ(known->at("pages").to_number<std::uint64_t>(), kPages);
  restore(kPid, [this] {
    for (std::uint64_t i = 0; i < 2; ++i) {
      for (std::uint64_t page = 0; page < kPages; ++page) {
        if (!right(page * 1237 % kPages)) return 1;
      }
      ::usleep(200'000);  // the second time, what was pushed meanwhile
    }
    return 0;
  });
  ::usleep(20'000);  // some faults first, as between CRIU's restore and the commit
  ASSERT_TRUE(run(pager_->push()).has_value());
  for (;;) {
    const auto status = run(pager_->status());
    ASSERT_TRUE(status.has_value()) << status.error().message;
    if (string_or(*status, "phase") == "done") break;
    ::usleep(1000);
  }
  EXPECT_EQ(ended(), 0);
}

TEST_F(PagerTest, ItFollowsTheMappings) {
  start();
  send_pages();
  ASSERT_TRUE(set_final(kPages).has_value());
  restore(kPid, [this] { return change_mappings(); });
  ASSERT_TRUE(run(pager_->push()).has_value());
  EXPECT_EQ(ended(), 0);
}

TEST_F(PagerTest, PostCopyPagesComeWhenTheyAreNeeded) {
  start();
  PageConnections ends;
  connect(true, ends);
  send_some_pages(ends);
  const auto server = serve(std::move(ends));
  restore(kPid, [this] {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      if (!right(page * 1237 % kPages)) return 1;
    }
    return 0;
  });
  // Nothing is pushed: every page that is missing is asked for.
  EXPECT_EQ(ended(), 0);
  EXPECT_GE(server->wanted_pages(), kPages - 500 - 200);
  // It has been asked for single pages only; when the process has ended, so does the pager.
  EXPECT_TRUE(!server->finished() || !server->result().has_value());
}

TEST_F(PagerTest, PostCopyEndsWhenNothingIsMissing) {
  start();
  PageConnections ends;
  connect(true, ends);
  send_some_pages(ends);
  const auto server = serve(std::move(ends));
  restore(kPid, [this] {
    for (int i = 0; i < 3; ++i) {
      for (std::uint64_t page = 0; page < kPages; ++page) {
        if (!right(page)) return 1;
      }
      ::usleep(100'000);
    }
    return 0;
  });
  ASSERT_TRUE(run(pager_->push()).has_value());
  for (int i = 0; i < 5000 && !server->finished(); ++i) ::usleep(1000);
  ASSERT_TRUE(server->finished());
  EXPECT_TRUE(server->result().has_value()) << server->result().error().message;
  for (int i = 0; i < 5000 && phase() != "done"; ++i) ::usleep(1000);
  EXPECT_EQ(ended(), 0);
}

TEST_F(PagerTest, PostCopyFollowsTheMappings) {
  for (int i = 0; i < 5; ++i) {
    if (i > 0) {
      TearDown();
      pager_.reset();
      SetUp();
    }
    start();
    PageConnections ends;
    connect(true, ends);
    send_some_pages(ends);
    const auto server = serve(std::move(ends));
    restore(kPid, [this] { return change_mappings(); });
    ::usleep(static_cast<useconds_t>(i) * 1000);
    ASSERT_TRUE(run(pager_->push()).has_value());
    ASSERT_EQ(ended(), 0) << i;
  }
}

TEST_F(PagerTest, PostCopyIsPausedWithoutItsSourceAndGoesOn) {
  start();
  PageConnections ends;
  connect(true, ends);
  send_some_pages(ends);
  auto server = serve(std::move(ends));
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const Fd ours(pair[0]), theirs(pair[1]);
  char byte = 0;
  restore(kPid, [&] {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      // It has asked for some of the pages, and goes on when there is nobody to ask for the others.
      if (page == 600 && (::write(theirs.get(), "", 1) != 1 || ::read(theirs.get(), &byte, 1) != 1)) return 2;
      if (!right(page)) return 1;
    }
    return 0;
  });
  ASSERT_EQ(::read(ours.get(), &byte, 1), 1);
  server.reset();
  ASSERT_EQ(::write(ours.get(), "", 1), 1);
  ASSERT_TRUE(run(pager_->push()).has_value());
  for (int i = 0; i < 5000 && phase() != "paused"; ++i) ::usleep(1000);
  EXPECT_EQ(phase(), "paused");
  ::usleep(100'000);
  int status = 0;
  EXPECT_EQ(::waitpid(restored_, &status, WNOHANG), 0);  // it waits
  PageConnections again;
  connect(true, again);
  server = serve(std::move(again));
  EXPECT_EQ(ended(), 0);
}

TEST_F(PagerTest, IfItDiesTheContainerEndsBeforeItReadsZeros) {
  start();
  send_pages();
  ASSERT_TRUE(set_final(kPages).has_value());
  int reads[2];
  ASSERT_EQ(::pipe(reads), 0);
  const Fd told(reads[0]), tell(reads[1]);
  restore(kPid, [&] {
    for (std::uint64_t page = 0;; page = (page + 1) % kPages) {
      if (!right(page) || ::write(tell.get(), "", 1) != 1) return 1;
      ::usleep(500);
    }
  });
  char byte = 0;
  ASSERT_EQ(::read(told.get(), &byte, 1), 1);
  pager_->process().signal(SIGKILL);
  EXPECT_EQ(ended(), 128 + SIGKILL);
}

TEST_F(PagerTest, PagesThatNeverCame) {
  start();
  send_pages();
  const auto known = set_final(kPages + 1);
  ASSERT_FALSE(known.has_value());
  EXPECT_EQ(known.error().code, Errc::kProtocol);
  EXPECT_NE(known.error().message.find("never arrived"), std::string::npos);
}

// Its pages would be zeros.
TEST_F(PagerTest, AProcessThatCriuDidNotRestoreEndsTheContainer) {
  start();
  send_pages();
  ASSERT_TRUE(set_final(kPages).has_value());
  restore(kPid + 1, [] {
    ::sleep(60);
    return 0;
  });
  EXPECT_EQ(ended(), 128 + SIGKILL);
}

TEST_F(PagerTest, ARestoreBeforeThePagesAreKnownEndsTheContainer) {
  start();
  send_pages();
  restore(kPid, [] {
    ::sleep(60);
    return 0;
  });
  EXPECT_EQ(ended(), 128 + SIGKILL);
}

TEST_F(PagerTest, ItEndsWithTheDaemonUntilCriuHasCome) {
  start();
  Process process = std::move(pager_->process());
  pager_.reset();
  for (int i = 0; i < 2000 && process.running(); ++i) ::usleep(1000);
  EXPECT_FALSE(process.running());
  process.kill_and_reap();
}

TEST_F(PagerTest, AnotherDaemonGoesOnWithIt) {
  start();
  send_pages();
  ASSERT_TRUE(set_final(kPages).has_value());
  restore(kPid, [this] {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      if (!right(page)) return 1;
      ::usleep(200);
    }
    return 0;
  });
  ::usleep(50'000);
  Process process = std::move(pager_->process());
  pager_.reset();
  auto again = run(PagerClient::open(directory_ / "pager.sock"));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  pager_.emplace(std::move(*again));
  ASSERT_TRUE(run(pager_->push()).has_value());
  EXPECT_EQ(ended(), 0);
  for (int i = 0; i < 5000 && process.running(); ++i) ::usleep(1000);
  EXPECT_FALSE(process.running());
  process.kill_and_reap();
}

}  // namespace
}  // namespace lifeboat
