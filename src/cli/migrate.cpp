// `lifeboat migrate` and `lifeboat cancel`.
#include <algorithm>
#include <iostream>
#include <thread>

#include "base/asio.hpp"
#include "cli/cli.hpp"
#include "cli/progress.hpp"
#include "cluster_view.hpp"

namespace lifeboat {

namespace {

// One container that is to move: its report as far as it is known.
struct Moving {
  std::string container;
  std::string to;
  std::string id;  // empty: refused
  json::object report;
  bool over = false;
  Patience patience{};
};

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
  const auto rounds = objects_of(report, "rounds");
  if (rounds.empty()) return "";
  auto decision = get_object(*rounds.back(), "decision");
  return std::to_string(rounds.size()) + " round(s) of pre-copy: " +
         (decision ? string_or(**decision, "reason") : "") + "\n";
}

// "256 MiB of pages went as 31 MiB: 1200 zero, 40 duplicate, 30000 compressed"
std::string memory_text(const json::object& report) {
  auto memory = get_object(report, "memory");
  if (!memory || number_or(**memory, "bytes_raw") <= 0) return "";
  const auto pages = [&](const char* key) { return fixed(number_or(**memory, key), 0); };
  return mib(**memory, "bytes_raw") + " of pages went as " + mib(**memory, "bytes_on_wire") + ": " +
         pages("pages_zero") + " zero, " + pages("pages_duplicate") + " duplicate, " +
         pages("pages_compressed") + " compressed\n";
}

// "13.2 MiB in CRIU's images, 12.6 MiB of that sent before the freeze"
std::string images_text(const json::object& report) {
  auto images = get_object(report, "images");
  if (!images || number_or(**images, "known_bytes") <= 0) return "";
  return mib(**images, "bytes") + " in CRIU's images, " + mib(**images, "known_bytes") +
         " of that sent before the freeze\n";
}

void show_warnings(const json::object& report) {
  const auto warnings = get_array(report, "warnings");
  if (!warnings) return;
  for (const json::value& warning : **warnings) {
    if (warning.is_string()) std::cout << "  warning: " << std::string(warning.get_string()) << "\n";
  }
}

void show_prediction(const json::object& answer, const Moving& moving) {
  std::cout << moving.container << " can be moved to " << moving.to << " over "
            << string_or(answer, "fabric") << ": " << mib(answer, "resident_bytes")
            << ", of which " << fixed(number_or(answer, "dirty_bytes_per_s") / 1e6, 1)
            << " MB/s are rewritten\n  predicted: downtime "
            << fixed(number_or(answer, "downtime_ms"), 0) << " ms, total "
            << fixed(number_or(answer, "total_ms"), 0) << " ms";
  if (number_or(answer, "rounds") > 0) std::cout << ", " << fixed(number_or(answer, "rounds"), 0) << " rounds";
  std::cout << "\n";
  if (number_or(answer, "layer_bytes") > 0) {
    std::cout << "  with its writable files: " << mib(answer, "layer_bytes") << " in "
              << fixed(number_or(answer, "layer_files"), 0) << " files\n";
  }
  show_warnings(answer);
}

json::object request_body(const Options& options, const std::string& to) {
  json::object body{{"to", to}};
  if (!options.fabric.empty()) body["fabric"] = options.fabric;
  if (!options.mode.empty()) body["mode"] = options.mode;
  if (options.bandwidth > 0) body["bytes_per_s"] = std::uint64_t{options.bandwidth} * 1'000'000 / 8;
  if (options.dry_run) body["dry_run"] = true;
  return body;
}

bool moved(const Moving& moving) { return string_or(moving.report, "outcome") == "committed"; }

void show_end(const Moving& moving, bool details) {
  const json::object& report = moving.report;
  if (moving.id.empty()) {
    std::cerr << "lifeboat: not moved, " << moving.container << ": " << string_or(report, "error") << "\n";
  } else if (moved(moving)) {
    std::cout << moving.container << " runs on " << moving.to << ": downtime "
              << fixed(number_or(report, "downtime_ms"), 1) << " ms"
              << (details ? " (" + parts_text(report) + ")" : "") << ", " << mib(report, "bytes_sent")
              << " over " << string_or(report, "fabric") << " in "
              << fixed(number_or(report, "total_ms"), 0) << " ms\n"
              << (details ? rounds_text(report) + memory_text(report) + images_text(report) : "");
    show_warnings(report);
  } else {
    std::cerr << "lifeboat: not moved, " << moving.container << " runs on at "
              << string_or(report, "source") << "\n  failed in: " << string_or(report, "phase")
              << "\n  because: " << string_or(report, "error") << "\n";
  }
}

// Asks for it; a refusal is an end, too.
Status begin(ApiClient& api, const Options& options, Moving& moving) {
  auto answer = api.post("/v1/containers/" + moving.container + "/migrate",
                         request_body(options, moving.to));
  if (answer) {
    moving.id = string_or(*answer, "id");
    moving.report = {{"id", moving.id}, {"container", moving.container}, {"target", moving.to}};
    if (options.dry_run) moving.report = std::move(*answer);
    return {};
  }
  moving.over = true;
  moving.report = {{"container", moving.container}, {"target", moving.to},
                   {"phase", "refused"},            {"outcome", "refused"},
                   {"code", to_string(answer.error().code)}, {"error", answer.error().message}};
  return tl::unexpected<Error>(answer.error());
}

// How far it is; as it was last seen while nobody answers, for as long as there is patience.
Status look(ApiClient& api, Moving& moving) {
  auto report = api.get("/v1/migrations/" + moving.id);
  // A daemon that was killed finds out soon after its start what has become of it.
  const bool unknown = report && string_or(*report, "outcome") == "unknown";
  if (unknown) report = fail(Errc::kUnavailable, "its source does not know yet: " + string_or(*report, "phase"));
  if (!report) {
    if (moving.patience.allows(report.error())) return {};
    return tl::unexpected<Error>(report.error().context(
        "what becomes of " + moving.container + " is not known here; see: lifeboat migrations " + moving.id));
  }
  moving.patience.answered();
  moving.report = std::move(*report);
  const std::string outcome = string_or(moving.report, "outcome");
  // The outcome is set a moment before the source has cleaned up and the total is known; by another daemon than the
  // one that began, it never is.
  const bool tidy = !moving.report.contains("total_ms") || number_or(moving.report, "total_ms") > 0;
  moving.over = outcome != "running" && outcome != "in-doubt" && tidy;
  return {};
}

// The migrations are the daemons': they go on whether or not anybody watches.
Status follow(ApiClient& api, const Options& options, std::vector<Moving>& all) {
  Screen screen(options.as_json);
  const Milliseconds pause(all.size() > 1 ? 100 : 20);
  for (;;) {
    bool over = true;
    std::vector<json::object> reports;
    for (Moving& moving : all) {
      if (!moving.over) {
        const Status looked = look(api, moving);
        if (!looked) {
          screen.end();
          return looked;
        }
      }
      over = over && moving.over;
      reports.push_back(moving.report);
    }
    screen.show(reports);
    if (over) break;
    std::this_thread::sleep_for(pause);
  }
  screen.end();
  return {};
}

int migrate_one(ApiClient& api, const Options& options, Moving moving) {
  if (auto begun = begin(api, options, moving); !begun) return tell(begun.error(), options);
  if (options.dry_run) {
    if (options.as_json) {
      print_json(moving.report);
    } else {
      show_prediction(moving.report, moving);
    }
    return kOk;
  }
  if (!options.as_json) std::cerr << "migration " << moving.id << "\n";
  std::vector<Moving> all{std::move(moving)};
  if (auto followed = follow(api, options, all); !followed) return tell(followed.error(), options);
  if (options.as_json) {
    print_json(all.front().report);
  } else {
    show_end(all.front(), true);
  }
  return moved(all.front()) ? kOk : kFailed;
}

json::array reports_of(const std::vector<Moving>& all) {
  json::array out;
  for (const Moving& moving : all) out.push_back(moving.report);
  return out;
}

int predict_all(ApiClient& api, const Options& options, std::vector<Moving> all) {
  bool good = true;
  for (Moving& moving : all) {
    good = begin(api, options, moving).has_value() && good;
    if (options.as_json) continue;
    if (moving.over) {
      show_end(moving, false);
    } else {
      show_prediction(moving.report, moving);
    }
  }
  if (options.as_json) print_json({{"predictions", reports_of(all)}});
  return good ? kOk : kFailed;
}

int migrate_all(ApiClient& api, const Options& options, std::vector<Moving> all) {
  if (options.dry_run) return predict_all(api, options, std::move(all));
  for (Moving& moving : all) {
    (void)begin(api, options, moving);  // told at the end, with the others
    if (!options.as_json && !moving.over) {
      std::cerr << "migration " << moving.id << " of " << moving.container << "\n";
    }
  }
  if (auto followed = follow(api, options, all); !followed) return tell(followed.error(), options);
  const auto good = static_cast<std::size_t>(std::count_if(all.begin(), all.end(), moved));
  if (options.as_json) {
    print_json({{"migrations", reports_of(all)}});
  } else {
    for (const Moving& moving : all) show_end(moving, false);
    std::cout << good << " of " << all.size() << " moved\n";
  }
  return good == all.size() ? kOk : kFailed;
}

// Everything on a node, each to its target.
Result<std::vector<Moving>> plan(ApiClient& api, const Options& options) {
  json::object body{{"from", options.all_from}};
  if (!options.to.empty()) body["to"] = options.to;
  TRY(const json::object answer, api.post("/v1/migrations/plan", body));
  CHECK_OK(get_array(answer, "moves"));
  std::vector<Moving> all;
  for (const json::object* move : objects_of(answer, "moves")) {
    Moving moving;
    moving.container = string_or(*move, "container");
    moving.to = string_or(*move, "to");
    all.push_back(std::move(moving));
  }
  if (options.as_json) return all;
  for (const json::object* skipped : objects_of(answer, "skipped")) {
    std::cerr << "lifeboat: left alone, because it is " << string_or(*skipped, "state") << ": "
              << string_or(*skipped, "container") << "\n";
  }
  return all;
}

}  // namespace

int migrate(ApiClient& api, const Options& options) {
  if (!options.all_from.empty()) {
    auto all = plan(api, options);
    if (!all) return tell(all.error(), options);
    return migrate_all(api, options, std::move(*all));
  }
  std::vector<Moving> all;
  for (const std::string& name : options.names) {
    Moving moving;
    moving.container = name;
    moving.to = options.to;
    all.push_back(std::move(moving));
  }
  if (all.size() == 1) return migrate_one(api, options, std::move(all.front()));
  return migrate_all(api, options, std::move(all));
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

}  // namespace lifeboat
