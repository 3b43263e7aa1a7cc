#include "planner.hpp"

#include <arpa/inet.h>

#include <algorithm>

namespace lifeboat {
namespace {

std::string rooms_text(const std::vector<NodeRoom>& nodes) {
  std::string text;
  for (const NodeRoom& node : nodes) {
    if (!node.closed.empty()) {
      text += "; " + node.closed;
      continue;
    }
    text += "; " + node.name + ": " + std::to_string(node.slots_free) + " slots and " +
            std::to_string(node.memory_free_bytes >> 20) + " MiB left";
  }
  return text.empty() ? "; no compute node can be reached" : text;
}

bool has_room(const NodeRoom& node, std::uint64_t memory_bytes) {
  return node.closed.empty() && node.slots_free > 0 && node.memory_free_bytes >= memory_bytes;
}

}  // namespace

Result<std::vector<std::string>> place(std::vector<NodeRoom> nodes, unsigned containers,
                                       std::uint64_t memory_bytes,
                                       const std::vector<std::string>& wanted) {
  if (!wanted.empty()) {
    std::vector<NodeRoom> chosen;
    for (const std::string& name : wanted) {
      const auto at = std::find_if(nodes.begin(), nodes.end(),
                                   [&](const NodeRoom& node) { return node.name == name; });
      const bool named_before =
          std::any_of(chosen.begin(), chosen.end(),
                      [&](const NodeRoom& node) { return node.name == name; });
      if (named_before) continue;
      if (at == nodes.end()) {
        return fail(Errc::kRefused, "node " + name + ", named by the job, is no compute node that "
                                                     "can be reached");
      }
      chosen.push_back(*at);
    }
    nodes = std::move(chosen);
  }
  std::vector<std::string> placed;
  bool progress = true;
  while (placed.size() < containers && progress) {
    progress = false;
    for (NodeRoom& node : nodes) {
      if (placed.size() == containers) break;
      if (!has_room(node, memory_bytes)) continue;
      --node.slots_free;
      node.memory_free_bytes -= memory_bytes;
      placed.push_back(node.name);
      progress = true;
    }
  }
  if (placed.size() == containers) return placed;
  return fail(Errc::kRefused, "room for only " + std::to_string(placed.size()) + " of " +
                                  std::to_string(containers) + " containers of " +
                                  std::to_string(memory_bytes >> 20) + " MiB" +
                                  rooms_text(nodes));
}

Result<std::vector<std::string>> free_addresses(const FabricConfig& fabric, unsigned count,
                                                const std::set<std::string>& used) {
  const auto slash = fabric.subnet.find('/');
  in_addr network{};
  if (slash == std::string::npos ||
      ::inet_pton(AF_INET, fabric.subnet.substr(0, slash).c_str(), &network) != 1) {
    return fail(Errc::kInvalid, "fabric " + fabric.name + ": bad subnet " + fabric.subnet);
  }
  const auto prefix = static_cast<unsigned>(std::stoul(fabric.subnet.substr(slash + 1)));
  const std::uint32_t size = prefix == 0 ? 0xffffffffU : (prefix >= 32 ? 1U : 1U << (32 - prefix));
  const std::uint32_t first = size >= 1024 ? 256 : 64;
  const std::uint32_t base = ntohl(network.s_addr) & ~(size - 1);
  std::vector<std::string> found;
  for (std::uint32_t offset = first + 1; offset + 1 < size && found.size() < count; ++offset) {
    if ((offset & 0xff) == 0 || (offset & 0xff) == 0xff) continue;  // look like network addresses
    in_addr candidate{htonl(base + offset)};
    char text[INET_ADDRSTRLEN];
    ::inet_ntop(AF_INET, &candidate, text, sizeof text);
    if (!used.contains(text)) found.emplace_back(text);
  }
  if (found.size() < count) {
    return fail(Errc::kRefused, "fabric " + fabric.name + ": no free address left in " + fabric.subnet);
  }
  return found;
}

}  // namespace lifeboat
