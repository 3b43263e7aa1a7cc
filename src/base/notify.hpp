// notify.hpp - what systemd is told by the services it started (sd_notify(3)).
#pragma once

#include <string_view>

#include "base/asio.hpp"

namespace lifeboat {

// "READY=1", "STATUS=...", several by newlines. Nothing where no service manager has asked for it.
void notify_service_manager(std::string_view state);

// Tells a service manager with WatchdogSec= that this event loop turns, twice in that time. Ends never;
// at once where none is to be told.
awaitable<void> feed_watchdog();

}  // namespace lifeboat
