// address.hpp - the network identity of a container: it moves with the container.
//
// A container has its own network namespace and in it one interface per fabric, named after the
// fabric, with the same MAC, address and MTU on every node it ever lives on. Each is one end of a
// veth pair; the other, the host end, is a port of this node's bridge of that fabric. "This node"
// is the network namespace of the calling thread at create() or adopt().
//
//   container's netns            node
//     1g  02:..  10.1.1.5  ----  lb3f09c2a1d4-0  [plug]  br-1g  --- the fabric
//     10g 02:..  10.2.1.5  ----  lb3f09c2a1d4-1  [plug]  br-10g --- the fabric
//
// The plug (plug.hpp) is what a migration switches: the source unplugs when it freezes, the target
// builds everything unplugged and plugs in at commit. While unplugged nothing at all passes, on the
// loopback interface neither: CRIU looks at the two ends of a connection one after the other, and
// restores them so; what passes in between would be lost, or reset the first one. And
// nothing ever leaves a half-built namespace: the plug is in place before the host end is on the
// bridge, IPv6 is off, and the address comes last.
//
//   TRY(ContainerNet net, ContainerNet::create("job7.rank3", endpoints, TcpSettings{}));
//   ... restore the container into net.netns_fd() ...
//   CHECK_OK(net.plug());
//   CHECK_OK(net.announce());
//
// Measured (two fabrics, median and worst): create 2 and 30 ms, plug or unplug with verification
// 0.1 and 1.6 ms, announce 0.03 ms, adopt at most 16 ms, destruction 75 and 105 ms (the kernel
// waits for every user of the links): destroy off the event loop. All calls block; not thread-safe.
//
// Errors: kInvalid a bad endpoint, kNotFound no such bridge or host end, kConflict the container
// has a network here already, kRefused the bridge runs STP, kSystem the rest. Messages name
// the container, the fabric and what to do.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/netlink.hpp"
#include "base/result.hpp"
#include "migration/endpoint.hpp"
#include "migration/hold.hpp"
#include "migration/plug.hpp"
#include "migration/sockets.hpp"

namespace lifeboat {

// What keeps peers from giving a frozen container up, and from sleeping on after it is back.
struct TcpSettings {
  // Longest pause between two retransmissions, 1 to 120 s; needs Linux 6.15 (has_rto_max()).
  std::chrono::milliseconds rto_max{1000};
  // Retransmissions before a connection is given up, at most 255. Times rto_max: the longest
  // freeze that a connection with data in flight survives.
  unsigned retries = 255;
};

// Where a container's kernel found another interface on a fabric.
struct Neighbour {
  std::string fabric;
  std::string address;  // "10.2.1.6"
  std::string mac;

  bool operator==(const Neighbour&) const = default;
};

// What the network is built for. Sockets that CRIU restores compute their segment size when they
// "connect", with the kernel's default limit of 536 bytes, and look at it again only when the MTU
// of their route changes. So a container is restored with an MTU one byte short, and settle_mtu()
// gives it the real one before it runs; without that it sends 524-byte segments for ever (measured
// with CRIU 4.2.1).
enum class NetPurpose { kStart, kRestore };

// Owns a container's namespace descriptor and host ends; the destructor removes the host ends
// (when it returns they are gone: the same id can be made again) and drops the namespace.
class ContainerNet {
 public:
  static constexpr std::size_t kNeighboursMax = 1024;

  static Result<ContainerNet> create(const std::string& container_id,
                                     const std::vector<Endpoint>& endpoints,
                                     const TcpSettings& tcp,
                                     NetPurpose purpose = NetPurpose::kStart);
  // After the restore, before the container runs; see NetPurpose.
  Status settle_mtu();

  // Takes over what an earlier daemon made: finds the host ends by name, checks that they belong
  // to this namespace and the endpoints, and changes nothing; plugged stays plugged. On an error
  // everything stays as it is.
  static Result<ContainerNet> adopt(const std::string& container_id,
                                    const std::vector<Endpoint>& endpoints, Fd netns);
  static Result<ContainerNet> adopt(const std::string& container_id,
                                    const std::vector<Endpoint>& endpoints, pid_t pid);

  ContainerNet(ContainerNet&&) noexcept = default;
  ContainerNet& operator=(ContainerNet&& other) noexcept;
  ContainerNet(const ContainerNet&) = delete;
  ContainerNet& operator=(const ContainerNet&) = delete;
  ~ContainerNet();

  // All fabrics, read back afterwards; both may be repeated. A plug() that fails unplugs again.
  Status plug();
  Status unplug();
  Result<PlugState> state();  // kHalf also when the fabrics differ

  // Has the next unplug() keep what arrives for the container (hold.hpp) rather than drop it; plug()
  // ends that, end_hold() also frees what it takes. Ahead of time, on a running container: makes a
  // device per fabric, 0.5 ms each. On an error nothing has changed.
  Status prepare_hold();
  void end_hold() { holds_.clear(); }
  // What was kept since the last call.
  void collect_held(HeldFrames& into);
  [[nodiscard]] std::uint64_t held_dropped();  // frames for which the kernel's queues had no room
  // Gives frames to the container, plugged in, in their order from number `first` on, for as long as
  // `limit` at most; returns the number of the first that is still to be given. 3 microseconds each.
  std::size_t deliver(const HeldFrames& held, std::size_t first, std::chrono::microseconds limit);

  // Its TCP connections (0.5 ms), and whom its kernel knows on the fabrics: kNeighboursMax of them,
  // since learn() takes 20 microseconds for each, of the downtime.
  Result<std::vector<TcpSocket>> tcp_sockets();
  Result<std::vector<Neighbour>> neighbours();
  // Tells a new namespace whom the old one knew: without that the first word of a restored connection
  // waits for an answer to a question asked while it was unplugged, that is for 85 ms (measured).
  // Those on fabrics that it does not have are left out; kInvalid: a bad address; kSystem: the kernel
  // refused one. The container can do without: it asks again.
  Status learn(const std::vector<Neighbour>& neighbours);

  // Gratuitous ARP on every fabric, so that switches, bridges and peers learn the new place. Only
  // heard when plugged.
  Status announce();

  [[nodiscard]] int netns_fd() const { return netns_.get(); }
  [[nodiscard]] std::vector<std::string> host_ends() const;
  // Whether this kernel limits the retransmission pause. Without it peers back off up to 120 s.
  [[nodiscard]] bool has_rto_max() const { return has_rto_max_; }

  // Takes it all away; unplug() first. About 40 ms a fabric: the kernel waits for every user of a link.
  // What follows finds no port any more: unplug(), release(), the destructor.
  void remove();
  // Gives up ownership and deletes nothing: a daemon shuts down while its containers run on.
  void release();

 private:
  struct Port {
    Endpoint endpoint;
    std::string host_end;
    int host_index = 0;
    int inner_index = 0;
    int bridge_index = 0;
  };

  ContainerNet() = default;
  Status build_namespace(const TcpSettings& tcp);
  Status build_port(Port port, NetPurpose purpose);
  Status adopt_port(Port port);
  Status plug_once();
  Status verify_plugged();
  Status start_hold();
  Status switch_loopback(bool plugged);

  std::string container_id_;
  std::optional<Netlink> node_;   // speaks to the node's namespace
  std::optional<Netlink> inner_;  // speaks to the container's
  std::optional<Netlink> diag_;   // asks it for its sockets
  Fd netns_;
  Fd arp_;  // packet socket inside, opened beforehand: announce() enters no namespace
  Fd wire_;  // packet socket on the node, for deliver()
  std::vector<Port> ports_;
  int loopback_index_ = 0;
  std::vector<HoldDevice> holds_;  // one for each of ports_, or none
  bool has_rto_max_ = false;
};

// All host ends on this node, whoever made them, by name: for sweeps.
[[nodiscard]] Result<std::vector<std::string>> host_ends_present();
// Removes one that nobody owns. kInvalid: the name is not that of a host end.
[[nodiscard]] Status remove_host_end(const std::string& name);

}  // namespace lifeboat
