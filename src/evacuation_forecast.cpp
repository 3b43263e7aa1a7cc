#include "evacuation_forecast.hpp"

#include <algorithm>

namespace lifeboat::evacuation {
namespace {

// A round is no use that leaves more than this of the one before: what precopy_control.cpp asks of
// the first two, and of those that send only pages that were sent before.
constexpr double kUselessFirst = 0.92;
constexpr double kUselessResent = 0.65;
constexpr unsigned kHybridRounds = 1;

}  // namespace

Forecast forecast(Mode mode, double bytes, double dirty, double rate, const Settings& settings) {
  Forecast out;
  if (mode == Mode::kStopAndCopy) {
    out.bytes_frozen = bytes;
    return out;
  }
  if (mode == Mode::kPostCopy) {
    out.bytes_after = bytes;
    return out;
  }
  const double enough = settings.downtime_budget_s * rate;
  const unsigned most = mode == Mode::kHybrid ? kHybridRounds : settings.rounds_max;
  double rest = bytes;
  while (rest > enough && out.rounds < most) {
    out.bytes_running += rest;
    ++out.rounds;
    const double next = std::min(bytes, rest * dirty / rate);
    const bool useless = next > (out.rounds < 2 ? kUselessFirst : kUselessResent) * rest;
    rest = next;
    if (useless) break;
  }
  out.converges = rest <= enough;
  (mode == Mode::kHybrid ? out.bytes_after : out.bytes_frozen) = rest;
  return out;
}

}  // namespace lifeboat::evacuation
