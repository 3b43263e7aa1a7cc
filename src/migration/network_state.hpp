// network_state.hpp - what a frozen container's kernel knows of its network: told to the target with the
// images, so that it can go on talking at once, and check that CRIU has restored every connection.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/json.hpp"
#include "container.hpp"
#include "migration/address.hpp"

namespace lifeboat {

struct NetworkState {
  std::vector<std::string> established;  // see established_pairs()
  std::vector<Neighbour> neighbours;
};

// Its members in a message's body.
void add_to(json::object& body, const NetworkState& state);
// kProtocol naming what is wrong.
Result<NetworkState> network_state_from(const json::object& body);

// kSystem naming the first connection that is not there: looked at while nothing runs yet and
// everything can still be undone.
Status check_connections(const NetworkState& before, ContainerNet& net);
// The same three seconds after the container runs, as a warning: a peer may have given a connection up
// during the freeze, and says so when it hears from us.
awaitable<void> check_connections_later(std::weak_ptr<Container> container, NetworkState before);

}  // namespace lifeboat
