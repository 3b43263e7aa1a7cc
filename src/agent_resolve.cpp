// The agent's methods for migrations whose outcome is not known.
#include "agent.hpp"
#include "base/log.hpp"
#include "cluster_view.hpp"
#include "migration/outcome.hpp"

namespace lifeboat {

namespace {

// What `answer` says, or why it says nothing.
json::object or_error(Result<json::object> answer) {
  if (answer) return std::move(*answer);
  return {{"error", answer.error().message}};
}

const char* word_of(const Node::Deciding& machines) {
  if (machines.target) {
    switch (machines.target->state()) {
      case decision::Target::State::kReceiving:
        return "receiving";
      case decision::Target::State::kHolding:
        return "holds everything, not decided";
      case decision::Target::State::kCommitted:
        return "committed";
      case decision::Target::State::kAborted:
        return "aborted";
    }
  }
  return "in doubt: frozen, not decided";
}

}  // namespace

// What this node knows of a migration: {container?, state?, deciding?, history}.
json::object Agent::migration_end(const std::string& id) {
  json::object out{{"node", node_.name()}, {"history", node_.journal().history(id)}};
  for (const auto& [name, container] : node_.containers()) {
    if (container->migration() != id) continue;
    out["container"] = name;
    out["state"] = to_string(container->state());
  }
  if (const Node::Deciding* machines = node_.deciding(id)) out["deciding"] = word_of(*machines);
  return out;
}

awaitable<json::object> Agent::registry_record(std::string container) {
  auto found = co_await node_.owners().find(std::move(container));
  if (!found) co_return json::object{{"error", found.error().message}};
  if (!*found) co_return json::object{{"error", "there is no record of this container"}};
  auto record = parse_object(to_text((*found)->ownership));
  co_return or_error(std::move(record));
}

// {id, side?: "source" | "target"} -> {id, source, target, registry}: what each of them knows. With a side:
// that is where the container runs from now on, and the migration is no longer in doubt.
awaitable<Result<json::object>> Agent::migration_resolve(json::object params) {
  CO_TRY(const std::string id, get_string(params, "id"));
  const std::string side = string_or(params, "side");
  std::string source = id.substr(0, id.rfind('-'));
  if (node_.config().find_node(source) == nullptr) {
    co_return fail(Errc::kNotFound, "no migration '" + id + "' is known: its id names no node of this cluster");
  }
  json::object ask{{"id", id}};
  json::object here = or_error(co_await call(source, "migration.end", ask));
  std::string target;
  std::string container;
  if (const auto history = objects_of(here, "history"); !history.empty()) {
    const json::object& last = *history.back();
    target = string_or(last, "target");
    container = string_or(last, "container");
  }
  if (target.empty()) target = string_or(params, "target");
  if (target.empty() && !here.contains("error")) {
    co_return fail(Errc::kNotFound, "its source, node " + source + ", knows no migration '" + id +
                                        "'; if it has lost its journal, name the other end with --on NODE");
  }
  if (target.empty()) {
    co_return fail(Errc::kUnavailable, "its source, node " + source + ", does not say what it was (" +
                                           string_or(here, "error") + "); name the other end with --on NODE");
  }
  json::object there = or_error(co_await call(target, "migration.end", ask));
  if (container.empty()) container = string_or(there, "container");
  json::object out{{"id", id}, {"source", here}, {"target", there}};
  if (!container.empty()) out["registry"] = co_await registry_record(container);
  if (side.empty()) co_return out;
  const bool at_source = here.contains("deciding");
  if (!at_source && !there.contains("deciding")) {
    co_return fail(Errc::kConflict, "migration " + id + " is not in doubt on any node that answers");
  }
  json::object order{{"id", id}, {"side", side}};
  CO_TRY(out["done"], co_await call(at_source ? source : target, "migration.decide", std::move(order)));
  co_return out;
}

// An operator's word, at the end that is in doubt: {id, side}.
awaitable<Result<json::object>> Agent::migration_decide(json::object params) {
  CO_TRY(const std::string id, get_string(params, "id"));
  CO_TRY(const std::string side, get_string(params, "side"));
  if (side != "source" && side != "target") co_return fail(Errc::kInvalid, "side: source or target");
  const Node::Deciding* machines = node_.deciding(id);
  if (machines == nullptr) co_return fail(Errc::kConflict, "migration " + id + " is not in doubt here");
  log::warn("an operator decides a migration", {{"migration", id}, {"side", side}});
  JournalEntry entry;
  entry.id = id;
  entry.side = machines->source ? "source" : "target";
  entry.phase = "operator";
  entry.reason = "an operator says that it runs at the " + side;
  if (auto known = node_.journal().report(id)) {
    entry.container = string_or(*known, "container");
    entry.source = string_or(*known, "source");
    entry.target = string_or(*known, "target");
    entry.job = string_or(*known, "job");
  }
  node_.journal().end(entry);
  // The registry first, so that both ends hear the same; where it cannot be reached, a person knows more.
  const std::shared_ptr<decision::Source> source = machines->source;
  const std::shared_ptr<decision::Target> target = machines->target;
  auto written = co_await write_decision(entry.container, id, side);
  if (!written && written.error().code == Errc::kConflict) co_return tl::unexpected<Error>(written.error());
  if (source) source->operator_says(side == "source");
  if (target) target->operator_says(side == "target");
  (void)node_.outcome_of(id, false);  // has it recorded, so that it holds after a restart
  co_return json::object{
      {"id", id}, {"side", side}, {"registry", written ? "written" : written.error().message}};
}

awaitable<Status> Agent::write_decision(std::string container, std::string id, std::string side) {
  CO_TRY(const std::optional<OwnerRecord> now, co_await node_.owners().find(container));
  if (!now) co_return fail(Errc::kNotFound, "no record");
  const Verdict verdict = judge_for_target(now->ownership, id);
  const Verdict wanted = side == "source" ? Verdict::kAborted : Verdict::kCommitted;
  if (verdict == wanted) co_return Status{};
  if (verdict != Verdict::kOpen) {
    co_return fail(Errc::kConflict,
                   "the registry says " + std::string(to_string(verdict)) + ": that stands");
  }
  OwnerRecord record = *now;
  decision::Written written = decision::Written::kNo;
  if (side == "source") {
    written = co_await node_.owners().abort(std::move(record), id);
  } else {
    written = co_await node_.owners().commit(std::move(record), id);
  }
  if (written == decision::Written::kYes) co_return Status{};
  if (written == decision::Written::kConflict) {
    co_return fail(Errc::kConflict, "it has been decided meanwhile; look again");
  }
  co_return fail(Errc::kUnavailable, "the registry does not answer");
}

}  // namespace lifeboat
