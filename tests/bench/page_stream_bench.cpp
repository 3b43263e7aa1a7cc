// How fast pages go from a process through the stream into stores, over TCP on the loopback: both
// ends on this machine, so its processors do the work of both. Not a test: run it by hand when
// the machine is quiet, and state the load.
//
//   build/dev/bin/page_bench [--connections N] [--mib N] [--repeat N] [--encrypted]
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "migration/page_stream.hpp"
#include "tests/tcp_pair.hpp"

namespace {

using namespace lifeboat;

struct Options {
  unsigned connections = 2;
  std::uint64_t mib = 1024;
  unsigned repeat = 3;
  bool encrypted = false;
};

// What the pages hold.
enum class Content { kRandom, kText, kSame, kZero };

void fill(unsigned char* memory, std::uint64_t bytes, Content content) {
  std::mt19937_64 random(1);
  for (std::uint64_t at = 0; at < bytes; at += 8) {
    std::uint64_t word = 0;
    switch (content) {
      case Content::kRandom: word = random(); break;
      case Content::kText: word = 0x2020202020202020 | (random() & 0x0f); break;
      case Content::kSame: word = 0x3ff0000000000000; break;  // 1.0
      case Content::kZero: break;
    }
    std::memcpy(memory + at, &word, 8);
  }
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Replaces both ends of a connection by encrypted ones.
bool encrypt(PageSocket (&ends)[2]) {
  const PageKey key{1, 2, 3};
  auto source = PageSocket::encrypted(Fd(::dup(ends[0].fd())), PageSocket::End::kSource, key);
  auto target = PageSocket::encrypted(Fd(::dup(ends[1].fd())), PageSocket::End::kTarget, key);
  if (!source || !target) return false;
  ends[0] = std::move(*source);
  ends[1] = std::move(*target);
  for (;;) {
    const auto one = ends[0].try_handshake();
    const auto other = ends[1].try_handshake();
    if (!one || !other || (*one && *other)) return one && other;
  }
}

bool measure(const Options& options, const unsigned char* memory, const char* name) {
  const std::uint64_t bytes = options.mib << 20;
  const auto budget = std::make_shared<PageBudget>(2 * bytes);
  std::vector<std::unique_ptr<PageSender>> senders;
  std::vector<std::unique_ptr<PageStore>> stores;
  std::vector<PageSocket> targets(options.connections);
  for (unsigned shard = 0; shard < options.connections; ++shard) {
    PageSender::Options sender;
    sender.shard = shard;
    sender.shards = options.connections;
    auto [source, target] = tcp_pair();
    PageSocket ends[2] = {PageSocket(std::move(source)), PageSocket(std::move(target))};
    if (options.encrypted && !encrypt(ends)) return false;
    targets[shard] = std::move(ends[1]);
    senders.push_back(std::make_unique<PageSender>(std::move(ends[0]), sender));
    stores.push_back(std::make_unique<PageStore>(budget));
  }
  const PageRun run{reinterpret_cast<std::uint64_t>(memory), static_cast<std::uint32_t>(bytes / kPageBytes)};
  const auto start = std::chrono::steady_clock::now();
  const double cpu = cpu_seconds();
  std::atomic<bool> good{true};
  std::uint64_t on_wire = 0;
  {
    std::vector<std::jthread> receivers;
    std::vector<std::jthread> sending;
    for (unsigned shard = 0; shard < options.connections; ++shard) {
      receivers.emplace_back([&, shard] {
        auto ended = PageReceiver(targets[shard], *stores[shard], shard, options.connections).run();
        if (!ended) good = false;
      });
      sending.emplace_back([&, shard] {
        PageJob job;
        job.host_pid = ::getpid();
        job.pid = 1;
        job.runs = std::span(&run, 1);
        std::vector<PageRun> unread;
        auto sent = senders[shard]->send(job, unread);
        if (!sent || !senders[shard]->flush() || !unread.empty()) good = false;
      });
    }
    sending.clear();
    for (const auto& sender : senders) on_wire += sender->bytes_on_wire();
    senders.clear();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%-8s %6.2f GB/s of pages, %6.1f MiB on the wire, %.2f s of processors per GB\n", name,
              static_cast<double>(bytes) / took.count() / 1e9, static_cast<double>(on_wire) / (1 << 20),
              (cpu_seconds() - cpu) / (static_cast<double>(bytes) / 1e9));
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Speed of the page stream over the loopback"};
  Options options;
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 16));
  app.add_option("--mib", options.mib)->check(CLI::Range(1, 8192));
  app.add_option("--repeat", options.repeat)->check(CLI::Range(1, 100));
  app.add_flag("--encrypted", options.encrypted, "as between nodes (security.pages: encrypted)");
  CLI11_PARSE(app, argc, argv);
  const std::uint64_t bytes = options.mib << 20;
  auto* const memory = static_cast<unsigned char*>(
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED) return 1;
  const std::pair<const char*, Content> contents[] = {{"random", Content::kRandom},
                                                      {"text", Content::kText},
                                                      {"same", Content::kSame},
                                                      {"zero", Content::kZero}};
  for (const auto& [name, content] : contents) {
    fill(memory, bytes, content);
    for (unsigned i = 0; i < options.repeat; ++i) {
      if (!measure(options, memory, name)) {
        std::fprintf(stderr, "the transfer failed\n");
        return 1;
      }
    }
  }
  return 0;
}
