#include "slurm/node_sync.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "slurm/commands.hpp"

namespace lifeboat::slurm {

namespace {

constexpr Milliseconds kTryAgainMin{1000};
constexpr Milliseconds kTryAgainMax{60'000};
constexpr std::chrono::hours kLong{24};  // a node that is up, and was compared

const char* to_string(NodeWish wish) {
  switch (wish) {
    case NodeWish::kNothing: return "none";
    case NodeWish::kFail: return "FAIL";
    case NodeWish::kDrain: return "DRAIN";
  }
  return "unknown";
}

}  // namespace

NodeSync::NodeSync(Node& node) : node_(node), owner_{node.config().cluster, node.name()} {}

void NodeSync::start() {
  run_detached(node_.executor(), "telling Slurm of this node's state", run());
}

void NodeSync::wake() {
  woken_ = true;
  if (const auto pause = pause_.lock()) pause->cancel();
}

awaitable<void> NodeSync::run() {
  const auto pause = std::make_shared<asio::steady_timer>(node_.executor());
  pause_ = pause;
  for (;;) {
    woken_ = false;
    const Status done = co_await compare();
    contact_.tell(done);
    Milliseconds wait = node_.health().own().reason() == nullptr ? kLong : node_.config().slurm.refresh;
    if (!done) wait = std::min(kTryAgainMin * (1 << std::min(contact_.failures() - 1, 6U)), kTryAgainMax);
    pause->expires_after(wait);
    if (!woken_) co_await expiry(*pause);
  }
}

awaitable<Status> NodeSync::compare() {
  const SlurmConfig& config = node_.config().slurm;
  CO_TRY(const NodeShown shown, co_await show_node(config, node_.name()));
  // As of now, not of before the question.
  const NodeWanted wanted = wanted_for(node_.health().own(), owner_);
  const NodeStep step = next_step(wanted, shown, owner_);
  if (step == NodeStep::kForeign && foreign_ != shown.reason) {
    log::info("Slurm keeps jobs off this node for another reason, which stays", {{"reason", shown.reason}});
  }
  foreign_ = step == NodeStep::kForeign ? shown.reason : "";
  if (step == NodeStep::kSet) {
    CO_CHECK_OK(co_await set_node(config, node_.name(), wanted));
    log::info("told Slurm of this node", {{"state", to_string(wanted.state)}, {"reason", wanted.reason}});
  }
  if (step == NodeStep::kClear) {
    CO_CHECK_OK(co_await clear_node(config, node_.name()));
    log::info("told Slurm of this node", {{"state", to_string(NodeWish::kNothing)}, {"was", shown.reason}});
  }
  co_return Status{};
}

}  // namespace lifeboat::slurm
