// lifeboat-predict replay: what the predictor says while a log passes by.
#include <cstdio>

#include "base/file.hpp"
#include "predictor/evaluate/formats.hpp"
#include "predictor/main/commands.hpp"
#include "predictor/main/options.hpp"
#include "predictor/predictor.hpp"

namespace lifeboat::predictor {
namespace {

constexpr const char* kUsage =
    R"(usage: lifeboat-predict replay --in FILE... [OPTION]...
Prints a line whenever a node turns degraded, healthy or down, with the reason.
  --in FILE...         the log
  --format FORMAT      replay (default), lanl, mira, alibaba, bgl, kmsg
  --config FILE        a mapping as section `predictor` of lifeboat.yaml
  --probation TIME     a node that failed is degraded for so long after its repair. 24h
  --state FILE         go on from this state, and leave the new one there
  --evidence           also print the events that a verdict rests on
)";

std::string time_text(Time time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::seconds>(time - day));
  char text[64];
  (void)std::snprintf(text, sizeof text, "%04d-%02u-%02u %02ld:%02ld:%02ld",
                      static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                      static_cast<unsigned>(date.day()), static_cast<long>(clock.hours().count()),
                      static_cast<long>(clock.minutes().count()),
                      static_cast<long>(clock.seconds().count()));
  return text;
}

void tell(const Verdict& verdict, bool evidence) {
  const char* state = verdict.down ? "down" : verdict.degraded ? "degraded" : "up";
  (void)std::printf("%s %s %s: %s\n", time_text(verdict.since).c_str(), verdict.node.c_str(), state,
                    verdict.reason.c_str());
  if (!evidence) return;
  for (const Evidence& one : verdict.evidence) {
    (void)std::printf("    %s %s [%s] %s\n", time_text(one.event.time).c_str(),
                      one.event.location.c_str(), one.why.c_str(), one.event.text.c_str());
  }
}

struct Request {
  std::string format = "replay";
  Options::Values in;
  std::string config;
  std::string state;
  Duration probation = PredictorConfig{}.probation.length;
  bool evidence = false;
  bool help = false;
};

Status run(const Request& request) {
  TRY(const Format format, format_from(request.format));
  PredictorConfig config;
  config.probation.length = request.probation;
  if (!request.config.empty()) {
    CHECK_OK(yaml::read_file(request.config, [&](yaml::Reader& m) { read_predictor(m, config); }));
  }
  std::vector<Input> inputs;
  for (const std::string& path : request.in) {
    TRY(Input input, read_input(path));
    inputs.push_back(std::move(input));
  }
  TRY(const Log log, read_log(format, inputs, {}));
  Predictor predictor(config);
  if (!request.state.empty()) {
    if (const auto saved = read_input(request.state)) CHECK_OK(predictor.load(saved->text));
  }
  std::size_t changes = 0;
  const auto tell_changes = [&] {
    for (const Verdict& verdict : predictor.take_changes()) {
      tell(verdict, request.evidence);
      ++changes;
    }
  };
  for (const Event& event : log.events) {
    predictor.advance(event.time);
    tell_changes();
    predictor.add(event);
    tell_changes();
  }
  (void)std::printf("%zu events, %zu nodes, %zu changes, %zu lines not of the format\n",
                    log.events.size(), predictor.nodes(), changes, log.rejected);
  if (!request.state.empty()) CHECK_OK(replace_file(request.state, predictor.save()));
  return {};
}

}  // namespace

int replay_command(int argc, char** argv) {
  Request request;
  Options options;
  options.text("--format", request.format);
  options.texts("--in", request.in);
  options.text("--config", request.config);
  options.duration("--probation", request.probation);
  options.text("--state", request.state);
  options.flag("--evidence", request.evidence);
  options.flag("--help", request.help);
  Status parsed = options.parse(argc, argv);
  if (parsed && !request.help && request.in.empty())
    parsed = fail(Errc::kInvalid, "--in is missing");
  if (!parsed || request.help) {
    if (!parsed) (void)std::fprintf(stderr, "replay: %s\n", parsed.error().message.c_str());
    (void)std::fputs(kUsage, parsed ? stdout : stderr);
    return parsed ? 0 : 2;
  }
  if (const Status done = run(request); !done) {
    (void)std::fprintf(stderr, "replay: %s\n", done.error().message.c_str());
    return 1;
  }
  return 0;
}

}  // namespace lifeboat::predictor
