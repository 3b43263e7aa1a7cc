#include "base/netlink.hpp"

#include <arpa/inet.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <new>

namespace lifeboat {
namespace {

constexpr int kDumpAttempts = 10;  // a dump is repeated when links came and went meanwhile

struct Answer {
  bool done = false;
  bool interrupted = false;
  int error = 0;  // errno
  std::uint32_t sequence = 0;  // of the request
  std::string kernel_says;
  std::vector<std::vector<char>> replies;
};

int on_valid(nl_msg* message, void* answer) {
  const nlmsghdr* header = nlmsg_hdr(message);
  const char* begin = reinterpret_cast<const char*>(header);
  static_cast<Answer*>(answer)->replies.emplace_back(begin, begin + header->nlmsg_len);
  return NL_OK;
}

int on_end(nl_msg*, void* answer) {
  static_cast<Answer*>(answer)->done = true;
  return NL_STOP;
}

int on_interrupted(nl_msg*, void* answer) {
  static_cast<Answer*>(answer)->interrupted = true;
  return NL_OK;
}

// The kernel appends its own words when asked to (NETLINK_EXT_ACK): after the copy of our request,
// or after its header alone when the copy is capped.
std::string explanation(const nlmsgerr* error) {
  const auto* header =
      reinterpret_cast<const nlmsghdr*>(reinterpret_cast<const char*>(error) - NLMSG_HDRLEN);
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  std::size_t offset = sizeof(nlmsgerr);
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0) {
    offset += NLMSG_ALIGN(error->msg.nlmsg_len) - sizeof(nlmsghdr);
  }
  const std::size_t size = header->nlmsg_len - NLMSG_HDRLEN;
  if (offset >= size) return {};
  const auto* first =
      reinterpret_cast<const nlattr*>(reinterpret_cast<const char*>(error) + offset);
  const nlattr* text =
      nla_find(first, static_cast<int>(size - offset), static_cast<int>(NLMSGERR_ATTR_MSG));
  if (text == nullptr) return {};
  const auto length = static_cast<std::size_t>(nla_len(text));
  return std::string(static_cast<const char*>(nla_data(text)),
                     ::strnlen(static_cast<const char*>(nla_data(text)), length));
}

int on_error(sockaddr_nl*, nlmsgerr* error, void* answer) {
  auto* result = static_cast<Answer*>(answer);
  result->error = -error->error;
  result->kernel_says = explanation(error);
  result->done = true;
  return NL_STOP;
}

// What belongs to an earlier request, whose answer was not taken, is passed over. libnl's own check would fail
// all that come after one that has failed.
int on_sequence(nl_msg* message, void* answer) {
  return nlmsg_hdr(message)->nlmsg_seq == static_cast<Answer*>(answer)->sequence ? NL_OK : NL_SKIP;
}

struct CallbacksFree {
  void operator()(nl_cb* callbacks) const { nl_cb_put(callbacks); }
};

// Sends and collects everything up to the acknowledgement. The status is libnl's.
int exchange(nl_sock* socket, nl_msg* message, Answer& answer) {
  std::unique_ptr<nl_cb, CallbacksFree> callbacks(nl_cb_alloc(NL_CB_DEFAULT));
  if (!callbacks) throw std::bad_alloc();
  nl_cb_set(callbacks.get(), NL_CB_SEQ_CHECK, NL_CB_CUSTOM, on_sequence, &answer);
  nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_valid, &answer);
  nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_end, &answer);
  nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_end, &answer);
  nl_cb_set(callbacks.get(), NL_CB_DUMP_INTR, NL_CB_CUSTOM, on_interrupted, &answer);
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &answer);
  nlmsg_hdr(message)->nlmsg_seq = NL_AUTO_SEQ;
  int status = nl_send_auto(socket, message);
  answer.sequence = nlmsg_hdr(message)->nlmsg_seq;
  while (status >= 0 && !answer.done) status = nl_recvmsgs(socket, callbacks.get());
  // A custom error handler makes nl_recvmsgs() return that error too: the answer says it better.
  return answer.error != 0 ? 0 : status;
}

// The kernel answers while it takes a request, and goes on with a list as it is read: all of that.
void forget_answers(nl_sock* socket) {
  std::array<char, 64> part{};
  while (::recv(nl_socket_get_fd(socket), part.data(), part.size(), MSG_DONTWAIT | MSG_TRUNC) >= 0 ||
         errno == EINTR || errno == ENOBUFS) {
  }
}

Errc code_of(int error) {
  if (error == ENODEV || error == ENOENT || error == ENXIO) return Errc::kNotFound;
  return error == EEXIST ? Errc::kConflict : Errc::kSystem;
}

void read_linkinfo(nlattr* attribute, NetDevice& link) {
  std::array<nlattr*, IFLA_INFO_MAX + 1> info{};
  if (nla_parse_nested(info.data(), IFLA_INFO_MAX, attribute, nullptr) < 0) return;
  if (info[IFLA_INFO_KIND] != nullptr) link.kind = nla_get_string(info[IFLA_INFO_KIND]);
  if (link.kind == "bridge" && info[IFLA_INFO_DATA] != nullptr) {
    const nlattr* stp = nla_find(static_cast<nlattr*>(nla_data(info[IFLA_INFO_DATA])),
                                 nla_len(info[IFLA_INFO_DATA]), IFLA_BR_STP_STATE);
    link.spanning_tree = stp != nullptr && nla_get_u32(stp) != 0;
  }
  const nlattr* port = info[IFLA_INFO_SLAVE_DATA];
  if (info[IFLA_INFO_SLAVE_KIND] == nullptr || port == nullptr) return;
  if (std::string(nla_get_string(info[IFLA_INFO_SLAVE_KIND])) != "bridge") return;
  const nlattr* state =
      nla_find(static_cast<nlattr*>(nla_data(port)), nla_len(port), IFLA_BRPORT_STATE);
  if (state != nullptr) link.port_state = nla_get_u8(state);
}

std::optional<NetDevice> read_link(nlmsghdr* message) {
  if (message->nlmsg_type != RTM_NEWLINK) return std::nullopt;
  std::array<nlattr*, IFLA_MAX + 1> attributes{};
  if (nlmsg_parse(message, sizeof(ifinfomsg), attributes.data(), IFLA_MAX, nullptr) < 0) {
    return std::nullopt;
  }
  const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(message));
  NetDevice link;
  link.index = info->ifi_index;
  link.up = (info->ifi_flags & IFF_UP) != 0;
  link.running = (info->ifi_flags & IFF_RUNNING) != 0;
  if (const nlattr* a = attributes[IFLA_IFNAME]) link.name = nla_get_string(a);
  if (const nlattr* a = attributes[IFLA_MTU]) link.mtu = nla_get_u32(a);
  if (const nlattr* a = attributes[IFLA_MASTER]) link.master = static_cast<int>(nla_get_u32(a));
  if (const nlattr* a = attributes[IFLA_LINK]) link.peer = static_cast<int>(nla_get_u32(a));
  if (const nlattr* a = attributes[IFLA_ADDRESS]) {
    link.mac = format_mac(
        {static_cast<const std::uint8_t*>(nla_data(a)), static_cast<std::size_t>(nla_len(a))});
  }
  if (const nlattr* a = attributes[IFLA_STATS64]; a != nullptr && nla_len(a) > 0) {
    rtnl_link_stats64 stats{};
    std::memcpy(&stats, nla_data(a), std::min(sizeof(stats), static_cast<std::size_t>(nla_len(a))));
    link.tx_dropped = stats.tx_dropped;
  }
  if (attributes[IFLA_LINKINFO] != nullptr) read_linkinfo(attributes[IFLA_LINKINFO], link);
  return link;
}

ifinfomsg link_header(int index, unsigned flags = 0, unsigned change = 0) {
  ifinfomsg header{};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = index;
  header.ifi_flags = flags;
  header.ifi_change = change;
  return header;
}

}  // namespace

void NetlinkRequest::Free::operator()(nl_msg* message) const {
  nlmsg_free(message);
}

NetlinkRequest::NetlinkRequest(int type, int flags)
    : message_(nlmsg_alloc_simple(type, flags | NLM_F_REQUEST)) {
  if (!message_) throw std::bad_alloc();
}

// A message has room for a page; ours need a tenth of it. Only lack of memory can fail here.
NetlinkRequest& NetlinkRequest::append(const void* data, std::size_t size) {
  // nlmsg_append() does not change what it copies from.
  if (nlmsg_append(get(), const_cast<void*>(data), size, NLMSG_ALIGNTO) < 0) {
    throw std::bad_alloc();
  }
  return *this;
}

NetlinkRequest& NetlinkRequest::bytes(int attribute, const void* data, std::size_t size) {
  if (nla_put(get(), attribute, static_cast<int>(size), data) < 0) throw std::bad_alloc();
  return *this;
}

NetlinkRequest& NetlinkRequest::text(int attribute, const std::string& value) {
  return bytes(attribute, value.c_str(), value.size() + 1);
}

NetlinkRequest& NetlinkRequest::u32(int attribute, std::uint32_t value) {
  return bytes(attribute, &value, sizeof(value));
}

NetlinkRequest& NetlinkRequest::u16(int attribute, std::uint16_t value) {
  return bytes(attribute, &value, sizeof(value));
}

NetlinkRequest& NetlinkRequest::nest(int attribute,
                                     const std::function<void(NetlinkRequest&)>& fill) {
  nlattr* begin = nla_nest_start(get(), attribute);
  if (begin == nullptr) throw std::bad_alloc();
  fill(*this);
  nla_nest_end(get(), begin);
  return *this;
}

void Netlink::Free::operator()(nl_sock* socket) const {
  nl_socket_free(socket);
}

Result<Netlink> Netlink::open(int family) {
  nl_sock* socket = nl_socket_alloc();
  if (socket == nullptr) throw std::bad_alloc();
  Netlink netlink(socket);
  errno = 0;
  if (const int status = nl_connect(socket, family); status < 0) {
    if (errno != 0) return fail_errno("open a netlink socket");  // says more than libnl's code
    return fail(Errc::kSystem, std::string("open a netlink socket: ") + nl_geterror(status));
  }
  const int on = 1;
  (void)::setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  return netlink;
}

Status Netlink::request(const NetlinkRequest& request, const std::string& what,
                        const Reply& on_reply) {
  Answer answer;
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    answer = Answer();
    const int status = exchange(socket_.get(), request.get(), answer);
    if (answer.interrupted || status == -NLE_DUMP_INTR) continue;
    if (status < 0) {
      forget_answers(socket_.get());
      return fail(Errc::kSystem, what + ": " + nl_geterror(status));
    }
    break;
  }
  if (answer.interrupted) return fail(Errc::kSystem, what + ": the links keep changing");
  if (answer.error != 0) {
    std::string message = what + ": " + std::strerror(answer.error);
    if (!answer.kernel_says.empty()) message += " (" + answer.kernel_says + ")";
    return fail(code_of(answer.error), std::move(message));
  }
  for (std::vector<char>& reply : answer.replies) {
    if (on_reply) on_reply(reinterpret_cast<nlmsghdr*>(reply.data()));
  }
  return {};
}

Result<NetDevice> Netlink::link(const std::string& name) {
  std::optional<NetDevice> found;
  NetlinkRequest get(RTM_GETLINK, 0);
  get.header(link_header(0)).text(IFLA_IFNAME, name);
  CHECK_OK(request(get, "look up link " + name, [&](nlmsghdr* m) { found = read_link(m); }));
  if (!found) return fail(Errc::kNotFound, "look up link " + name + ": no answer");
  return *std::move(found);
}

Result<NetDevice> Netlink::link(int index) {
  std::optional<NetDevice> found;
  NetlinkRequest get(RTM_GETLINK, 0);
  get.header(link_header(index));
  const std::string what = "look up link " + std::to_string(index);
  CHECK_OK(request(get, what, [&](nlmsghdr* m) { found = read_link(m); }));
  if (!found) return fail(Errc::kNotFound, what + ": no answer");
  return *std::move(found);
}

Result<std::vector<NetDevice>> Netlink::links() {
  std::vector<NetDevice> all;
  NetlinkRequest get(RTM_GETLINK, NLM_F_DUMP);
  get.header(link_header(0));
  CHECK_OK(request(get, "list links", [&](nlmsghdr* message) {
    if (auto link = read_link(message)) all.push_back(*std::move(link));
  }));
  return all;
}

Status Netlink::add_veth(const VethPair& pair) {
  const auto mac = parse_mac(pair.mac);
  const auto peer_mac = parse_mac(pair.peer_mac);
  if (!mac || !peer_mac) return fail(Errc::kInvalid, "make " + pair.name + ": bad MAC address");
  NetlinkRequest make(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  make.header(link_header(0))
      .text(IFLA_IFNAME, pair.name)
      .u32(IFLA_MTU, pair.mtu)
      .bytes(IFLA_ADDRESS, mac->data(), mac->size());
  make.nest(IFLA_LINKINFO, [&](NetlinkRequest& info) {
    info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, [&](NetlinkRequest& data) {
      data.nest(VETH_INFO_PEER, [&](NetlinkRequest& peer) {
        peer.header(link_header(0))
            .text(IFLA_IFNAME, pair.peer_name)
            .u32(IFLA_MTU, pair.mtu)
            .bytes(IFLA_ADDRESS, peer_mac->data(), peer_mac->size())
            .u32(IFLA_NET_NS_FD, static_cast<std::uint32_t>(pair.peer_netns));
      });
    });
  });
  return request(make, "make veth pair " + pair.name + " and " + pair.peer_name);
}

Status Netlink::set_master(int index, int bridge_index) {
  NetlinkRequest set(RTM_NEWLINK, 0);
  set.header(link_header(index)).u32(IFLA_MASTER, static_cast<std::uint32_t>(bridge_index));
  return request(set, "put link " + std::to_string(index) + " on the bridge");
}

Status Netlink::set_up(int index, bool up) {
  NetlinkRequest set(RTM_NEWLINK, 0);
  set.header(link_header(index, up ? IFF_UP : 0, IFF_UP));
  return request(set, std::string("take link ") + std::to_string(index) + (up ? " up" : " down"));
}

Status Netlink::set_mtu(int index, unsigned mtu) {
  NetlinkRequest set(RTM_NEWLINK, 0);
  set.header(link_header(index)).u32(IFLA_MTU, mtu);
  return request(set, "set the MTU of link " + std::to_string(index));
}

Status Netlink::remove_link(int index) {
  NetlinkRequest remove(RTM_DELLINK, 0);
  remove.header(link_header(index));
  Status removed = request(remove, "remove link " + std::to_string(index));
  if (!removed && removed.error().code == Errc::kNotFound) return {};
  return removed;
}

Status Netlink::add_address(int index, const std::string& ipv4, unsigned prefix) {
  in_addr address{};
  if (::inet_pton(AF_INET, ipv4.c_str(), &address) != 1 || prefix > 32) {
    return fail(Errc::kInvalid, ipv4 + "/" + std::to_string(prefix) + ": not an IPv4 address");
  }
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = static_cast<unsigned char>(prefix);
  header.ifa_index = static_cast<unsigned>(index);
  NetlinkRequest add(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  add.header(header)
      .bytes(IFA_LOCAL, &address, sizeof(address))
      .bytes(IFA_ADDRESS, &address, sizeof(address));
  return request(add, "give link " + std::to_string(index) + " the address " + ipv4);
}

Result<std::vector<std::string>> Netlink::addresses(int index) {
  std::vector<std::string> all;
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  NetlinkRequest get(RTM_GETADDR, NLM_F_DUMP);
  get.header(header);
  CHECK_OK(request(get, "list addresses", [&](nlmsghdr* message) {
    const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(message));
    if (message->nlmsg_type != RTM_NEWADDR || static_cast<int>(info->ifa_index) != index) return;
    const nlattr* local = nlmsg_find_attr(message, sizeof(ifaddrmsg), IFA_LOCAL);
    if (local == nullptr || nla_len(local) != sizeof(in_addr)) return;
    std::array<char, INET_ADDRSTRLEN> text{};
    ::inet_ntop(AF_INET, nla_data(local), text.data(), text.size());
    all.push_back(std::string(text.data()) + "/" + std::to_string(info->ifa_prefixlen));
  }));
  return all;
}

std::optional<std::vector<std::uint8_t>> parse_mac(const std::string& text) {
  std::array<unsigned, 6> parts{};
  int end = 0;
  const int count = std::sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%n", &parts[0], &parts[1],
                                &parts[2], &parts[3], &parts[4], &parts[5], &end);
  if (count != 6 || text.size() != 17 || end != 17) return std::nullopt;
  return std::vector<std::uint8_t>(parts.begin(), parts.end());
}

std::string format_mac(std::span<const std::uint8_t> bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    if (!text.empty()) text += ':';
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace lifeboat
