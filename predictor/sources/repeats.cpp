#include "predictor/sources/repeats.hpp"

#include <algorithm>

namespace lifeboat::predictor {
namespace {

bool may_be_told_twice(const Event& event) {
  switch (event.kind) {
    case EventKind::kCorrectedMemory:
    case EventKind::kUncorrectedMemory:
    case EventKind::kProcessor:
    case EventKind::kBus:
    case EventKind::kTemperature:
      return true;
    case EventKind::kDisk:  // the log and rasdaemon name the sector; SMART has counts of its own
      return !detail(event, "sector").empty();
    case EventKind::kMessage:
    case EventKind::kNetwork:
    case EventKind::kPower:
    case EventKind::kPressure:
    case EventKind::kCheck:
    case EventKind::kHeartbeatLost:
    case EventKind::kDown:
    case EventKind::kRepaired:
      return false;
  }
  return false;
}

std::string name_of(const Event& event) {
  std::string name = event.node + '|' + std::string(to_string(event.kind)) + '|' + event.location;
  if (event.kind == EventKind::kBus) name += '|' + std::string(detail(event, "severity"));
  return name;
}

}  // namespace

bool Repeats::count_once(Event& event) {
  if (!may_be_told_twice(event)) return true;
  const auto settled = [&](const Thing& thing) {
    return std::chrono::abs(event.time - thing.last) > kSettled;
  };
  if (things_.size() >= kThingsMax) {
    std::erase_if(things_, [&](const auto& item) { return settled(item.second); });
    if (things_.size() >= kThingsMax) return true;  // rather twice than not at all
  }
  Thing& thing = things_[name_of(event)];
  if (settled(thing)) thing = {};
  thing.last = std::max(thing.last, event.time);
  std::uint64_t& told = thing.told[event.source];
  // Sums that are about to overflow are garbage, and worth no more than the highest.
  if (event.count > ~std::uint64_t{0} - told) return false;
  told += event.count;
  if (told <= thing.highest) return false;
  event.count = std::min(event.count, told - thing.highest);
  thing.highest = told;
  return true;
}

}  // namespace lifeboat::predictor
