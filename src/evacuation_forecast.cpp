#include "evacuation_forecast.hpp"

#include <algorithm>

namespace lifeboat::evacuation {
namespace {

// A round that leaves more than this part of the one before does not help (Ibrahim 2011, pattern c).
constexpr double kUselessRound = 0.9;
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
    const bool useless = next > kUselessRound * rest;
    rest = next;
    if (useless) break;
  }
  out.converges = rest <= enough;
  (mode == Mode::kHybrid ? out.bytes_after : out.bytes_frozen) = rest;
  return out;
}

}  // namespace lifeboat::evacuation
