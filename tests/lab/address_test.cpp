// The network identity on real bridges, in a network namespace of this test process's own.
#include "migration/address.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <filesystem>
#include <future>

#include "base/netns.hpp"
#include "tests/lab/wire.hpp"

namespace lifeboat {
namespace {

using namespace std::chrono_literals;
using lab::Connection;
using lab::echo;
using lab::need;
using lab::Tap;
using Clock = std::chrono::steady_clock;

constexpr const char* kBridgeMac = "02:bb:00:00:00:01";

std::size_t entries(const char* directory) {
  const auto all = std::filesystem::directory_iterator(directory);
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// One that was joined, or that of a device that held frames, goes a little later.
void await_threads() {
  for (int i = 0; i < 1000 && entries("/proc/self/task") > 1; ++i) lab::pause(10);
}

class AddressTest : public testing::Test {
 protected:
  // The machine's own network is never touched: the process leaves it for good.
  static void SetUpTestSuite() {
    if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0) return;
    node_ns_ = new Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    Netlink node = need(Netlink::open());
    lab::make_bridge(node, "br-1g", kBridgeMac, "10.9.1.254");
    lab::make_bridge(node, "br-10g", "02:bb:00:00:00:02", "10.9.2.254");
  }
  static void TearDownTestSuite() { delete node_ns_; }
  void SetUp() override {
    if (node_ns_ == nullptr) GTEST_SKIP() << "needs root, to make network namespaces";
  }
  void TearDown() override {
    if (node_ns_ == nullptr) return;
    await_threads();
    EXPECT_EQ(need(host_ends_present()), std::vector<std::string>{}) << "left behind";
    EXPECT_EQ(entries("/proc/self/task"), 1u) << "a thread was left behind";
  }

  static std::vector<Endpoint> endpoints(const std::string& id, int host) {
    const std::string last = std::to_string(host);
    return {{"1g", "br-1g", mac_for(id, "1g"), "10.9.1." + last, 24, 1500},
            {"10g", "br-10g", mac_for(id, "10g"), "10.9.2." + last, 24, 1500}};
  }
  static ContainerNet make(const std::string& id, int host) {
    return need(ContainerNet::create(id, endpoints(id, host), TcpSettings{}));
  }
  static ContainerNet make_plugged(const std::string& id, int host) {
    ContainerNet net = make(id, host);
    need(net.plug());
    return net;
  }
  static std::string failure(const std::string& id, const std::vector<Endpoint>& wrong) {
    auto net = ContainerNet::create(id, wrong, TcpSettings{});
    EXPECT_FALSE(net.has_value());
    return net ? "" : net.error().message;
  }

  static Fd* node_ns_;
};
Fd* AddressTest::node_ns_ = nullptr;

TEST_F(AddressTest, CarriesTrafficWhenPlugged) {
  ContainerNet a = make_plugged("a", 1), b = make_plugged("b", 2);
  EXPECT_EQ(need(a.state()), PlugState::kPlugged);
  EXPECT_TRUE(echo(a.netns_fd(), b.netns_fd(), "10.9.1.2"));
  EXPECT_TRUE(echo(b.netns_fd(), a.netns_fd(), "10.9.2.1"));
  EXPECT_TRUE(echo(a.netns_fd(), node_ns_->get(), "10.9.1.254"));
  Connection c = lab::connect_to(a.netns_fd(), b.netns_fd(), "10.9.2.2");
  EXPECT_EQ(::send(c.client.get(), "x", 1, 0), 1);
  char byte = 0;
  EXPECT_EQ(::recv(c.server.get(), &byte, 1, 0), 1);
}

TEST_F(AddressTest, HasTheIdentityItWasGiven) {
  const std::vector<Endpoint> wanted = endpoints("a", 1);
  ContainerNet a = make("a", 1);
  EXPECT_EQ(a.host_ends(), (std::vector{host_end_name("a", 0), host_end_name("a", 1)}));
  EXPECT_EQ(need(host_ends_present()), a.host_ends());
  std::optional<Netlink> inner;
  need(in_netns(a.netns_fd(), [&]() -> Status {
    TRY(inner, Netlink::open());
    EXPECT_EQ(need(read_sysctl("net/ipv4/tcp_retries2")), "255");
    EXPECT_EQ(need(read_sysctl("net/ipv6/conf/all/disable_ipv6")), "1");
    EXPECT_EQ(need(read_sysctl("net/ipv4/conf/all/arp_ignore")), "1");
    EXPECT_EQ(need(read_sysctl("net/ipv4/neigh/10g/mcast_solicit")), "1270");
    if (a.has_rto_max()) {
      EXPECT_EQ(need(read_sysctl("net/ipv4/tcp_rto_max_ms")), "1000");
      EXPECT_EQ(need(read_sysctl("net/ipv4/tcp_syn_retries")), "127");
    }
    return {};
  }));
  for (const Endpoint& endpoint : wanted) {
    NetDevice end = need(inner->link(endpoint.fabric));
    for (int i = 0; i < 1000 && !end.running; ++i, end = need(inner->link(endpoint.fabric))) ::usleep(1000);
    EXPECT_EQ(end.mac, endpoint.mac);
    EXPECT_EQ(end.mtu, endpoint.mtu);
    EXPECT_TRUE(end.up);
    EXPECT_TRUE(end.running);
    EXPECT_EQ(need(inner->addresses(end.index)), std::vector{endpoint.address + "/24"});
  }
  EXPECT_EQ(need(read_sysctl("net/ipv4/tcp_retries2")), "15") << "the node's own is untouched";
  EXPECT_EQ(need(need(Netlink::open()).link("br-1g")).mac, kBridgeMac);
}

// Frames of every kind, in both directions, with everything around the port being disturbed.
TEST_F(AddressTest, PassesNothingWhenUnplugged) {
  const std::string mac_a = mac_for("a", "1g"), mac_b = mac_for("b", "1g");
  ContainerNet a = make_plugged("a", 1), b = make_plugged("b", 2);
  ASSERT_TRUE(echo(a.netns_fd(), b.netns_fd(), "10.9.1.2"));  // bridge and ARP know everybody
  Netlink node = need(Netlink::open());
  std::optional<Netlink> inner;
  need(in_netns(a.netns_fd(), [&]() -> Status {
    TRY(inner, Netlink::open());
    return {};
  }));
  const int bridge = need(node.link("br-1g")).index;
  const int port = need(node.link(a.host_ends()[0])).index;
  const int end = need(inner->link("1g")).index;
  Tap at_a(a.netns_fd(), "1g"), at_b(b.netns_fd(), "1g"), at_node(node_ns_->get(), "br-1g");
  // More frames pass when plugged than a bridge keeps for itself: the taps work.
  const auto flood = [&] {
    for (const auto& frame : lab::every_kind(mac_a, mac_b, kBridgeMac)) (void)at_a.send(frame);
    for (const auto& frame : lab::every_kind(mac_b, mac_a, kBridgeMac)) (void)at_b.send(frame);
    for (const auto& frame : lab::every_kind(kBridgeMac, mac_a, mac_b)) (void)at_node.send(frame);
    lab::pause(20);
  };
  const auto drain = [&] { (void)at_a.arrived(), (void)at_b.arrived(), (void)at_node.arrived(); };
  drain();
  flood();
  EXPECT_GT(at_a.arrived().size(), 50u);
  EXPECT_GT(at_b.arrived_from(mac_a).size(), 25u);
  EXPECT_GT(at_node.arrived_from(mac_a).size(), 25u);

  need(a.unplug());
  need(a.unplug());  // idempotent
  drain();
  const std::vector<std::pair<const char*, std::function<void()>>> disturbances = {
      {"none", [] {}},
      {"bridge down and up", [&] { need(node.set_up(bridge, false)), need(node.set_up(bridge)); }},
      {"carrier lost and back", [&] { need(inner->set_up(end, false)), need(inner->set_up(end)); }},
      {"port down and up", [&] { need(node.set_up(port, false)), need(node.set_up(port)); }},
      {"another container comes and goes", [&] { (void)make_plugged("c", 3); }},
      {"port taken off the bridge and back",
       [&] { need(node.set_master(port, 0)), need(node.set_master(port, bridge)); }},
      {"another address", [&] { need(inner->add_address(end, "10.9.1.77", 24)); }},
  };
  for (const auto& [what, disturb] : disturbances) {
    disturb();
    lab::pause(50);
    flood();
    (void)echo(a.netns_fd(), b.netns_fd(), "10.9.1.2");
    (void)echo(a.netns_fd(), node_ns_->get(), "10.9.1.254");
    EXPECT_EQ(at_a.arrived().size(), 0u) << "into the container; disturbance: " << what;
    EXPECT_EQ(at_b.arrived_from(mac_a).size(), 0u) << "out of it; disturbance: " << what;
    EXPECT_EQ(at_node.arrived_from(mac_a).size(), 0u) << "to the node; disturbance: " << what;
    EXPECT_EQ(need(a.state()), PlugState::kUnplugged);
  }
  EXPECT_TRUE(echo(b.netns_fd(), node_ns_->get(), "10.9.1.254")) << "others are not affected";
  need(a.plug());
  need(a.plug());  // idempotent
  EXPECT_TRUE(echo(a.netns_fd(), b.netns_fd(), "10.9.1.2"));
}

// A socket of the namespace that talks to itself.
class LoopbackTalk {
 public:
  explicit LoopbackTalk(const ContainerNet& net) {
    auto opened = in_netns(net.netns_fd(), [&]() -> Status {
      socket_ = Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t size = sizeof address;
      auto* generic = reinterpret_cast<sockaddr*>(&address);
      if (::bind(socket_.get(), generic, size) != 0 || ::getsockname(socket_.get(), generic, &size) != 0 ||
          ::connect(socket_.get(), generic, size) != 0) {
        return fail_errno("a socket on the loopback interface");
      }
      return {};
    });
    EXPECT_TRUE(opened.has_value());
  }
  [[nodiscard]] bool hears_itself() const {
    char byte = 'x';
    if (::send(socket_.get(), &byte, 1, 0) != 1) return false;
    timeval limit{0, 50'000};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return ::recv(socket_.get(), &byte, 1, 0) == 1;
  }

 private:
  Fd socket_;
};

TEST_F(AddressTest, TheLoopbackInterfaceIsPartOfThePlug) {
  ContainerNet net = make("loop.0", 7);
  const LoopbackTalk talk(net);
  EXPECT_TRUE(talk.hears_itself()) << "the container starts before it is plugged in";
  need(net.plug());
  EXPECT_TRUE(talk.hears_itself());
  need(net.unplug());
  EXPECT_FALSE(talk.hears_itself());
  need(net.unplug());
  need(net.plug());
  EXPECT_TRUE(talk.hears_itself());
  const ContainerNet arriving = need(ContainerNet::create("loop.1", endpoints("loop.1", 8), TcpSettings{},
                                                          NetPurpose::kRestore));
  EXPECT_FALSE(LoopbackTalk(arriving).hears_itself());
}

TEST_F(AddressTest, ANewPlaceKnowsTheNeighboursOfTheOldOne) {
  ContainerNet before = make("known.0", 7);
  ContainerNet peer = make("known.1", 8);
  need(before.plug());
  need(peer.plug());
  EXPECT_TRUE(need(before.neighbours()).empty());
  const Connection connection = lab::connect_to(before.netns_fd(), peer.netns_fd(), "10.9.1.8");
  const std::vector<Neighbour> known = need(before.neighbours());
  ASSERT_EQ(known.size(), 1u);
  EXPECT_EQ(known[0], (Neighbour{"1g", "10.9.1.8", mac_for("known.1", "1g")}));
  ContainerNet after = need(ContainerNet::create("known.2", endpoints("known.2", 9), TcpSettings{},
                                                 NetPurpose::kRestore));
  need(after.learn({known[0], {"no such fabric", "10.9.1.9", known[0].mac}}));
  EXPECT_EQ(need(after.neighbours()), known);
  EXPECT_FALSE(after.learn({{"1g", "10.9.1.300", known[0].mac}}).has_value());
  EXPECT_FALSE(after.learn({{"1g", "10.9.1.9", "not a MAC"}}).has_value());
}

TEST_F(AddressTest, NothingLeaksWhileBuilding) {
  ContainerNet b = make_plugged("b", 2);
  lab::pause(100);
  Tap at_b(b.netns_fd(), "1g"), at_node(node_ns_->get(), "br-1g");
  for (int i = 0; i < 10; ++i) {
    ContainerNet a = make("a", 1);
    lab::pause(50);
  }
  EXPECT_EQ(at_node.arrived().size(), 0u);
  EXPECT_EQ(at_b.arrived_from(mac_for("a", "1g")).size(), 0u);
}

TEST_F(AddressTest, AnnouncesItselfOnEveryFabric) {
  ContainerNet a = make_plugged("a", 1), b = make_plugged("b", 2);
  Tap slow(b.netns_fd(), "1g"), fast(b.netns_fd(), "10g");
  need(a.announce());
  lab::pause(20);
  for (auto* tap : {&slow, &fast}) {
    const std::string fabric = tap == &slow ? "1g" : "10g";
    const auto frames = tap->arrived_from(mac_for("a", fabric));
    ASSERT_EQ(frames.size(), 2u);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(format_mac(std::span(frames[i]).first(6)), "ff:ff:ff:ff:ff:ff");
      EXPECT_EQ(frames[i][21], i + 1) << "request, then reply";
      const std::vector<std::uint8_t> sender(frames[i].begin() + 28, frames[i].begin() + 32);
      const std::uint8_t net = tap == &slow ? 1 : 2;
      EXPECT_EQ(sender, (std::vector<std::uint8_t>{10, 9, net, 1}));
    }
  }
}

TEST_F(AddressTest, CanBeMadeAgainAtOnce) {
  const std::size_t descriptors = entries("/proc/self/fd");
  for (int i = 0; i < 10; ++i) {
    ContainerNet a = make("a", 1);
    auto second = ContainerNet::create("a", endpoints("a", 1), TcpSettings{});
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::kConflict);
    EXPECT_EQ(need(host_ends_present()).size(), 2u) << "the first one's are untouched";
  }
  ContainerNet moved = make("a", 1);
  moved = make("b", 2);  // a's host ends go
  EXPECT_EQ(need(host_ends_present()), moved.host_ends());
  ContainerNet taken = std::move(moved);
  taken = ContainerNet(std::move(taken));
  EXPECT_EQ(need(host_ends_present()).size(), 2u);
  taken = make("c", 3);
  { ContainerNet last = std::move(taken); }
  EXPECT_EQ(entries("/proc/self/fd"), descriptors);
}

TEST_F(AddressTest, IsAdoptedUnchanged) {
  ContainerNet b = make_plugged("b", 2);
  Fd netns;
  {
    ContainerNet first = make_plugged("a", 1);
    netns.reset(::fcntl(first.netns_fd(), F_DUPFD_CLOEXEC, 0));
    first.release();  // "the daemon shuts down"
  }
  EXPECT_TRUE(echo(b.netns_fd(), netns.get(), "10.9.1.1")) << "the container runs on";
  const auto copy = [&] { return Fd(::fcntl(netns.get(), F_DUPFD_CLOEXEC, 0)); };

  auto wrong = endpoints("a", 1);
  wrong[1].address = "10.9.2.9";
  auto refused = ContainerNet::adopt("a", wrong, copy());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message,
            "network of container a, fabric 10g (bridge br-10g): the container has another MAC or "
            "address than " +
                wrong[1].mac + " and 10.9.2.9/24");
  Fd other(::fcntl(b.netns_fd(), F_DUPFD_CLOEXEC, 0));
  EXPECT_FALSE(ContainerNet::adopt("a", endpoints("a", 1), std::move(other)).has_value());
  EXPECT_FALSE(ContainerNet::adopt("a", endpoints("a", 1), pid_t{0x7fffffff}).has_value());

  ContainerNet again = need(ContainerNet::adopt("a", endpoints("a", 1), copy()));
  EXPECT_EQ(need(again.state()), PlugState::kPlugged);
  EXPECT_TRUE(echo(b.netns_fd(), again.netns_fd(), "10.9.1.1"));
  need(again.announce());
  need(again.unplug());
  EXPECT_FALSE(echo(b.netns_fd(), again.netns_fd(), "10.9.1.1"));
}

TEST_F(AddressTest, StaysUnpluggedWhenPluggingFails) {
  ContainerNet a = make("a", 1);
  Netlink node = need(Netlink::open());
  const int bridge = need(node.link("br-10g")).index;
  need(node.set_up(bridge, false));
  const Status plugged = a.plug();
  need(node.set_up(bridge));
  ASSERT_FALSE(plugged.has_value());
  EXPECT_EQ(plugged.error().code, Errc::kTimeout);
  EXPECT_EQ(plugged.error().message, "plug container a in: " + a.host_ends()[1] +
                                         " does not forward; is the bridge up and"
                                         " without STP, and the container's interface up?");
  EXPECT_EQ(need(a.state()), PlugState::kUnplugged);
  const auto left = a.host_ends();
  a.release();
  EXPECT_FALSE(a.plug().has_value()) << "a released network plugs nothing";
  EXPECT_FALSE(a.unplug().has_value());
  for (const std::string& name : left) need(remove_host_end(name));
}

TEST_F(AddressTest, RemovesOnlyHostEnds) {
  ContainerNet a = make("a", 1);
  Fd netns(::fcntl(a.netns_fd(), F_DUPFD_CLOEXEC, 0));
  const auto left = a.host_ends();
  a.release();
  for (const std::string& name : left) need(remove_host_end(name));
  need(remove_host_end(left[0]));  // gone already
  EXPECT_EQ(remove_host_end("br-1g").error().code, Errc::kInvalid);
}

TEST_F(AddressTest, FailsWithoutTraceAndSaysWhatToDo) {
  const std::size_t descriptors = entries("/proc/self/fd");
  const std::string of_10g = "network of container a, fabric 10g (bridge br-10g): ";
  auto wrong = endpoints("a", 1);
  wrong[1].address = "10.9.2.300";
  EXPECT_EQ(failure("a", wrong),
            of_10g +
                "'10.9.2.300/24' is not a host's IPv4 address with a"
                " prefix from 1 to 31; correct the container's address on this fabric");
  wrong = endpoints("a", 1);
  wrong[1].bridge = "br-none";
  EXPECT_EQ(failure("a", wrong),
            "network of container a, fabric 10g (bridge br-none): this node"
            " has no bridge br-none; make it, or correct the fabric's bridge in the configuration");
  wrong[1].bridge = "lo";
  EXPECT_EQ(failure("a", wrong),
            "network of container a, fabric 10g (bridge lo): lo is not a bridge");
  // Late: the second fabric's host end is taken when the first one's is built already.
  Netlink node = need(Netlink::open());
  Fd elsewhere = need(make_netns([]() -> Status { return {}; }));
  need(node.add_veth({host_end_name("a", 1), "02:00:00:00:00:01", "x", "02:00:00:00:00:02",
                      elsewhere.get(), 1500}));
  EXPECT_EQ(failure("a", endpoints("a", 1)),
            of_10g + "host end " + host_end_name("a", 1) +
                " exists already; the container lives"
                " here (adopt it) or has left it behind (remove it)");
  EXPECT_EQ(need(host_ends_present()), std::vector{host_end_name("a", 1)});
  need(remove_host_end(host_end_name("a", 1)));
  elsewhere.reset();
  const std::size_t own_socket = 1;
  EXPECT_EQ(entries("/proc/self/fd"), descriptors + own_socket);
}

// Every descriptor it opens is refused once: the namespace, both netlink sockets, each sysctl ...
TEST_F(AddressTest, FailsAtEveryStepWithoutTrace) {
  const std::size_t descriptors = entries("/proc/self/fd");
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  int failures = 0;
  for (bool made = false; !made; ++failures) {
    const rlimit low{3 + static_cast<rlim_t>(failures), before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &low);
    const auto net = ContainerNet::create("a", endpoints("a", 1), TcpSettings{});
    ::setrlimit(RLIMIT_NOFILE, &before);
    made = net.has_value();
    if (made) break;
    EXPECT_NE(net.error().message.find("Too many open files"), std::string::npos)
        << net.error().message;
    EXPECT_TRUE(need(host_ends_present()).empty()) << net.error().message;
    ASSERT_EQ(entries("/proc/self/fd"), descriptors) << net.error().message;
  }
  EXPECT_GE(failures, 4);
}

// Retransmissions double their distance unless it is bounded: after 6.2 s the next one would come at 12.6 s.
TEST_F(AddressTest, TcpSurvivesSevenSecondsUnplugged) {
  ContainerNet a = make_plugged("a", 1), b = make_plugged("b", 2);
  Connection c = lab::connect_to(a.netns_fd(), b.netns_fd(), "10.9.2.2");
  need(b.unplug());
  EXPECT_EQ(::send(c.client.get(), "late", 4, 0), 4);
  EXPECT_EQ(::send(c.server.get(), "back", 4, 0), 4);
  lab::pause(7000);
  std::array<char, 8> text{};
  EXPECT_EQ(::recv(c.server.get(), text.data(), text.size(), MSG_DONTWAIT), -1);
  EXPECT_EQ(::recv(c.client.get(), text.data(), text.size(), MSG_DONTWAIT), -1);
  need(b.plug());
  need(b.announce());
  const auto plugged = Clock::now();
  EXPECT_EQ(::recv(c.server.get(), text.data(), text.size(), 0), 4);
  EXPECT_EQ(::recv(c.client.get(), text.data(), text.size(), 0), 4);
  if (a.has_rto_max()) {
    EXPECT_LT(Clock::now() - plugged, 4s) << "rto_max bounds the stall";
  }
}

std::vector<int> numbers(const std::vector<lab::Frame>& frames) {
  std::vector<int> out;
  for (const lab::Frame& frame : frames) {
    if (frame[12] == 0x99 && frame[13] == 0x99) out.push_back(frame[14] * 256 + frame[15]);
  }
  return out;
}

// Of those that are kept; what the kernels of bridges say of their IPv6 (MLD, DAD, solicitations) may be among them.
std::vector<int> numbers(const HeldFrames& held) {
  std::vector<lab::Frame> frames;
  for (const HeldFrames::Frame& frame : held.frames()) frames.emplace_back(frame.bytes);
  return numbers(frames);
}

lab::Frame numbered(const std::string& to, const std::string& from, int number) {
  lab::Frame frame = lab::frame(to, from, 0x9999);
  frame[14] = static_cast<std::uint8_t>(number >> 8);
  frame[15] = static_cast<std::uint8_t>(number);
  return frame;
}

std::vector<int> up_to(int end) {
  std::vector<int> out;
  for (int i = 0; i < end; ++i) out.push_back(i);
  return out;
}

// Two places of one container: frames kept at the first are given to it at the second, in their order.
TEST_F(AddressTest, KeepsFramesAndDeliversThemElsewhere) {
  const std::string mac_a = mac_for("a", "1g"), mac_b = mac_for("b", "1g");
  ContainerNet a = make_plugged("a", 1), b = make_plugged("b", 2);
  ASSERT_TRUE(echo(a.netns_fd(), b.netns_fd(), "10.9.1.2"));
  Tap at_a(a.netns_fd(), "1g"), at_b(b.netns_fd(), "1g");
  need(a.prepare_hold());
  EXPECT_TRUE(echo(b.netns_fd(), a.netns_fd(), "10.9.1.1")) << "ready to hold changes nothing";
  need(a.unplug());
  EXPECT_EQ(need(a.state()), PlugState::kUnplugged);
  (void)at_a.arrived(), (void)at_b.arrived();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(at_b.send(numbered(mac_a, mac_b, i)));
  for (int i = 0; i < 100; ++i) (void)at_a.send(numbered(mac_b, mac_a, i));
  lab::pause(20);
  EXPECT_EQ(at_a.arrived().size(), 0u) << "into the container";
  EXPECT_EQ(at_b.arrived_from(mac_a).size(), 0u) << "out of it";
  HeldFrames held;
  a.collect_held(held);
  EXPECT_EQ(numbers(held), up_to(100));
  EXPECT_EQ(a.held_dropped(), 0u);
  at_b.send(numbered(mac_a, mac_b, 100));
  lab::pause(5);
  a.collect_held(held);
  EXPECT_EQ(numbers(held), up_to(101)) << "goes on";

  HeldFrames sent;
  for (const auto& payload : held.encode(0)) need(sent.decode(payload));
  a = make("a2", 1);  // here under another name, as both are on one node
  Tap elsewhere(a.netns_fd(), "1g");
  EXPECT_EQ(a.deliver(sent, 0, 1s), sent.frames().size());
  EXPECT_EQ(elsewhere.arrived().size(), 0u) << "not while unplugged";
  need(a.plug());
  EXPECT_EQ(a.deliver(sent, 0, 1s), sent.frames().size());
  lab::pause(5);
  EXPECT_EQ(numbers(elsewhere.arrived()), up_to(101));
  EXPECT_EQ(numbers(at_b.arrived()), std::vector<int>{}) << "the fabric hears nothing of it";
}

TEST_F(AddressTest, AHoldIsBoundedAndEndsWithThePlug) {
  const std::string mac_a = mac_for("a", "1g"), mac_b = mac_for("b", "1g");
  ContainerNet a = make_plugged("a", 1), b = make_plugged("b", 2);
  ASSERT_TRUE(echo(a.netns_fd(), b.netns_fd(), "10.9.1.2"));
  Tap at_a(a.netns_fd(), "1g"), at_b(b.netns_fd(), "1g");
  need(a.prepare_hold());
  need(a.unplug());
  (void)at_a.arrived();
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(at_b.send(numbered(mac_a, mac_b, i)));
  lab::pause(50);
  need(a.plug());  // an abort: what was kept is given to it here
  HeldFrames held;
  a.collect_held(held);
  // The queue's 1000 and at most one more on its way into it.
  EXPECT_GE(held.frames().size(), 1000u);
  EXPECT_LE(numbers(held).size(), 1001u);
  EXPECT_GE(held.frames().size() + a.held_dropped(), 3000u);
  EXPECT_LE(held.frames().size() + a.held_dropped(), 3010u);
  std::vector<int> arrived;
  for (std::size_t next = 0; next < held.frames().size();) {
    next = a.deliver(held, next, 100us);
    lab::pause(1);
    for (const int number : numbers(at_a.arrived())) arrived.push_back(number);
  }
  ASSERT_GE(arrived.size(), 990u);
  EXPECT_EQ(arrived, up_to(static_cast<int>(arrived.size()))) << "the oldest, in their order";
  EXPECT_TRUE(echo(b.netns_fd(), a.netns_fd(), "10.9.1.1"));
  held = HeldFrames();
  a.collect_held(held);
  EXPECT_EQ(held.frames().size(), 0u) << "plugged in nothing is kept";
  a.end_hold();
  need(a.unplug());
  EXPECT_EQ(need(a.state()), PlugState::kUnplugged) << "and without a hold as ever";
}

// A daemon that dies takes its devices along; the filter it leaves drops, until the next one plugs in.
TEST_F(AddressTest, AHoldOutlivedByItsFilterDropsAndIsReplaced) {
  const std::string mac_a = mac_for("a", "1g"), mac_b = mac_for("b", "1g");
  ContainerNet b = make_plugged("b", 2);
  Fd netns;
  {
    ContainerNet first = make_plugged("a", 1);
    ASSERT_TRUE(echo(first.netns_fd(), b.netns_fd(), "10.9.1.2"));
    netns.reset(::fcntl(first.netns_fd(), F_DUPFD_CLOEXEC, 0));
    need(first.prepare_hold());
    need(first.unplug());
    first.release();
  }
  await_threads();
  EXPECT_FALSE(echo(b.netns_fd(), netns.get(), "10.9.1.1"));
  Fd copy(::fcntl(netns.get(), F_DUPFD_CLOEXEC, 0));
  ContainerNet again = need(ContainerNet::adopt("a", endpoints("a", 1), std::move(copy)));
  EXPECT_EQ(need(again.state()), PlugState::kUnplugged);
  need(again.prepare_hold());
  need(again.unplug());
  Tap at_b(b.netns_fd(), "1g");
  at_b.send(numbered(mac_a, mac_b, 7));
  lab::pause(5);
  HeldFrames held;
  again.collect_held(held);
  EXPECT_EQ(numbers(held), std::vector<int>{7});
  need(again.plug());
  EXPECT_TRUE(echo(b.netns_fd(), netns.get(), "10.9.1.1"));
  again.end_hold();
}

// What the hold is for: no retransmission timer is waited for, also by segments that a veth pair would carry uncut and
// without a checksum. The timer here is of ten seconds: no stall of the machine takes that long.
TEST_F(AddressTest, TcpGoesOnAtOnceAfterAHold) {
  ContainerNet a = make_plugged("a", 1), b = make_plugged("b", 2);
  const std::string in_a = "nsenter --net=/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(a.netns_fd());
  ASSERT_EQ(std::system((in_a + " ip route change 10.9.2.0/24 dev 10g rto_min 10s").c_str()), 0);
  std::ignore = std::system((in_a + " sysctl -qw net.ipv4.tcp_rto_max_ms=120000").c_str());  // where there is one
  Connection c = lab::connect_to(a.netns_fd(), b.netns_fd(), "10.9.2.2");
  need(b.prepare_hold());
  need(b.unplug());
  const std::string sent(30'000, 'x');
  EXPECT_EQ(::send(c.client.get(), sent.data(), sent.size(), 0), static_cast<ssize_t>(sent.size()));
  lab::pause(50);
  std::string got(sent.size(), '-');
  EXPECT_EQ(::recv(c.server.get(), got.data(), got.size(), MSG_DONTWAIT), -1);
  const auto plugged = Clock::now();
  need(b.plug());
  HeldFrames held;
  b.collect_held(held);
  EXPECT_GT(held.frames().size(), 5u);
  b.deliver(held, 0, 1s);
  EXPECT_EQ(::recv(c.server.get(), got.data(), got.size(), MSG_WAITALL),
            static_cast<ssize_t>(got.size()));
  EXPECT_LT(Clock::now() - plugged, 5s);
  EXPECT_EQ(got, sent);
  b.end_hold();
}

// By default Linux gives up after three unanswered ARP requests: "No route to host". The SYN would come again
// after 7 s and then after 15 s.
TEST_F(AddressTest, ConnectOutlivesAFreeze) {
  ContainerNet a = make_plugged("a", 1), b = make("b", 2);
  Fd listener = lab::listen_in(b.netns_fd(), "10.9.1.2");
  Fd client = lab::socket_in(a.netns_fd(), AF_INET, SOCK_STREAM);
  lab::set_timeout(client, 30s);
  const sockaddr_in name = lab::ipv4("10.9.1.2", 5005);
  auto connected = std::async(std::launch::async, [&] {
    return ::connect(client.get(), lab::generic(name), sizeof(name)) == 0 ? 0 : errno;
  });
  lab::pause(8000);
  need(b.plug());
  need(b.announce());
  const auto plugged = Clock::now();
  EXPECT_EQ(connected.get(), 0) << std::strerror(errno);
  EXPECT_LT(Clock::now() - plugged, 5s);
}

}  // namespace
}  // namespace lifeboat
