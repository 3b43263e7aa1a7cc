#include "node_watch.hpp"

#include "base/blocking.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "report.hpp"

namespace lifeboat {

using predictor::Event;
using predictor::EventKind;
using predictor::Notice;
using predictor::Time;

namespace {

constexpr std::chrono::seconds kSaveInterval{60};
constexpr std::chrono::milliseconds kPauseMax{1000};
constexpr std::size_t kSavedBytesMax = 64U << 20;

predictor::SourcesConfig sources_of(const Config& config, const std::string& node) {
  predictor::SourcesConfig sources = config.sources;
  sources.place.node = node;
  return sources;
}

// What a node that came back is allowed is the business of its state: health.probation.
predictor::PredictorConfig predictor_of(const Config& config) {
  predictor::PredictorConfig out = config.predictor;
  out.probation.on = false;
  return out;
}

Event event_of(const std::string& node, EventKind kind, Time time, std::string text) {
  Event event;
  event.time = time;
  event.node = node;
  event.source = "lifeboat";
  event.kind = kind;
  event.text = std::move(text);
  return event;
}

}  // namespace

NodeWatch::NodeWatch(asio::any_io_executor executor, const Config& config, const std::string& node,
                     Health& health)
    : executor_(std::move(executor)),
      node_(node),
      path_(config.paths.state_dir + "/predictor.json"),
      boot_id_(sources_of(config, node).place.boot_id()),
      health_(health),
      sources_(predictor::make_sources(sources_of(config, node))),
      predictor_(predictor_of(config)) {}

void NodeWatch::start() {
  started_ = true;
  if (auto loaded = load(); !loaded) {
    log::warn("what the predictor had learned is lost; it begins anew",
              {{"file", path_}, {"reason", loaded.error().message}});
  }
  run_detached(executor_, "watching this node", run());
}

void NodeWatch::end() {
  thread_.join();
  disk_.join();
  if (started_) keep(learned(health_now(), true));
}

awaitable<void> NodeWatch::run() {
  for (;;) {
    std::function<Seen()> work = [this] { return look(); };
    const Seen seen = co_await run_blocking(thread_, std::move(work));
    tell(seen);
    const auto pause = std::chrono::duration_cast<Milliseconds>(seen.pause);
    co_await sleep_for(std::clamp(pause, Milliseconds(1), kPauseMax));
  }
}

Status NodeWatch::load() {
  auto text = read_file(path_, kSavedBytesMax);
  if (!text) return {};  // the first start
  TRY(const json::object saved, parse_object(*text));
  TRY(const std::string learned, get_string(saved, "predictor"));
  TRY(const std::string positions, get_string(saved, "sources"));
  CHECK_OK(predictor_.load(learned));
  CHECK_OK(sources_.restore(positions));
  const bool failed = string_or(saved, "boot") != boot_id_ && !flag(saved, "clean");
  if (!failed) return {};
  const auto seen_us = static_cast<std::int64_t>(get_u64(saved, "time").value_or(0));
  const Time seen{predictor::Duration(seen_us)};
  predictor_.add(event_of(node_, EventKind::kDown, seen, "the node stopped without a shutdown"));
  predictor_.add(event_of(node_, EventKind::kRepaired, health_now(), "the node started again"));
  (void)predictor_.take_changes();  // it is back
  return {};
}

std::string NodeWatch::learned(Time now, bool clean) const {
  const json::object saved{{"boot", boot_id_},
                           {"time", now.time_since_epoch().count()},
                           {"clean", clean},
                           {"sources", sources_.save()},
                           {"predictor", predictor_.save()}};
  return json::serialize(saved) + "\n";
}

// On disk_.
void NodeWatch::keep(const std::string& text) {
  auto kept = replace_file(path_, text);
  if (!kept && !save_failed_) {
    log::error("what the predictor has learned is not kept", {{"file", path_}, {"reason", kept.error().message}});
  }
  save_failed_ = !kept;
}

// On the thread.
NodeWatch::Seen NodeWatch::look() {
  Seen seen;
  const Time now = health_now();
  // What was told before is kept now, after the state that followed from it: should the daemon die in
  // between, the sources tell it again.
  if (now - saved_at_ >= kSaveInterval || now < saved_at_) {
    (void)disk_.post([this, text = learned(now, false)] { keep(text); });
    saved_at_ = now;
  }
  predictor::SourceSet::Polled polled = sources_.poll(now);
  // Before the clock: what the kernel's log has of the past happened then.
  for (const Event& event : polled.events) predictor_.add(event);
  predictor_.advance(now);
  seen.notices = std::move(polled.notices);
  seen.verdicts = predictor_.take_changes();
  const predictor::Verdict verdict = predictor_.verdict(node_);
  seen.degraded = verdict.degraded;
  seen.risk = verdict.risk;
  seen.pause = sources_.until_due(now);
  return seen;
}

void NodeWatch::tell(const Seen& seen) {
  risk_ = seen.risk;
  for (const Notice& notice : seen.notices) {
    switch (notice.what) {
      case Notice::What::kMissing:
        log::info("this node has no such source of events",
                  {{"source", notice.source}, {"reason", notice.text}});
        break;
      case Notice::What::kFailing:
        log::warn("a source of events does not work",
                  {{"source", notice.source}, {"reason", notice.text}});
        break;
      case Notice::What::kWorksAgain:
        log::info("a source of events works again", {{"source", notice.source}});
        break;
    }
  }
  for (const predictor::Verdict& verdict : seen.verdicts) {
    if (verdict.node == node_) tell(verdict);
  }
  // What an earlier daemon said may have ended by time alone while nobody looked.
  const predictor::Reason* said = health_.own().reason(predictor::Cause::kPredictor);
  if (!seen.degraded && said != nullptr && !said->cleared &&
      said->condition == predictor::NodeCondition::kDegraded) {
    health_.apply(node_, predictor::StateSignal::kVerdictCleared, {});
  }
}

void NodeWatch::tell(const predictor::Verdict& verdict) {
  predictor::SignalDetails details;
  details.text = verdict.reason;
  details.lead = verdict.lead;
  details.risk = verdict.risk;
  for (const predictor::Evidence& one : verdict.evidence) {
    details.evidence.push_back(evidence_line(one));
  }
  const predictor::StateSignal signal = verdict.down       ? predictor::StateSignal::kVerdictDown
                                   : verdict.degraded ? predictor::StateSignal::kVerdictDegraded
                                                      : predictor::StateSignal::kVerdictCleared;
  health_.apply(node_, signal, details);
}

std::string evidence_line(const predictor::Evidence& evidence) {
  const Event& event = evidence.event;
  std::string line = timestamp(event.time) + " " + event.source;
  if (!event.location.empty()) line += " " + event.location;
  line += ": " + (event.text.empty() ? std::string(to_string(event.kind)) : event.text);
  if (event.count != 1) line += " (" + std::to_string(event.count) + " times)";
  if (!evidence.why.empty()) line += " - " + evidence.why;
  return line;
}

}  // namespace lifeboat
