// peer_rights.hpp - what one node may ask of another, by its role: one table. What is not in it is
// for operators only, who speak with their own node's daemon (api.hpp).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "config.hpp"

namespace lifeboat {

enum class PeerRight {
  kNone,         // not for peers
  kEvery,        // every node of the cluster
  kHead,         // head nodes
  kListener,     // nodes that listen for heartbeats (heartbeat.hpp): the head nodes, if there are any
  kHeadOrParty,  // head nodes, and the node at the other end of the migration, or in the Slurm job, it is about
  kParty,        // that one alone
};

[[nodiscard]] PeerRight right_for(std::string_view method);

struct Asking {
  std::string node;
  NodeRole role = NodeRole::kCompute;
  bool listener = false;
  bool party = false;  // at the other end of the migration, or in the Slurm job, that is asked about
};

// kRefused with the method, the node and its role.
[[nodiscard]] Status check_right(std::string_view method, const Asking& peer);

// A compute node may offer its own containers only: kRefused when `source` is another, or `migration` is
// none of its ids (NODE-...); or when it is no compute node.
[[nodiscard]] Status check_offer(const Asking& peer, std::string_view source, std::string_view migration);

// The source of a migration alone sends its pages.
[[nodiscard]] Status check_pages(const Asking& peer, std::string_view migration);

// What a compute node may change in the registry of another daemon: its own presence; the record of a container
// that it owns, which only a migration's target gets from it; that of one which comes to it; and of one that
// nobody has it may take possession. Head nodes give orders anyway. `now`, `next`: the value of `key`; nullopt: none.
[[nodiscard]] Status check_swap(const Asking& peer, const std::string& key, const std::optional<std::string>& now,
                                const std::optional<std::string>& next);

// Whether a migration with this id starts at `node`.
[[nodiscard]] bool is_migration_of(std::string_view migration, std::string_view node);

}  // namespace lifeboat
