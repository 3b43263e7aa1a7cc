#include "migration/hold.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <system_error>
#include <thread>

#include "base/little_endian.hpp"
#include "base/netns.hpp"
#include "migration/protocol.hpp"

namespace lifeboat {
namespace {

constexpr const char* kNames = "lbhold%d";  // the kernel counts
constexpr std::size_t kEthernetBytes = 14;
constexpr std::size_t kFrameBytesMax = 65535;
constexpr std::size_t kEntryBytes = 4;
static_assert(kEntryBytes + kFrameBytesMax <= protocol::kDataBytesMax);

}  // namespace

void HeldFrames::add(std::uint16_t port, std::span<const unsigned char> bytes) {
  if (bytes.size() < kEthernetBytes || bytes.size() > kFrameBytesMax ||
      bytes_ + bytes.size() > kHeldBytesMax) {
    ++dropped_;
    return;
  }
  frames_.push_back({port, {bytes.begin(), bytes.end()}});
  bytes_ += bytes.size();
}

std::vector<std::vector<unsigned char>> HeldFrames::encode(std::size_t first) const {
  std::vector<std::vector<unsigned char>> payloads;
  for (std::size_t i = first; i < frames_.size(); ++i) {
    const Frame& frame = frames_[i];
    const std::size_t needed = kEntryBytes + frame.bytes.size();
    if (payloads.empty() || payloads.back().size() + needed > protocol::kDataBytesMax) {
      payloads.emplace_back();
    }
    std::vector<unsigned char>& payload = payloads.back();
    const std::size_t at = payload.size();
    payload.resize(at + needed);
    put_le<std::uint16_t>(payload.data() + at, frame.port);
    put_le<std::uint16_t>(payload.data() + at + 2, static_cast<std::uint16_t>(frame.bytes.size()));
    std::copy(frame.bytes.begin(), frame.bytes.end(), payload.data() + at + kEntryBytes);
  }
  return payloads;
}

Status HeldFrames::decode(std::span<const unsigned char> payload) {
  while (!payload.empty()) {
    if (payload.size() < kEntryBytes) return fail(Errc::kProtocol, "held frames: cut off");
    const auto port = get_le<std::uint16_t>(payload.data());
    const std::size_t size = get_le<std::uint16_t>(payload.data() + 2);
    payload = payload.subspan(kEntryBytes);
    if (size < kEthernetBytes || size > payload.size()) {
      return fail(Errc::kProtocol, "held frames: one of " + std::to_string(size) + " bytes");
    }
    add(port, payload.first(size));
    payload = payload.subspan(size);
  }
  return {};
}

Result<HoldDevice> HoldDevice::create(Netlink& node) {
  HoldDevice device;
  device.fd_ = Fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!device.fd_) return fail_errno("open /dev/net/tun");
  ifreq request{};
  std::copy_n(kNames, std::char_traits<char>::length(kNames), request.ifr_name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(device.fd_.get(), TUNSETIFF, &request) != 0) {
    return fail_errno("make a tap device to hold frames in");
  }
  const std::string name = request.ifr_name;
  Status quiet = write_sysctl("net/ipv6/conf/" + name + "/disable_ipv6", "1");
  if (!quiet && quiet.error().code != Errc::kNotFound) return tl::unexpected<Error>(quiet.error());
  TRY(const NetDevice link, node.link(name));
  device.link_index_ = link.index;
  const auto mac = parse_mac(link.mac);
  if (mac) std::copy_n(mac->begin(), std::min(mac->size(), device.mac_.size()), device.mac_.begin());
  CHECK_OK(node.set_up(link.index));
  return device;
}

HoldDevice::~HoldDevice() {
  if (!fd_) return;
  try {
    std::thread([fd = std::move(fd_)] {}).detach();
  } catch (const std::system_error&) {
    // No thread to be had: the descriptor was closed here.
  }
}

void HoldDevice::collect(std::uint16_t port, HeldFrames& into) {
  std::array<unsigned char, kFrameBytesMax + kEthernetBytes> buffer;
  for (;;) {
    const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
    if (got <= 0) return;
    const auto frame = std::span(buffer).first(static_cast<std::size_t>(got));
    const bool own = frame.size() >= kEthernetBytes &&
                     std::equal(mac_.begin(), mac_.end(), frame.subspan(mac_.size()).begin());
    if (!own) into.add(port, frame);
  }
}

std::uint64_t HoldDevice::dropped(Netlink& node) const {
  const auto link = node.link(link_index_);
  return link ? link->tx_dropped : 0;
}

}  // namespace lifeboat
