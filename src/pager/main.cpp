// lifeboat-pager: see criu_glue/pager.hpp.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <iostream>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/fd_passing.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/unix_socket.hpp"
#include "criu_glue/fault_service.hpp"
#include "criu_glue/page_store.hpp"
#include "criu_glue/pager.hpp"
#include "migration/page_stream.hpp"

namespace {

using namespace lifeboat;

constexpr int kControlFd = 3;
constexpr std::uint32_t kEndOfTasks = 0x52535446;  // CRIU: every task has been announced

struct Options {
  std::string lazy_socket;
  std::string control_socket;
  std::string cgroup;
  std::uint64_t bytes_max = 0;
};

// Ends the container, and waits until it has ended.
class Executioner {
 public:
  explicit Executioner(const std::string& cgroup)
      : kill_(::open((cgroup + "/cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC)),
        events_(::open((cgroup + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC)) {}
  [[nodiscard]] bool ready() const { return kill_.valid() && events_.valid(); }
  [[nodiscard]] bool populated() const {
    char text[128] = {};
    const ssize_t n = ::pread(events_.get(), text, sizeof text - 1, 0);
    return n > 0 && std::strstr(text, "populated 1") != nullptr;
  }
  void end_container() const {
    (void)!::write(kill_.get(), "1", 1);
    constexpr int kTries = 5000;  // of 1 ms
    for (int i = 0; i < kTries && populated(); ++i) ::usleep(1000);
  }

 private:
  Fd kill_;
  Fd events_;
};

// A child that shares this process's descriptors, so that they stay open until it has ended the
// container, should this process die before everything is in place.
class Guard {
 public:
  explicit Guard(const Executioner& executioner) : executioner_(&executioner) {
    void* const memory =
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    all_in_place_ = memory == MAP_FAILED ? nullptr : new (memory) std::atomic<bool>(false);
    pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  }
  [[nodiscard]] bool start() {
    if (all_in_place_ == nullptr || !pidfd_) return false;
    // fork() with one table of descriptors for both.
    const long pid = ::syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) watch();
    if (pid < 0) return false;
    guard_ = static_cast<pid_t>(pid);
    return true;
  }
  [[nodiscard]] bool started() const { return guard_ > 0; }
  // Should it die, there is another.
  void keep_alive() {
    if (guard_ <= 0 || ::waitpid(guard_, nullptr, WNOHANG) != guard_) return;
    guard_ = -1;
    if (!start()) std::cerr << "the guard died and cannot be started again\n";
  }
  void dismiss() {
    if (all_in_place_ != nullptr) *all_in_place_ = true;
    if (guard_ > 0) {
      ::kill(guard_, SIGKILL);
      ::waitpid(guard_, nullptr, 0);
    }
  }

 private:
  [[noreturn]] void watch() {
    ::prctl(PR_SET_NAME, "lifeboat-guard");
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
    pollfd watched{pidfd_.get(), POLLIN, 0};
    while (::poll(&watched, 1, -1) <= 0) {
    }
    if (!*all_in_place_) executioner_->end_container();
    ::_exit(0);
  }

  const Executioner* executioner_;
  std::atomic<bool>* all_in_place_ = nullptr;
  Fd pidfd_;
  pid_t guard_ = -1;
};

// A connection with pages, its store and its thread.
struct Shard {
  Shard(PageSocket connection, std::shared_ptr<PageBudget> budget)
      : store(std::move(budget)), socket_(std::move(connection)) {}
  PageStore store;
  std::thread thread;
  Status result;

  // Receives on a thread of its own. Without one the connection is closed: the source makes another.
  Status start(unsigned number, unsigned count, PageReceiver::Draining draining) {
    draining.acknowledged = [this] { heard_ = true; };
    try {
      thread = std::thread([this, number, count, draining = std::move(draining)] {
        result = PageReceiver(socket_, store, number, count, draining).run();
        if (!result) std::cerr << "a page connection ends: " + result.error().message + "\n";
        close();
      });
    } catch (const std::system_error& error) {
      close();
      return fail(Errc::kUnavailable, std::string("no thread to receive pages with: ") + error.what());
    }
    return {};
  }
  [[nodiscard]] bool open() const {
    const std::lock_guard lock(mutex_);
    return static_cast<bool>(socket_);
  }
  // Another connection instead of one that was lost; what was received stays.
  void replace(PageSocket connection) {
    stop();
    if (thread.joinable()) thread.join();
    const std::lock_guard lock(mutex_);
    heard_ = false;
    socket_ = std::move(connection);
  }
  // Whether the source serves pages on it: nothing may be asked before.
  [[nodiscard]] bool heard() const { return heard_; }
  // Whether it could be sent; else the connection is lost, or too new.
  bool request(const PageRequest& request) {
    const std::lock_guard lock(mutex_);
    return heard_ && socket_ && send_request(socket_, request).has_value();
  }
  // The thread ends once it has what had come.
  void stop() {
    const std::lock_guard lock(mutex_);
    if (socket_) socket_.shut_down(SHUT_RD);
  }

 private:
  // Not only shut down: a source in the middle of sending is told at once.
  void close() {
    const std::lock_guard lock(mutex_);
    socket_ = PageSocket();
  }

  mutable std::mutex mutex_;
  PageSocket socket_;
  std::atomic<bool> heard_ = false;
};

class Pager {
 public:
  explicit Pager(Options options)
      : options_(std::move(options)),
        budget_(std::make_shared<PageBudget>(options_.bytes_max)),
        executioner_(options_.cgroup),
        guard_(executioner_),
        faults_([this](const std::string& reason) { give_up(reason); },
                [this](const RemotePages& pages) { want(pages); }) {}

  int run() {
    if (auto ready = prepare(); !ready) {
      std::cerr << ready.error().message << std::endl;
      return 1;
    }
    controls_.emplace_back(kControlFd);
    while (!ended_) step();
    const bool complete = done() || !criu_seen_ || !executioner_.populated();
    if (!complete) executioner_.end_container();
    guard_.dismiss();
    ::unlink(options_.lazy_socket.c_str());
    ::unlink(options_.control_socket.c_str());
    // What still waits in receivers ends with the process; nothing needs to be taken apart.
    std::cerr << std::flush;
    ::_exit(complete ? 0 : 1);
  }

 private:
  Status prepare() {
    if (!executioner_.ready()) return fail_errno("cgroup " + options_.cgroup);
    TRY(lazy_listener_, listen_at(options_.lazy_socket, SOCK_STREAM));
    TRY(control_listener_, listen_at(options_.control_socket, SOCK_SEQPACKET));
    return {};
  }

  // Called from any thread.
  void give_up(const std::string& reason) {
    std::cerr << "the container is ended: " << reason << std::endl;
    executioner_.end_container();
    guard_.dismiss();
    ::_exit(1);
  }

  void step() {
    std::vector<pollfd> polled;
    polled.push_back({control_listener_.get(), POLLIN, 0});
    polled.push_back({lazy_listener_ ? lazy_listener_.get() : -1, POLLIN, 0});
    polled.push_back({criu_ ? criu_.get() : -1, POLLIN, 0});
    for (const Fd& control : controls_) polled.push_back({control.get(), POLLIN, 0});
    constexpr int kLookMs = 20;  // for the end of the filling, of the container, of the guard
    (void)::poll(polled.data(), polled.size(), kLookMs);
    if (polled[1].revents != 0) accept_criu();
    if (polled[2].revents != 0) hear_criu();
    std::vector<Fd> lost;
    for (std::size_t i = 0; i < controls_.size(); ++i) {
      if (polled[3 + i].revents != 0 && !serve_control(controls_[i].get())) {
        lost.push_back(std::move(controls_[i]));
      }
    }
    std::erase_if(controls_, [](const Fd& fd) { return !fd; });
    if (polled[0].revents != 0) {
      Fd control(::accept4(control_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (control && controls_.size() < 4) controls_.push_back(std::move(control));
    }
    if (controls_.empty() && !criu_seen_) ended_ = true;
    ask_source();
    if (guard_.started()) guard_.keep_alive();
    // CRIU is a member of the cgroup until the container's init is: empty, it has ended.
    if (criu_seen_ && !executioner_.populated()) ended_ = true;
    if (done()) finish();
  }

  // Everything is in place: the word for those who ask, then the end.
  void finish() {
    if (done_at_ == std::chrono::steady_clock::time_point{}) {
      done_at_ = std::chrono::steady_clock::now();
    }
    const bool waited = std::chrono::steady_clock::now() - done_at_ > std::chrono::seconds(1);
    if (told_done_ || controls_.empty() || waited) ended_ = true;
  }

  void accept_criu() {
    criu_ = Fd(::accept4(lazy_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!criu_) return;
    criu_seen_ = true;
    if (!guard_.start()) give_up("no guard could be started");
  }

  void hear_criu() {
    Fd none;
    std::uint32_t word = 0;
    const ssize_t n = receive_with_fd(criu_.get(), &word, sizeof word, none);
    if (n != sizeof word) {
      criu_.reset();
      return;
    }
    if (word == kEndOfTasks) {
      // Nobody would ever ask for these, and their process would read zeros.
      for (const auto& [pid, missing] : pending_) {
        if (missing.pending.empty() && missing.absent.empty()) continue;
        give_up("criu restored no process " + std::to_string(pid));
      }
      all_tasks_ = true;
      return;
    }
    if (static_cast<std::int32_t>(word) < 0) return;  // a zombie has no memory
    if (!final_set_) give_up("criu restores before it is known which pages there are");
    Fd uffd;
    char byte = 0;
    if (receive_with_fd(criu_.get(), &byte, 1, uffd) != 1 || !uffd) {
      give_up("criu announced a process without its userfaultfd");
    }
    const auto at = pending_.find(word);
    FaultService::Missing missing;
    if (at != pending_.end()) {
      missing = std::move(at->second);
      pending_.erase(at);
    }
    faults_.add(word, std::move(uffd), std::move(missing));
  }

  // False when the connection is at its end.
  bool serve_control(int socket) {
    std::string text(4096, '\0');
    Fd fd;
    const ssize_t n = receive_with_fd(socket, text.data(), text.size(), fd);
    if (n <= 0) return false;
    text.resize(static_cast<std::size_t>(n));
    auto request = parse_object(text);
    Result<json::object> answer = fail(Errc::kProtocol, "not a request");
    if (request) answer = handle(*request, std::move(fd));
    json::object body;
    if (answer) {
      body = std::move(*answer);
    } else {
      body = {{"code", to_string(answer.error().code)}, {"message", answer.error().message}};
    }
    body["ok"] = answer.has_value();
    if (request) body["op"] = string_or(*request, "op");
    const std::string reply = json::serialize(body);
    return ::send(socket, reply.data(), reply.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(reply.size());
  }

  Result<json::object> handle(const json::object& request, Fd fd) {
    const std::string op = string_or(request, "op");
    if (op == "status") return status();
    if (op == "connection") return add_connection(request, std::move(fd));
    if (op == "final") return set_final(std::move(fd));
    if (op == "push") {
      CHECK_OK(faults_.push());
      pushed_ = true;
      return json::object{};
    }
    return fail(Errc::kInvalid, "no operation '" + op + "'");
  }

  Result<json::object> status() {
    told_done_ = told_done_ || done();
    const char* phase = done()                     ? "done"
                        : !final_set_              ? "receiving"
                        : faults_.processes() == 0 ? "held"
                        : paused()                 ? "paused"
                                                   : "serving";
    return json::object{{"phase", phase},
                        {"bytes_left", faults_.bytes_left()},
                        {"bytes_absent", faults_.bytes_absent()},
                        {"faults", faults_.faults()},
                        {"placed_bytes", faults_.bytes_placed()},
                        {"processes", faults_.processes()}};
  }

  static Result<PageSocket> page_socket(const json::object& request, Fd socket) {
    if (!socket) return fail(Errc::kProtocol, "a page connection without its descriptor");
    const std::string hex = string_or(request, "key");
    if (hex.empty()) return PageSocket(std::move(socket));
    TRY(const PageKey key, page_key_from(hex));
    return PageSocket::encrypted(std::move(socket), PageSocket::End::kTarget, key);
  }

  Result<json::object> add_connection(const json::object& request, Fd descriptor) {
    TRY(PageSocket socket, page_socket(request, std::move(descriptor)));
    if (request.contains("urgent")) return add_urgent(std::move(socket));
    TRY(const std::uint64_t number, get_u64(request, "shard"));
    TRY(const std::uint64_t count, get_u64(request, "shards"));
    // Before the end of the rounds each of them once; in post-copy any of them again.
    const bool again = final_set_ && later_pages_ > 0 && number < shards_.size() &&
                       count == shards_.size();
    const bool next = !final_set_ && number == shards_.size() && count > 0 && count <= 64;
    if (!again && !next) return fail(Errc::kProtocol, "a page connection out of order");
    if (again) {
      shards_[number]->replace(std::move(socket));
    } else {
      shards_.push_back(std::make_unique<Shard>(std::move(socket), budget_));
    }
    CHECK_OK(shards_[number]->start(static_cast<unsigned>(number), static_cast<unsigned>(count), draining()));
    return json::object{};
  }

  Result<json::object> add_urgent(PageSocket socket) {
    if (urgent_) {
      urgent_->replace(std::move(socket));
    } else {
      urgent_ = std::make_unique<Shard>(std::move(socket), budget_);
    }
    CHECK_OK(urgent_->start(0, 1, draining()));
    wanted_ = listed_ = false;
    return json::object{};
  }

  PageReceiver::Draining draining() {
    return {[this] { return final_set_.load(); },
            [this](const RemotePages& pages, const unsigned char* bytes, unsigned char* place) {
              faults_.arrived(pages, bytes, place);
            },
            nullptr};
  }

  // Once for each connection: what threads wait for since before it, and then all that is missing, which the
  // source sends: not before every process is there to take it.
  void ask_source() {
    if (!urgent_ || !urgent_->heard()) return;
    if (!std::exchange(wanted_, true)) {
      for (const RemotePages& pages : faults_.wanted()) want(pages);
    }
    if (pushed_ && all_tasks_ && !std::exchange(listed_, true)) list_absent();
  }

  // From the thread that serves faults. Asked again after a lost connection.
  void want(const RemotePages& pages) {
    if (urgent_) (void)urgent_->request({page_stream::Kind::kWant, pages});
  }

  void list_absent() {
    for (const RemotePages& pages : faults_.absent()) {
      if (!urgent_->request({page_stream::Kind::kLack, pages})) return;
    }
    (void)urgent_->request({page_stream::Kind::kLackEnd, {}});
  }

  // Every page is where it belongs, in every process.
  [[nodiscard]] bool done() const { return faults_.done() && all_tasks_; }

  [[nodiscard]] bool paused() const {
    return pushed_ && faults_.bytes_absent() > 0 && !urgent_->open();
  }

  // The source has had its acknowledgements: nothing more comes.
  Status end_receiving() {
    for (const auto& shard : shards_) shard->stop();
    Status status;
    for (const auto& shard : shards_) {
      if (shard->thread.joinable()) shard->thread.join();
      if (!shard->result && status) status = shard->result;
    }
    return status;
  }

  Result<json::object> set_final(Fd list) {
    if (final_set_ || !list || shards_.empty()) return fail(Errc::kProtocol, "unexpected 'final'");
    if (!urgent_) CHECK_OK(end_receiving());
    final_set_ = true;
    struct stat info {};
    if (::fstat(list.get(), &info) != 0) return fail_errno("list of pages");
    const auto size = static_cast<std::size_t>(info.st_size);
    if (size % sizeof(FinalPage) != 0) return fail(Errc::kProtocol, "a list of pages with odd size");
    std::vector<FinalPage> entries(size / sizeof(FinalPage));
    if (::pread(list.get(), entries.data(), size, 0) != static_cast<ssize_t>(size)) {
      return fail_errno("read the list of pages");
    }
    CHECK_OK(check_final_pages(entries));
    for (const FinalPage& entry : entries) CHECK_OK(take_over(entry));
    return json::object{
        {"pages", pages_}, {"zero_pages", zero_pages_}, {"later_pages", later_pages_}};
  }

  // Finds each page of an entry in the stores.
  Status take_over(const FinalPage& entry) {
    Pending& pending = pending_[entry.pid].pending;
    if (entry.later != 0) {
      if (!urgent_) return fail(Errc::kProtocol, "pages are to come later, but over no connection");
      pending_[entry.pid].absent.add({entry.address, entry.pages * kPageBytes,
                                      reinterpret_cast<unsigned char*>(entry.address)});
      pages_ += entry.pages;
      later_pages_ += entry.pages;
      return {};
    }
    const std::uint64_t end = entry.address + entry.pages * kPageBytes;
    std::uint64_t address = entry.address;
    while (address < end) {
      const std::uint64_t chunk_start = address / kChunkBytes * kChunkBytes;
      const std::uint64_t stop = std::min(end, chunk_start + kChunkBytes);
      const unsigned shard = shard_of(entry.pid, address, static_cast<unsigned>(shards_.size()));
      const auto& chunks = shards_[shard]->store.chunks();
      const auto at = chunks.find({entry.pid, chunk_start});
      std::uint32_t data_pages = 0;
      while (address < stop) {
        const std::uint64_t first = address % kChunkBytes / kPageBytes;
        if (at == chunks.end() || (!at->second.data[first] && !at->second.zero[first])) {
          return fail(Errc::kProtocol, "page " + std::to_string(address) + " of process " +
                                           std::to_string(entry.pid) + " never arrived");
        }
        const bool data = at->second.data[first];
        std::uint64_t next = address + kPageBytes;
        while (next < stop && at->second.data[next % kChunkBytes / kPageBytes] == data &&
               (data || at->second.zero[next % kChunkBytes / kPageBytes])) {
          next += kPageBytes;
        }
        if (data) {
          pending.add({address, next - address, at->second.memory + first * kPageBytes});
          data_pages += static_cast<std::uint32_t>((next - address) / kPageBytes);
        } else {
          zero_pages_ += (next - address) / kPageBytes;
        }
        pages_ += (next - address) / kPageBytes;
        address = next;
      }
      // With pages to come, a chunk may still be received into when all its pages have been placed.
      if (data_pages > 0 && !urgent_) faults_.expect_from_chunk(at->second.memory, data_pages);
    }
    return {};
  }

  Options options_;
  std::shared_ptr<PageBudget> budget_;  // of all connections together
  Executioner executioner_;
  Guard guard_;
  FaultService faults_;
  Fd lazy_listener_;
  Fd control_listener_;
  Fd criu_;
  std::vector<Fd> controls_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<Shard> urgent_;  // in post-copy
  std::map<std::uint32_t, FaultService::Missing> pending_;
  std::uint64_t pages_ = 0;
  std::uint64_t zero_pages_ = 0;
  std::uint64_t later_pages_ = 0;
  bool pushed_ = false;
  bool wanted_ = false;  // of the connection that is there
  bool listed_ = false;
  bool all_tasks_ = false;  // CRIU has announced every process
  std::atomic<bool> final_set_{false};
  bool criu_seen_ = false;
  bool told_done_ = false;
  bool ended_ = false;
  std::chrono::steady_clock::time_point done_at_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Holds a container's memory at the target of a migration; started by lifeboatd"};
  Options options;
  app.add_option("--lazy-socket", options.lazy_socket)->required();
  app.add_option("--control-socket", options.control_socket)->required();
  app.add_option("--cgroup", options.cgroup)->required();
  app.add_option("--bytes-max", options.bytes_max)->required();
  CLI11_PARSE(app, argc, argv);
  for (const int number : {SIGPIPE, SIGHUP, SIGINT, SIGTERM}) ::signal(number, SIG_IGN);
  // No page gets into a core dump, nor to any process but root's.
  ::prctl(PR_SET_DUMPABLE, 0);
  // What it holds is somebody's only copy.
  (void)write_value("/proc/self/oom_score_adj", "-900");
  Pager pager(std::move(options));
  return pager.run();
}
