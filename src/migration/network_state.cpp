#include "migration/network_state.hpp"

#include <algorithm>

#include "base/log.hpp"

namespace lifeboat {

namespace {

constexpr std::size_t kConnectionsMax = 1U << 20;

Result<Neighbour> neighbour_from(const json::value& item) {
  if (!item.is_object()) return fail(Errc::kProtocol, "neighbours: not an object");
  Neighbour neighbour;
  TRY(neighbour.fabric, get_string(item.get_object(), "fabric"));
  TRY(neighbour.address, get_string(item.get_object(), "address"));
  TRY(neighbour.mac, get_string(item.get_object(), "mac"));
  return neighbour;
}

std::vector<std::string> missing_connections(const NetworkState& before, ContainerNet& net) {
  auto now = net.tcp_sockets();
  if (!now) return {};
  const std::vector<std::string> present = established_pairs(*now);  // sorted, as the other list
  std::vector<std::string> missing;
  std::set_difference(before.established.begin(), before.established.end(), present.begin(),
                      present.end(), std::back_inserter(missing));
  return missing;
}

}  // namespace

void add_to(json::object& body, const NetworkState& state) {
  body["established"] = to_array(state.established);
  json::array neighbours;
  for (const Neighbour& one : state.neighbours) {
    neighbours.push_back(
        json::object{{"fabric", one.fabric}, {"address", one.address}, {"mac", one.mac}});
  }
  body["neighbours"] = std::move(neighbours);
}

Result<NetworkState> network_state_from(const json::object& body) {
  NetworkState state;
  TRY(state.established, get_strings(body, "established", kConnectionsMax));
  std::sort(state.established.begin(), state.established.end());
  TRY(const json::array* neighbours, get_array(body, "neighbours"));
  if (neighbours->size() > ContainerNet::kNeighboursMax) {
    return fail(Errc::kProtocol, "neighbours: too many");
  }
  for (const json::value& item : *neighbours) {
    TRY(Neighbour neighbour, neighbour_from(item));
    state.neighbours.push_back(std::move(neighbour));
  }
  return state;
}

Status check_connections(const NetworkState& before, ContainerNet& net) {
  const std::vector<std::string> missing = missing_connections(before, net);
  if (missing.empty()) return {};
  return fail(Errc::kSystem, "criu did not restore " + std::to_string(missing.size()) +
                                 " connection(s), first " + missing.front());
}

awaitable<void> check_connections_later(std::weak_ptr<Container> weak, NetworkState before) {
  constexpr Milliseconds kAfter{3000};
  co_await sleep_for(kAfter);
  auto container = weak.lock();
  if (!container || container->state() != ContainerState::kRunning) co_return;
  for (const std::string& pair : missing_connections(before, container->net())) {
    log::warn("a connection is gone since the migration (closed by the job, or lost)",
              {{"container", container->spec().id}, {"connection", pair}});
  }
}

}  // namespace lifeboat
