#include "peer_rights.hpp"

#include "registry/owners.hpp"
#include "registry/ownership.hpp"

#include <algorithm>
#include <cctype>

namespace lifeboat {

namespace {

struct Row {
  std::string_view method;
  PeerRight right;
};

constexpr Row kTable[] = {
    // States: a node that is to be emptied plans by itself, from what all others say.
    {"node.info", PeerRight::kEvery},
    {"node.state", PeerRight::kEvery},
    {"node.down", PeerRight::kEvery},
    {"node.fill", PeerRight::kEvery},  // to measure a fabric with (check.hpp)
    {"events", PeerRight::kEvery},
    {"node.get", PeerRight::kEvery},
    {"migration.get", PeerRight::kEvery},
    {"migration.list", PeerRight::kEvery},
    {"job.list", PeerRight::kEvery},
    {"job.get", PeerRight::kEvery},
    // Who owns what, where this node keeps the registry.
    {"registry.get", PeerRight::kEvery},
    {"registry.page", PeerRight::kEvery},
    {"registry.swap", PeerRight::kEvery},
    {"registry.grant", PeerRight::kEvery},
    {"registry.keep_alive", PeerRight::kEvery},
    {"registry.revoke", PeerRight::kEvery},
    // Orders.
    {"node.back", PeerRight::kListener},
    {"node.degrade", PeerRight::kHead},
    {"node.restore", PeerRight::kHead},
    {"node.evacuate", PeerRight::kHead},
    {"node.plan", PeerRight::kHead},  // moves nothing, but takes that node some work
    {"container.create", PeerRight::kHead},
    {"container.logs", PeerRight::kHead},
    {"migrate", PeerRight::kHeadOrParty},
    // `lifeboat run` in a batch job is typed on one of that job's nodes.
    {"job.run", PeerRight::kHeadOrParty},
    {"job.logs", PeerRight::kHeadOrParty},
    {"job.kill", PeerRight::kHeadOrParty},
    // The source of a container whose last pages are lost ends the copy.
    {"container.remove", PeerRight::kHeadOrParty},
    // An operator's decision on a migration in doubt, and what this node knows of it.
    {"migration.decide", PeerRight::kHeadOrParty},
    {"migration.end", PeerRight::kHeadOrParty},
    // A target that has turned degraded sends what arrives back.
    {"migration.cancel", PeerRight::kHeadOrParty},
    // Asking may end a migration (Node::outcome_of), so it is for its source alone.
    {"migration.outcome", PeerRight::kParty},
};

bool allows(PeerRight right, const Asking& peer) {
  const bool head = peer.role == NodeRole::kHead;
  switch (right) {
    case PeerRight::kNone: return false;
    case PeerRight::kEvery: return true;
    case PeerRight::kHead: return head;
    case PeerRight::kListener: return head || peer.listener;
    case PeerRight::kHeadOrParty: return head || peer.party;
    case PeerRight::kParty: return peer.party;
  }
  return false;
}

}  // namespace

PeerRight right_for(std::string_view method) {
  for (const Row& row : kTable) {
    if (row.method == method) return row.right;
  }
  return PeerRight::kNone;
}

Status check_right(std::string_view method, const Asking& peer) {
  const PeerRight right = right_for(method);
  if (allows(right, peer)) return {};
  std::string text = "'" + std::string(method.substr(0, 64)) + "' is not for node " + peer.node + " (" +
                     to_string(peer.role) + ") to ask of another node";
  if (right != PeerRight::kNone) text += "; use the command on a head node";
  return fail(Errc::kRefused, std::move(text));
}

bool is_migration_of(std::string_view migration, std::string_view node) {
  constexpr std::size_t kCodeMax = 31;
  const std::size_t dash = migration.rfind('-');
  if (dash == std::string_view::npos || migration.substr(0, dash) != node) return false;
  // It names files and directories, so the rest must be what Node::new_migration_id() makes.
  const std::string_view code = migration.substr(dash + 1);
  return !code.empty() && code.size() <= kCodeMax &&
         std::all_of(code.begin(), code.end(), [](unsigned char c) { return std::isalnum(c) != 0; });
}

Status check_offer(const Asking& peer, std::string_view source, std::string_view migration) {
  if (peer.role == NodeRole::kCompute && source == peer.node && is_migration_of(migration, peer.node)) {
    return {};
  }
  return fail(Errc::kRefused, "node " + peer.node + " (" + to_string(peer.role) +
                                  ") offers a container of node '" + std::string(source.substr(0, 64)) +
                                  "' by migration '" + std::string(migration.substr(0, 64)) +
                                  "'; compute nodes offer what is theirs, others nothing");
}


Status check_pages(const Asking& peer, std::string_view migration) {
  if (peer.role == NodeRole::kCompute && is_migration_of(migration, peer.node)) return {};
  return fail(Errc::kRefused, "node " + peer.node + " (" + to_string(peer.role) +
                                  ") sends pages of migration '" + std::string(migration.substr(0, 64)) +
                                  "', which is not its own");
}

namespace {

bool may_change(const std::string& node, const std::optional<Ownership>& now, const std::optional<Ownership>& next) {
  const std::string owner = next ? next->owner : "";
  if (!now || (now->ended && now->owner != node)) return owner == node;
  const bool open = now->migration && now->migration->state == MigrationState::kOpen;
  const std::string target = open ? now->migration->target : "";
  if (now->owner == node) return owner == node || (next ? owner == target : now->ended);
  return open && target == node && (owner == node || owner == now->owner);
}

}  // namespace

Status check_swap(const Asking& peer, const std::string& key, const std::optional<std::string>& now,
                  const std::optional<std::string>& next) {
  if (peer.role == NodeRole::kHead || key == presence_key(peer.node)) return {};
  if (key.rfind(kOwnershipPrefix, 0) == 0) {
    const auto record_of = [](const std::optional<std::string>& value) -> Result<std::optional<Ownership>> {
      if (!value) return std::optional<Ownership>();
      TRY(Ownership record, ownership_from(*value));
      return std::optional<Ownership>(std::move(record));
    };
    TRY(const std::optional<Ownership> before, record_of(now));
    TRY(const std::optional<Ownership> after, record_of(next));
    const bool same = !after || ownership_key(after->container) == key;
    if (same && may_change(peer.node, before, after)) return {};
  }
  return fail(Errc::kRefused, "node " + peer.node + " may not change '" + key.substr(0, 64) +
                                  "' in the registry: the container is another node's");
}

}  // namespace lifeboat
