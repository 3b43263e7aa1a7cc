// heartbeat.hpp - who listens for the other nodes: every head node, or where there is none the first
// node of the configuration, asks each of them once a second.
//
// One connection to each node, made again over another fabric when it breaks: half of health.heartbeat_lost is for an
// answer over the one there is, half for the others, so that one fabric that is cut does not make a node down. A node
// that has not answered for health.heartbeat_lost is down in this node's table (Health); when it answers again it is
// told, so that it goes on probation by its own journal, too; but not one that was never heard of, here or, by the reason
// in this node's journal, by the daemon before: a cluster whose head boots first would begin with all its nodes on
// probation. Time in which this daemon itself stood still, for want of a processor or stopped, is nobody's silence.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "migration/link.hpp"
#include "node.hpp"
#include "own_stall.hpp"

namespace lifeboat {

// The names of the nodes that listen.
[[nodiscard]] std::vector<std::string> heartbeat_listeners(const Config& config);

class Heartbeat {
 public:
  // `stall`: of this daemon; watched by who made it.
  Heartbeat(Node& node, const OwnStall& stall) : node_(node), stall_(stall) {}
  // Listens for all others, until the program ends. Nothing if this node is none that does.
  void start();

 private:
  awaitable<void> listen(std::string node);
  struct Line {
    std::optional<Link> link;
    std::string fabric;  // of the link, or of the one that broke last
  };
  awaitable<Status> connect(Line& line, std::string node);
  awaitable<Status> ask(Line& line, std::string node, bool awaited);

  Node& node_;
  const OwnStall& stall_;
};

}  // namespace lifeboat
