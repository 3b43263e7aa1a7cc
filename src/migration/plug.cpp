#include "migration/plug.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cstring>
#include <string>

namespace lifeboat {
namespace {

constexpr const char* kKind = "bpf";
constexpr sock_filter kDrop = BPF_STMT(BPF_RET | BPF_K, TC_ACT_SHOT);
constexpr sock_filter kAll = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
constexpr sock_filter kNone = BPF_STMT(BPF_RET | BPF_K, 0);
// Before any other classifier, and the hold before the drop.
constexpr std::uint32_t kHoldPriority = 1;
constexpr std::uint32_t kPriority = 2;
constexpr std::uint32_t kHandle = 1;

// A direction as seen from the host end.
constexpr std::uint32_t kFromContainer = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
constexpr std::uint32_t kToContainer = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);

std::string in_link(int link_index) {
  return " on link " + std::to_string(link_index);
}

tcmsg filter_header(int link_index, std::uint32_t hook, std::uint32_t priority = kPriority) {
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = link_index;
  header.tcm_parent = hook;
  header.tcm_handle = kHandle;
  header.tcm_info = TC_H_MAKE(priority << 16, htons(ETH_P_ALL));
  return header;
}

Status close_hook(Netlink& netlink, int link_index, std::uint32_t hook) {
  NetlinkRequest add(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL);
  add.header(filter_header(link_index, hook)).text(TCA_KIND, kKind);
  add.nest(TCA_OPTIONS, [&](NetlinkRequest& options) {
    options.u16(TCA_BPF_OPS_LEN, 1)
        .bytes(TCA_BPF_OPS, &kDrop, sizeof(kDrop))
        .u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
  });
  Status added = netlink.request(add, "close the plug" + in_link(link_index));
  if (!added && added.error().code == Errc::kConflict) return {};  // closed already
  return added;
}

Status redirect(Netlink& netlink, int link_index, int device_index, const sock_filter& frames) {
  tc_mirred mirred{};
  mirred.action = TC_ACT_STOLEN;
  mirred.eaction = TCA_EGRESS_REDIR;
  mirred.ifindex = static_cast<std::uint32_t>(device_index);
  NetlinkRequest add(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL);
  add.header(filter_header(link_index, kToContainer, kHoldPriority)).text(TCA_KIND, kKind);
  add.nest(TCA_OPTIONS, [&](NetlinkRequest& options) {
    options.u16(TCA_BPF_OPS_LEN, 1).bytes(TCA_BPF_OPS, &frames, sizeof(frames));
    options.nest(TCA_BPF_ACT, [&](NetlinkRequest& actions) {
      actions.nest(1, [&](NetlinkRequest& action) {
        action.text(TCA_ACT_KIND, "mirred");
        action.nest(TCA_ACT_OPTIONS, [&](NetlinkRequest& parameters) {
          parameters.bytes(TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
        });
      });
    });
  });
  Status added = netlink.request(add, "hold frames" + in_link(link_index));
  if (!added && added.error().code != Errc::kConflict) {
    added.error().message += "; this kernel needs CONFIG_NET_ACT_MIRRED (modprobe act_mirred)";
  }
  return added;
}

Status open_hook(Netlink& netlink, int link_index, std::uint32_t hook,
                 std::uint32_t priority = kPriority) {
  NetlinkRequest remove(RTM_DELTFILTER, 0);
  remove.header(filter_header(link_index, hook, priority)).text(TCA_KIND, kKind);
  return netlink.request(remove, "open the plug" + in_link(link_index));
}

// Whether our classifier of this priority, with its program, is on this hook.
Result<bool> has_program(Netlink& netlink, int link_index, std::uint32_t hook, std::uint32_t priority,
                         const sock_filter& wanted) {
  bool closed = false;
  tcmsg header{};
  header.tcm_ifindex = link_index;
  header.tcm_parent = hook;
  NetlinkRequest list(RTM_GETTFILTER, NLM_F_DUMP);
  list.header(header);
  CHECK_OK(netlink.request(list, "read the plug" + in_link(link_index), [&](nlmsghdr* message) {
    const auto* filter = static_cast<const tcmsg*>(nlmsg_data(message));
    if (message->nlmsg_type != RTM_NEWTFILTER || filter->tcm_handle != kHandle) return;
    if (filter->tcm_info != TC_H_MAKE(priority << 16, htons(ETH_P_ALL))) return;
    nlattr* options = nlmsg_find_attr(message, sizeof(tcmsg), TCA_OPTIONS);
    if (options == nullptr) return;
    const nlattr* program =
        nla_find(static_cast<nlattr*>(nla_data(options)), nla_len(options), TCA_BPF_OPS);
    closed = program != nullptr && nla_len(program) == sizeof(wanted) &&
             std::memcmp(nla_data(program), &wanted, sizeof(wanted)) == 0;
  }));
  return closed;
}

Result<bool> is_closed(Netlink& netlink, int link_index, std::uint32_t hook) {
  return has_program(netlink, link_index, hook, kPriority, kDrop);
}

Result<bool> is_held(Netlink& netlink, int link_index) {
  return has_program(netlink, link_index, kToContainer, kHoldPriority, kAll);
}

// Removing a classifier that is not there is an error of many names: look instead.
Status end_hold(Netlink& netlink, int link_index) {
  Status ended = open_hook(netlink, link_index, kToContainer, kHoldPriority);
  if (ended) return ended;
  TRY(const bool held, is_held(netlink, link_index));
  if (held) return ended;
  return {};
}

}  // namespace

Status install_plug(Netlink& netlink, int link_index) {
  tcmsg header{};
  header.tcm_ifindex = link_index;
  header.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
  header.tcm_parent = TC_H_CLSACT;
  NetlinkRequest add(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
  add.header(header).text(TCA_KIND, "clsact");
  Status installed = netlink.request(add, "put traffic-control hooks" + in_link(link_index));
  if (installed) installed = set_plugged(netlink, link_index, false);
  if (installed) return {};
  Error error = std::move(installed).error();
  if (error.code == Errc::kNotFound || error.message.find("not supported") != std::string::npos) {
    error.message +=
        "; this kernel needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF"
        " (modprobe sch_ingress cls_bpf)";
  }
  return tl::unexpected<Error>(std::move(error));
}

// Towards the container opens first and closes last: an answer to what the container sends must
// not be lost, and what it accepts while its answers cannot leave does no harm.
Status set_plugged(Netlink& netlink, int link_index, bool plugged) {
  if (!plugged) {
    Status first = close_hook(netlink, link_index, kFromContainer);
    Status second = close_hook(netlink, link_index, kToContainer);
    return first ? second : first;
  }
  CHECK_OK(end_hold(netlink, link_index));
  for (const std::uint32_t hook : {kToContainer, kFromContainer}) {
    Status opened = open_hook(netlink, link_index, hook);
    if (opened) continue;
    TRY(const bool closed, is_closed(netlink, link_index, hook));
    if (closed) return opened;
  }
  return {};
}

Status check_can_hold(Netlink& netlink, int link_index, int device_index) {
  CHECK_OK(end_hold(netlink, link_index));
  CHECK_OK(redirect(netlink, link_index, device_index, kNone));
  return open_hook(netlink, link_index, kToContainer, kHoldPriority);
}

Status hold(Netlink& netlink, int link_index, int device_index) {
  Status held = redirect(netlink, link_index, device_index, kAll);
  if (held || held.error().code != Errc::kConflict) return held;
  // One that an earlier daemon left, to a device that is gone.
  CHECK_OK(open_hook(netlink, link_index, kToContainer, kHoldPriority));
  return redirect(netlink, link_index, device_index, kAll);
}

Result<PlugState> plug_state(Netlink& netlink, int link_index) {
  TRY(const bool from, is_closed(netlink, link_index, kFromContainer));
  TRY(const bool to, is_closed(netlink, link_index, kToContainer));
  TRY(const bool held, is_held(netlink, link_index));
  if (from != to || (held && !to)) return PlugState::kHalf;
  return from ? PlugState::kUnplugged : PlugState::kPlugged;
}

}  // namespace lifeboat
