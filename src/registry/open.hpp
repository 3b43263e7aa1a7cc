// open.hpp - the registry that the configuration names.
#pragma once

#include <functional>
#include <memory>

#include "config.hpp"
#include "migration/link.hpp"
#include "registry/registry.hpp"

namespace lifeboat {

// Whether the daemon of this node keeps the embedded registry and answers for it (remote.hpp).
[[nodiscard]] bool keeps_registry(const Config& config, const std::string& node);

// `clock`: by which leases run if they are kept here.
// kSystem: its file, or a file of TLS, cannot be used. What is elsewhere need not answer yet.
Result<std::unique_ptr<Registry>> open_registry(const asio::any_io_executor& executor, const Config& config,
                                                const LinkSelf& self,
                                                std::function<SteadyClock::time_point()> clock = SteadyClock::now);

}  // namespace lifeboat
