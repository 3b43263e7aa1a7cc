// plug.hpp - the switch on a container's host end: all passes, or nothing in either direction.
//
// Unplugged = a traffic-control classifier that drops every frame sits on both hooks (clsact) of
// the host end: ingress, before the bridge sees what the container sends; egress, after the bridge
// and before the container. Plugged = the classifiers are removed, so a running container pays
// nothing. The classifier is a one-instruction classic BPF program ("return drop"), which needs
// CONFIG_NET_CLS_BPF and no act_gact, matchall or bpf(2).
//
// Why not the bridge port's STP state (measured on Linux 6.18, bridge without STP): BLOCKING is
// accepted and undone by the kernel within the same request; LISTENING and DISABLED hold until
// the container takes its interface down and up, or the bridge goes down and up: then the port
// forwards again. Why not link down: the container would see its carrier go and flush its routes.
// The classifier survives all of that; only removing it, or the link, opens or ends it.
//
// Held = unplugged, and in front of the drop towards the container a classifier that redirects each frame
// to another device, which keeps it (hold.hpp). If that device is gone the redirection drops.
//
// What has passed the egress hook before unplug() and waits in a queue behind it (a shaper on the
// host end) still reaches the container; its answer cannot leave, so no peer ever hears of it.
//
// Errors: as netlink.hpp; kSystem when the kernel lacks clsact or cls_bpf, with what to do.
#pragma once

#include "base/netlink.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Puts the hooks on a link that has none yet (a new host end), and unplugs it. Once per link.
[[nodiscard]] Status install_plug(Netlink& netlink, int link_index);

// Switches one link; what it is already, it stays. Not verified. 30 microseconds to plug, 70 to
// unplug.
[[nodiscard]] Status set_plugged(Netlink& netlink, int link_index, bool plugged);

// Whether the kernel can redirect; frames are not affected. kSystem, with what it needs.
[[nodiscard]] Status check_can_hold(Netlink& netlink, int link_index, int device_index);
// From now on frames towards the container go to the device; set_plugged(..., true) ends it.
[[nodiscard]] Status hold(Netlink& netlink, int link_index, int device_index);

// What is installed now. kHalf: only one direction is closed.
enum class PlugState { kPlugged, kUnplugged, kHalf };
[[nodiscard]] Result<PlugState> plug_state(Netlink& netlink, int link_index);

}  // namespace lifeboat
