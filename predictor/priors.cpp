#include "predictor/priors.hpp"

#include <array>

namespace lifeboat::predictor {

double prior_of(EventKind kind, Severity severity) {
  //                                   debug   info   notice  warning error  critical fatal
  using Row = std::array<double, 7>;
  static constexpr Row kMessage{       0.0001, 0.0001, 0.0001, 0.0005, 0.002, 0.02, 0.02};
  static constexpr Row kHardware{      0,      0,      0.001,  0.005,  0.02,  0.2,  0.5};
  static constexpr Row kDisk{          0,      0,      0.002,  0.02,   0.05,  0.3,  0.5};
  static constexpr Row kProcessor{     0,      0,      0.001,  0.01,   0.1,   0.4,  0.6};
  static constexpr Row kCheck{         0,      0,      0.01,   0.05,   0.5,   0.7,  0.9};
  static constexpr Row kMemory{        0,      0,      0.001,  0.002,  0.02,  0.3,  0.6};
  static constexpr Row kNothing{};
  const auto row = [kind]() -> const Row& {
    switch (kind) {
      case EventKind::kMessage: return kMessage;
      case EventKind::kCorrectedMemory:
      case EventKind::kUncorrectedMemory: return kMemory;
      case EventKind::kProcessor: return kProcessor;
      case EventKind::kDisk: return kDisk;
      case EventKind::kBus:
      case EventKind::kNetwork:
      case EventKind::kTemperature:
      case EventKind::kPower: return kHardware;
      case EventKind::kCheck: return kCheck;
      case EventKind::kPressure:
      case EventKind::kHeartbeatLost:
      case EventKind::kDown:
      case EventKind::kRepaired: return kNothing;
    }
    return kNothing;
  };
  return row()[static_cast<std::size_t>(severity)];
}

}  // namespace lifeboat::predictor
