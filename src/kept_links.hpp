// kept_links.hpp - connections to other daemons that stay open for a moment, for whoever asks the same node several
// times a second (`lifeboat migrate` follows a migration that way): a handshake costs either end 2 to 3 ms of a processor.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/asio.hpp"
#include "migration/link.hpp"

namespace lifeboat {

class KeptLinks {
 public:
  // How long one is kept that nobody takes, and how many there are at most.
  static constexpr Milliseconds kKept{1000};
  static constexpr std::size_t kLinksMax = 64;

  // One to this node that its end has not closed, if there is one. It is the caller's until it is kept again.
  std::optional<Link> take(const std::string& node);
  // To be called where nothing is under way on it. The one of this node that was kept before is closed.
  void keep(const asio::any_io_executor& executor, const std::string& node, Link link);
  [[nodiscard]] std::size_t count() const { return shared_->links.size(); }

 private:
  struct Kept {
    Link link;
    SteadyClock::time_point until;
  };
  struct Shared {
    std::map<std::string, Kept> links;
    bool closing = false;  // somebody closes them in time
  };

  static awaitable<void> close_in_time(std::shared_ptr<Shared> shared);

  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace lifeboat
