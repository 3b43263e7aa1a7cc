#include <unistd.h>

#include <iostream>
#include <thread>

#include "base/asio.hpp"
#include "cli/cli.hpp"

namespace lifeboat {

namespace {

// "round 3, 812 of 1024 MiB, dirty 40 MB/s, wire 117 MB/s, a freeze now 42 ms"
std::string progress_text(const json::object& report) {
  constexpr double kPage = 4096;
  constexpr double kMiB = 1 << 20;
  const std::string phase = string_or(report, "phase");
  auto rounds = get_array(report, "rounds");
  const std::size_t done = rounds ? (*rounds)->size() : 0;
  std::string text = phase;
  if (phase != "pre-copy") return text;
  text += ": round " + std::to_string(done + 1) + ", " +
          fixed(number_or(report, "round_pages_sent") * kPage / kMiB, 0) + " of " +
          fixed(number_or(report, "round_pages") * kPage / kMiB, 0) + " MiB";
  if (done == 0) return text;
  auto decision = get_object((*rounds)->back().get_object(), "decision");
  if (!decision) return text;
  text += ", dirty " + fixed(number_or(**decision, "dirty_bytes_per_s") / 1e6, 0) + " MB/s, wire " +
          fixed(number_or(**decision, "send_bytes_per_s") / 1e6, 0) + " MB/s, to send if frozen now " +
          fixed(number_or(**decision, "expected_downtime_s") * 1000, 0) + " ms";
  return text;
}

// A line that is rewritten in a terminal, and said once per phase elsewhere.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {}
  void show(const json::object& report) {
    const std::string phase = string_or(report, "phase");
    if (quiet_ || (!terminal_ && phase == phase_)) return;
    const std::string text = progress_text(report);
    if (terminal_) {
      std::cerr << "\r\033[K  " << text << std::flush;
    } else {
      std::cerr << "  " << phase << "\n";
    }
    phase_ = phase;
  }
  void end() const {
    if (!quiet_ && terminal_) std::cerr << "\r\033[K";
  }

 private:
  bool quiet_;
  bool terminal_;
  std::string phase_;
};

std::vector<std::string> migration_row(const json::object& item) {
  return {string_or(item, "id"),      string_or(item, "container"),
          string_or(item, "source"),  string_or(item, "target"),
          string_or(item, "fabric"),  string_or(item, "outcome"),
          mib(item, "bytes_sent"),    fixed(number_or(item, "downtime_ms"), 0) + " ms",
          fixed(number_or(item, "total_ms"), 0) + " ms"};
}

const std::vector<std::string> kMigrationHead = {"MIGRATION", "CONTAINER", "FROM", "TO", "FABRIC",
                                                 "OUTCOME",   "SENT",      "DOWNTIME", "TOTAL"};

}  // namespace

int migrations(ApiClient& api, const Options& options) {
  if (options.name.empty()) {
    return show_list(api.get("/v1/migrations"), options, "migrations", kMigrationHead,
                     migration_row);
  }
  auto answer = api.get("/v1/migrations/" + options.name);
  if (!answer) return tell(answer.error(), options);
  print_json(*answer);
  return kOk;
}

namespace {

std::string parts_text(const json::object& report) {
  auto parts = get_object(report, "downtime_parts_ms");
  if (!parts) return "";
  std::string text;
  for (const auto& part : **parts) {
    text += (text.empty() ? "" : ", ") + std::string(part.key()) + " " +
            fixed(part.value().to_number<double>(), 1);
  }
  return text;
}

std::string rounds_text(const json::object& report) {
  auto rounds = get_array(report, "rounds");
  if (!rounds || (*rounds)->empty()) return "";
  auto decision = get_object((*rounds)->back().get_object(), "decision");
  return std::to_string((*rounds)->size()) + " round(s) of pre-copy: " +
         (decision ? string_or(**decision, "reason") : "") + "\n";
}

int show_prediction(const json::object& answer, const Options& options) {
  if (options.as_json) {
    print_json(answer);
    return kOk;
  }
  std::cout << options.name << " can be moved to " << options.to << " over "
            << string_or(answer, "fabric") << ": " << mib(answer, "resident_bytes")
            << ", of which " << fixed(number_or(answer, "dirty_bytes_per_s") / 1e6, 1)
            << " MB/s are rewritten\n  predicted: downtime "
            << fixed(number_or(answer, "downtime_ms"), 0) << " ms, total "
            << fixed(number_or(answer, "total_ms"), 0) << " ms\n";
  if (number_or(answer, "layer_files") > 0) {
    std::cout << "  with its writable layer: " << mib(answer, "layer_bytes") << " in "
              << fixed(number_or(answer, "layer_files"), 0) << " files\n";
  }
  return kOk;
}

}  // namespace

int migrate(ApiClient& api, const Options& options) {
  json::object body{{"to", options.to}};
  if (!options.fabric.empty()) body["fabric"] = options.fabric;
  if (!options.mode.empty()) body["mode"] = options.mode;
  if (options.bandwidth > 0) body["bytes_per_s"] = std::uint64_t{options.bandwidth} * 1'000'000 / 8;
  if (options.dry_run) body["dry_run"] = true;
  auto accepted = api.post("/v1/containers/" + options.name + "/migrate", body);
  if (!accepted) return tell(accepted.error(), options);
  if (options.dry_run) return show_prediction(*accepted, options);
  const std::string id = string_or(*accepted, "id");
  if (!options.as_json) std::cerr << "migration " << id << "\n";
  ProgressLine line(options.as_json);
  for (;;) {
    // The migration is the daemon's: it goes on whether or not anybody watches.
    auto report = api.get("/v1/migrations/" + id);
    if (!report) return tell(report.error(), options);
    line.show(*report);
    const std::string outcome = string_or(*report, "outcome");
    // The outcome is set a moment before the source has cleaned up and the total is known.
    const bool over = outcome != "running" && outcome != "in-doubt" &&
                      number_or(*report, "total_ms") > 0;
    if (!over) {
      std::this_thread::sleep_for(Milliseconds(20));
      continue;
    }
    line.end();
    if (options.as_json) print_json(*report);
    if (outcome == "committed") {
      if (!options.as_json) {
        std::cout << options.name << " runs on " << options.to << ": downtime "
                  << fixed(number_or(*report, "downtime_ms"), 1) << " ms (" << parts_text(*report)
                  << "), " << mib(*report, "bytes_sent") << " over " << string_or(*report, "fabric")
                  << " in " << fixed(number_or(*report, "total_ms"), 0) << " ms\n"
                  << rounds_text(*report);
      }
      return kOk;
    }
    if (!options.as_json) {
      std::cerr << "lifeboat: not moved, " << options.name << " runs on at "
                << string_or(*report, "source") << "\n  failed in: " << string_or(*report, "phase")
                << "\n  because: " << string_or(*report, "error") << "\n";
    }
    return kFailed;
  }
}

int cancel(ApiClient& api, const Options& options) {
  auto answer = api.post("/v1/migrations/" + options.name + "/cancel", {});
  if (!answer) return tell(answer.error(), options);
  if (options.as_json) {
    print_json(*answer);
  } else {
    std::cout << "migration " << options.name << " is being cancelled\n";
  }
  return kOk;
}

namespace {

Result<std::string> top_table(ApiClient& api, json::array& all) {
  TRY(const json::object answer, api.get("/v1/nodes"));
  TRY(const json::array* nodes, get_array(answer, "nodes"));
  Table table({"MIGRATION", "CONTAINER", "FROM", "TO", "FABRIC", "SENT", "STATE"});
  all.clear();
  for (const json::value& node : *nodes) {
    auto list = get_array(node.get_object(), "migrations");
    if (!list) continue;
    for (const json::value& item : **list) {
      const json::object& report = item.get_object();
      table.add({string_or(report, "id"), string_or(report, "container"),
                 string_or(report, "source"), string_or(report, "target"),
                 string_or(report, "fabric"), mib(report, "bytes_sent"), progress_text(report)});
      all.push_back(item);
    }
  }
  return table.text();
}

}  // namespace

int top(ApiClient& api, const Options& options) {
  const bool once = options.once || options.as_json || ::isatty(STDOUT_FILENO) != 1;
  for (;;) {
    json::array all;
    auto text = top_table(api, all);
    if (!text) return tell(text.error(), options);
    if (options.as_json) {
      print_json({{"migrations", std::move(all)}});
    } else {
      std::cout << (once ? "" : "\033[H\033[J") << *text << std::flush;
    }
    if (once) return kOk;
    std::this_thread::sleep_for(Milliseconds(500));
  }
}

}  // namespace lifeboat
