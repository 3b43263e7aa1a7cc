// ContainerNet's view of whom the container talks to.
#include <arpa/inet.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <algorithm>
#include <array>

#include "migration/address.hpp"

namespace lifeboat {
namespace {

constexpr unsigned kFound =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;

}  // namespace

Result<std::vector<TcpSocket>> ContainerNet::tcp_sockets() {
  return lifeboat::tcp_sockets(*diag_);
}

Result<std::vector<Neighbour>> ContainerNet::neighbours() {
  std::vector<Neighbour> found;
  ndmsg header{};
  header.ndm_family = AF_INET;
  NetlinkRequest list(RTM_GETNEIGH, NLM_F_DUMP);
  list.header(header);
  CHECK_OK(inner_->request(list, "list neighbours", [&](nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWNEIGH || found.size() == kNeighboursMax) return;
    const auto* info = static_cast<const ndmsg*>(nlmsg_data(message));
    const auto port = std::find_if(ports_.begin(), ports_.end(), [&](const Port& p) {
      return p.inner_index == info->ndm_ifindex;
    });
    const nlattr* address = nlmsg_find_attr(message, sizeof(ndmsg), NDA_DST);
    const nlattr* mac = nlmsg_find_attr(message, sizeof(ndmsg), NDA_LLADDR);
    const bool whole = address != nullptr && nla_len(address) == sizeof(in_addr) && mac != nullptr;
    if (port == ports_.end() || (info->ndm_state & kFound) == 0 || !whole) return;
    std::array<char, INET_ADDRSTRLEN> text{};
    ::inet_ntop(AF_INET, nla_data(address), text.data(), text.size());
    found.push_back({port->endpoint.fabric, text.data(),
                     format_mac({static_cast<const std::uint8_t*>(nla_data(mac)),
                                 static_cast<std::size_t>(nla_len(mac))})});
  }));
  return found;
}

Status ContainerNet::learn(const std::vector<Neighbour>& neighbours) {
  for (const Neighbour& neighbour : neighbours) {
    const auto port = std::find_if(ports_.begin(), ports_.end(), [&](const Port& p) {
      return p.endpoint.fabric == neighbour.fabric;
    });
    if (port == ports_.end()) continue;
    in_addr address{};
    const auto mac = parse_mac(neighbour.mac);
    if (!mac || ::inet_pton(AF_INET, neighbour.address.c_str(), &address) != 1) {
      return fail(Errc::kInvalid, "neighbour " + neighbour.address + " at " + neighbour.mac +
                                      ": not an IPv4 address at a MAC address");
    }
    ndmsg header{};
    header.ndm_family = AF_INET;
    header.ndm_ifindex = port->inner_index;
    header.ndm_state = NUD_STALE;  // good for use, and asked after soon
    NetlinkRequest add(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
    add.header(header)
        .bytes(NDA_DST, &address, sizeof(address))
        .bytes(NDA_LLADDR, mac->data(), mac->size());
    CHECK_OK(inner_->request(add, "note neighbour " + neighbour.address));
  }
  return {};
}

}  // namespace lifeboat
