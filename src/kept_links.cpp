#include "kept_links.hpp"

namespace lifeboat {

std::optional<Link> KeptLinks::take(const std::string& node) {
  const auto at = shared_->links.find(node);
  if (at == shared_->links.end()) return std::nullopt;
  Link link = std::move(at->second.link);
  shared_->links.erase(at);
  if (link.closed_by_peer()) return std::nullopt;
  return link;
}

void KeptLinks::keep(const asio::any_io_executor& executor, const std::string& node, Link link) {
  if (shared_->links.size() >= kLinksMax) return;
  shared_->links.insert_or_assign(node, Kept{std::move(link), SteadyClock::now() + kKept});
  if (std::exchange(shared_->closing, true)) return;
  run_detached(executor, "closing connections to nodes", close_in_time(shared_));
}

awaitable<void> KeptLinks::close_in_time(std::shared_ptr<Shared> shared) {
  while (!shared->links.empty()) {
    co_await sleep_for(kKept);
    const auto now = SteadyClock::now();
    std::erase_if(shared->links, [&](const auto& kept) { return kept.second.until <= now; });
  }
  shared->closing = false;
}

}  // namespace lifeboat
