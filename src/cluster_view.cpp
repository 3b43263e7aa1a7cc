#include "cluster_view.hpp"

#include <algorithm>

#include "container.hpp"
#include "health.hpp"

namespace lifeboat {
namespace {

std::vector<const json::object*> objects(const json::object& parent, std::string_view key) {
  std::vector<const json::object*> found;
  auto list = get_array(parent, key);
  if (!list) return found;
  for (const json::value& item : **list) {
    if (item.is_object()) found.push_back(&item.get_object());
  }
  return found;
}

bool has_container(const json::object& node, const std::string& id) {
  const auto containers = objects(node, "containers");
  return std::any_of(containers.begin(), containers.end(),
                     [&](const json::object* container) { return string_or(*container, "id") == id; });
}

// Memory of the container on the node that it leaves.
std::uint64_t memory_of(const json::object& node, const std::string& id) {
  for (const json::object* container : objects(node, "containers")) {
    if (string_or(*container, "id") == id) return get_u64(*container, "memory_bytes").value_or(0);
  }
  return 0;
}

// Migrations that wait for their turn have no place at their target yet.
void subtract_promised(const json::array& view, NodeRoom& room, const json::object& there) {
  for (const json::value& item : view) {
    for (const json::object* migration : objects(item.get_object(), "migrations")) {
      if (string_or(*migration, "target") != room.name) continue;
      const std::string id = string_or(*migration, "container");
      if (has_container(there, id)) continue;
      const std::uint64_t bytes = memory_of(item.get_object(), id);
      room.memory_free_bytes -= std::min(bytes, room.memory_free_bytes);
      room.slots_free -= std::min(1U, room.slots_free);
    }
  }
}

}  // namespace

NodeRoom room_from(const std::string& name, const json::object& info) {
  NodeRoom room;
  room.name = name;
  room.memory_free_bytes = get_u64(info, "memory_free_bytes").value_or(0);
  room.slots_free = static_cast<unsigned>(get_u64(info, "slots_free").value_or(0));
  room.closed = why_closed(name, info);
  return room;
}

std::vector<NodeRoom> rooms_of(const json::array& view) {
  std::vector<NodeRoom> rooms;
  for (const json::value& item : view) {
    const json::object& node = item.get_object();
    if (!node.contains("memory_free_bytes") || string_or(node, "role") != "compute") continue;
    if (string_or(node, "criu").empty()) continue;
    NodeRoom room = room_from(string_or(node, "name"), node);
    subtract_promised(view, room, node);
    rooms.push_back(std::move(room));
  }
  return rooms;
}

Result<std::vector<Leaver>> leavers_from(const json::array& view, const std::string& from,
                                         json::array& skipped) {
  std::vector<Leaver> leavers;
  for (const json::value& item : view) {
    const json::object& node = item.get_object();
    if (string_or(node, "name") != from) continue;
    if (!node.contains("containers")) {
      return fail(Errc::kUnavailable, "node " + from + " does not answer: " + string_or(node, "error"));
    }
    for (const json::object* container : objects(node, "containers")) {
      const std::string id = string_or(*container, "id");
      if (string_or(*container, "state") != to_string(ContainerState::kRunning)) {
        json::object other{{"container", id}, {"state", string_or(*container, "state")}};
        skipped.push_back(std::move(other));
        continue;
      }
      Leaver leaver;
      leaver.id = id;
      leaver.node = from;
      leaver.memory_bytes = get_u64(*container, "memory_bytes").value_or(0);
      leavers.push_back(std::move(leaver));
    }
  }
  return leavers;
}

}  // namespace lifeboat
