// lifeboat-predict bench: events per second, delay of one event, memory.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>

#include "predictor/evaluate/csv.hpp"
#include "predictor/main/commands.hpp"
#include "predictor/main/options.hpp"
#include "predictor/predictor.hpp"

namespace lifeboat::predictor {
namespace {

constexpr const char* kUsage =
    R"(usage: lifeboat-predict bench [OPTION]...
Feeds made-up events of many nodes to a predictor. The share of corrected memory errors, hardware
errors and failures is that of a badly ailing machine.
  --events N   1000000
  --nodes N    10000
  --flood      every text is a new template
)";

using Clock = std::chrono::steady_clock;

double resident_mib() {
  std::ifstream file("/proc/self/statm");
  double size = 0;
  double resident = 0;
  file >> size >> resident;
  return resident * 4096 / (1 << 20);
}

std::vector<Event> make_events(std::size_t count, std::size_t nodes, bool flood) {
  constexpr std::array<const char*, 8> kTexts{
      "eth0: link is up, 10000 Mbps full duplex, flow control: rx/tx, port 3",
      "usb 1-1.4: new high-speed device number 7 using xhci_hcd",
      "EXT4-fs (sda1): mounted filesystem 81f1-22 with ordered data mode. Quota mode: none.",
      "slurmd[1721]: launch task StepId=8812.0 request from UID:1000 GID:1000 HOST:10.1.2.3 "
      "PORT:3121",
      "sshd[99812]: Accepted publickey for user from 10.0.0.7 port 55122 ssh2: RSA SHA256:abcdef12",
      "nfs: server 10.4.0.2 not responding, still trying",
      "CPU12: Core temperature above threshold, cpu clock throttled (total events = 812)",
      "blk_update_request: I/O error, dev sdb, sector 18812 op 0x0:(READ) flags 0x80700"};
  std::mt19937_64 random(4);
  std::vector<Event> events(count);
  Time time{Duration(1'700'000'000'000'000)};
  for (std::size_t i = 0; i < count; ++i) {
    Event& event = events[i];
    time += Duration(static_cast<std::int64_t>(random() % 20'000));
    event.time = time;
    event.node = "node" + std::to_string(random() % nodes);
    event.source = "kmsg";
    const std::uint64_t kind = random() % 1000;
    if (kind < 20) {
      event.kind = EventKind::kCorrectedMemory;
      event.severity = Severity::kWarning;
      event.location = "mc0/dimm" + std::to_string(random() % 16);
      event.details = {{"row", std::to_string(random() % 1000)}};
      event.text = "CE memory read error";
    } else if (kind < 22) {
      event.kind = kind == 20 ? EventKind::kDown : EventKind::kRepaired;
      event.severity = Severity::kFatal;
    } else if (kind < 50) {
      event.kind = EventKind::kDisk;
      event.severity = Severity::kError;
      event.location = "sdb";
      event.text = kTexts[7];
    } else {
      event.severity = kind < 100 ? Severity::kError : Severity::kInfo;
      event.text = kTexts[random() % kTexts.size()];
    }
    if (flood && event.kind == EventKind::kMessage) {
      for (int letter = 0; letter < 12; ++letter) {
        event.text += static_cast<char>('g' + random() % 16);
      }
    }
  }
  return events;
}

void run(std::size_t count, std::size_t nodes, bool flood) {
  const std::vector<Event> events = make_events(count, nodes, flood);
  std::string lines;
  for (std::size_t i = 0; i < std::min<std::size_t>(count, 100'000); ++i) {
    lines += to_replay_line(events[i]);
  }
  const double before = resident_mib();
  Predictor predictor{{}};
  const auto start = Clock::now();
  for (const Event& event : events) predictor.add(event);
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  const double grown = resident_mib() - before;
  const std::size_t changes = predictor.take_changes().size();
  (void)std::printf(
      "add: %zu events of %zu nodes in %.3f s, %.0f events/s; %zu nodes turned; %.1f MiB\n", count,
      predictor.nodes(), elapsed, static_cast<double>(count) / elapsed, changes, grown);

  // Once more with a clock around each event, which itself costs some 50 ns.
  Predictor timed{{}};
  std::vector<double> delays(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto from = Clock::now();
    timed.add(events[i]);
    delays[i] = std::chrono::duration<double, std::micro>(Clock::now() - from).count();
  }
  std::sort(delays.begin(), delays.end());
  const auto at = [&](double share) {
    return delays[std::min(count - 1,
                           static_cast<std::size_t>(share * static_cast<double>(count)))];
  };
  (void)std::printf("one event: p50 %.2f us, p99 %.2f us, p99.9 %.2f us, max %.1f us\n", at(0.5),
                    at(0.99), at(0.999), delays.back());

  const auto parse = Clock::now();
  std::size_t parsed = 0;
  each_line(lines, [&](std::string_view line, std::size_t) {
    if (!line.empty() && parse_replay_line(line)) ++parsed;
  });
  const double parsing = std::chrono::duration<double>(Clock::now() - parse).count();
  (void)std::printf("replay lines: %.0f/s\n", static_cast<double>(parsed) / parsing);
}

}  // namespace

int bench_command(int argc, char** argv) {
  double events = 1e6;
  double nodes = 1e4;
  bool flood = false;
  bool help = false;
  Options options;
  options.number("--events", events);
  options.number("--nodes", nodes);
  options.flag("--flood", flood);
  options.flag("--help", help);
  Status parsed = options.parse(argc, argv);
  if (parsed && (events < 1 || nodes < 1 || events > 1e8 || nodes > 1e6)) {
    parsed = fail(Errc::kInvalid, "--events from 1 to 1e8, --nodes from 1 to 1e6");
  }
  if (!parsed || help) {
    if (!parsed) (void)std::fprintf(stderr, "bench: %s\n", parsed.error().message.c_str());
    (void)std::fputs(kUsage, parsed ? stdout : stderr);
    return parsed ? 0 : 2;
  }
  run(static_cast<std::size_t>(events), static_cast<std::size_t>(nodes), flood);
  return 0;
}

}  // namespace lifeboat::predictor
