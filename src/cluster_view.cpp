#include "cluster_view.hpp"

#include "container.hpp"
#include "health.hpp"

namespace lifeboat {

std::vector<const json::object*> objects_of(const json::object& parent, std::string_view key) {
  std::vector<const json::object*> found;
  auto list = get_array(parent, key);
  if (!list) return found;
  for (const json::value& item : **list) {
    if (item.is_object()) found.push_back(&item.get_object());
  }
  return found;
}

json::object members_of(const json::object& parent, std::string_view key) {
  json::object found;
  auto members = get_object(parent, key);
  if (!members) return found;
  for (const auto& member : **members) {
    if (member.value().is_object()) found[member.key()] = member.value();
  }
  return found;
}

NodeRoom room_from(const std::string& name, const json::object& info) {
  NodeRoom room;
  room.name = name;
  room.memory_free_bytes = get_u64(info, "memory_free_bytes").value_or(0);
  room.slots_free = static_cast<unsigned>(get_u64(info, "slots_free").value_or(0));
  room.closed = why_closed(name, info);
  return room;
}

Result<std::vector<std::string>> leavers_from(const json::array& view, const std::string& from,
                                              json::array& skipped) {
  std::vector<std::string> leavers;
  for (const json::value& item : view) {
    const json::object& node = item.get_object();
    if (string_or(node, "name") != from) continue;
    if (!node.contains("containers")) {
      return fail(Errc::kUnavailable, "node " + from + " does not answer: " + string_or(node, "error"));
    }
    for (const json::object* container : objects_of(node, "containers")) {
      const std::string id = string_or(*container, "id");
      if (string_or(*container, "state") == to_string(ContainerState::kRunning)) {
        leavers.push_back(id);
        continue;
      }
      json::object other{{"container", id}, {"state", string_or(*container, "state")}};
      skipped.push_back(std::move(other));
    }
  }
  return leavers;
}

json::object containers_of(const json::array& view) {
  json::array list;
  json::array silent;
  for (const json::value& item : view) {
    const json::object& node = item.get_object();
    if (!get_array(node, "containers")) silent.emplace_back(string_or(node, "name"));
    for (const json::object* container : objects_of(node, "containers")) list.emplace_back(*container);
  }
  return {{"containers", std::move(list)}, {"unreachable", std::move(silent)}};
}

}  // namespace lifeboat
