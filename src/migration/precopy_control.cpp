// The law in short, after every round:
//
//   1. cheap enough already (the budget) and no round at once saves anything worth it, or a limit (rounds,
//      bytes, deadline): freeze. A closing round takes the wire for as long as it saves, so only its fixed
//      cost and what it costs the job speak against it;
//   2. predict what one more round would leave dirty. The dirty set after a round is what the job
//      writes while the round is sent, so it shrinks at best as the time of sending does;
//   3. freeze when neither the prediction nor the last two rounds show a fall worth the page faults and the
//      processor time that another round costs the job: that is one of the paper's patterns;
//   4. in a steady state, do not freeze at a bad moment: take one no worse than the average;
//   5. before all that, where what an interval finds is sent within it, or within the budget: close with rounds
//      one right after the other, each smaller than the one before, and look for patterns only when they no
//      longer fall.
//
// Khaled Z. Ibrahim, Steven Hofmeyr, Costin Iancu, Eric Roman: "Optimized Pre-Copy Live Migration
// for Memory Intensive Applications", SC 2011. "Line n" below is a line of its Algorithm 2.
#include "migration/precopy_control.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

namespace lifeboat {
namespace {

constexpr double kPage = 4096;

// Measurements of one round jitter by this much on a busy machine.
constexpr double kJitter = 0.3;
// So two of the same thing may differ by this factor.
constexpr double kApart = (1 + kJitter) / (1 - kJitter);

// A fall of the dirty set by less than this is none ("steady state", line 38).
constexpr double kLeastFall = 0.1;
// Line 41. A set that is resent whole may still shrink; only by more than kLeastFallResent a round
// is that worth waiting for, where the paper stops in any case.
constexpr double kResentShare = 0.9;
constexpr double kLeastFallResent = 0.35;
// Rounds of a steady state in which to wait for a moment that is not worse than average.
constexpr unsigned kSteadyRoundsMax = 5;
constexpr double kNotWorse = 1.05;

// Pages are held back from this share of pages found again, beyond what chance explains.
constexpr double kHotShare = 0.5;

// Share of the job's time that tracking may take before waits get longer, if that helps at all.
constexpr double kTrackingShare = 0.1;
constexpr double kStretchMax = 4;

// A round's fixed cost (acknowledgement, threads) is no more than this, whatever a regression says.
constexpr double kFixedMax = 0.05;
constexpr std::size_t kRegressionRounds = 8;
// Without any measured or nominal rate: 1 Gb/s.
constexpr double kRateUnknown = 1.18e8;

// What no fabric has, nor any round takes: a broken clock, a division by next to nothing.
constexpr double kRateLeast = 1e3;
constexpr double kRateMost = 1e13;
constexpr double kMost = 1e9;

double number(double value) {
  return std::isnan(value) || value <= 0 ? 0 : std::min(value, kMost);
}

bool is_rate(double value) { return value >= kRateLeast && value <= kRateMost; }

// ------------------------------------------------------------------------------------- reading

// A round with what would break the arithmetic taken out.
struct Round {
  explicit Round(const RoundMeasurement& m)
      : started(number(m.started_s)),
        scan(number(m.scan_s)),
        send(number(m.send_s)),
        exposed(number(m.exposed_s)),
        ran(std::min(number(m.ran_s), send)),
        waited(std::min(number(m.waited_s), send)),
        found(static_cast<double>(m.pages_found)),
        sent(static_cast<double>(m.pages_sent)),
        resent(static_cast<double>(std::min(m.pages_resent, m.pages_sent))),
        held(static_cast<double>(m.pages_held_back)),
        wire(static_cast<double>(m.bytes_on_wire)),
        dirty(static_cast<double>(m.pages_dirty_after)),
        untracked(static_cast<double>(std::min(m.pages_untracked, m.pages_dirty_after))) {}

  [[nodiscard]] double time() const { return scan + send; }
  // Pages per second that the job wrote, as far as was seen: of those held back nothing was.
  [[nodiscard]] double dirtying() const {
    const double seen = exposed > 0 ? std::min(exposed, time()) : time();
    return seen > 0 ? std::max(0.0, dirty - untracked - held) / seen : 0;
  }

  double started, scan, send, exposed, ran, waited, found, sent, resent, held, wire, dirty, untracked;
};

// Round 1 has pages that cost nothing to send (zeros), written pages are what counts later.
double payload_of(const std::vector<Round>& rounds, std::size_t i) {
  const Round& r = rounds[i];
  return i == 0 && r.wire > 0 ? std::min(r.wire, r.sent * kPage) : r.sent * kPage;
}

// Something per something else of the rounds: sums that decay by 3/4 a round (line 37's filter), so that a round of a
// few pages, all latency, does not outweigh a long one. 0: there is nothing.
template <class Above, class Below>
double decaying(const std::vector<Round>& rounds, Above above, Below below) {
  double sum_above = 0, sum_below = 0;
  for (std::size_t i = 0; i < rounds.size(); ++i) {
    if (payload_of(rounds, i) <= 0 || rounds[i].send <= 0) continue;
    sum_above = sum_above / 4 + above(i);
    sum_below = sum_below / 4 + below(i);
  }
  return sum_below > 0 ? sum_above / sum_below : 0;
}

// Bytes of memory sent per second.
double send_rate(const std::vector<Round>& rounds, const PrecopyLimits& limits) {
  const double measured = decaying(
      rounds, [&](std::size_t i) { return payload_of(rounds, i); }, [&](std::size_t i) { return rounds[i].send; });
  if (is_rate(measured)) return measured;
  return is_rate(limits.rate_bytes_per_s) ? limits.rate_bytes_per_s : kRateUnknown;
}

// The same while the container is frozen, and no connection has to wait for a processor that the job has.
double frozen_rate(const std::vector<Round>& rounds, const PrecopyLimits& limits) {
  const auto seconds = [&](std::size_t i) {
    const Round& r = rounds[i];
    const double wire = is_rate(limits.rate_bytes_per_s) ? payload_of(rounds, i) / limits.rate_bytes_per_s : r.send;
    return std::max(r.send - r.waited, std::min(wire, r.send));
  };
  const double measured = decaying(rounds, [&](std::size_t i) { return payload_of(rounds, i); }, seconds);
  return is_rate(measured) ? measured : send_rate(rounds, limits);
}

// What the job loses for each page that is sent, beside its page fault: where a connection waits for a processor, it
// keeps the job from one for as long as it runs. (The target's processors are not counted.)
double processor_cost_s(const std::vector<Round>& rounds) {
  return decaying(
      rounds, [&](std::size_t i) { return std::min(rounds[i].ran, rounds[i].waited); },
      [&](std::size_t i) { return payload_of(rounds, i) / kPage; });
}

// Seconds to send so many pages: fixed + per_page * pages.
struct SendTime {
  double fixed = 0;
  double per_page = 0;

  [[nodiscard]] double of(double pages) const { return pages > 0 ? fixed + per_page * pages : 0; }
};

// Lines 25 to 27: linear regression of time over pages. Jitter is a share of what is measured, so
// each round weighs by its relative error: with equal weights round 1 alone would decide. With
// fewer than three rounds, and where jitter makes the fixed part absurd, a line through the origin.
SendTime regression(const std::vector<Round>& rounds, double rate) {
  const double latency_pages = rate * kFixedMax / kPage;  // fewer say more of latency than of rate
  double n = 0, w = 0, x = 0, y = 0, xx = 0, xy = 0;
  double least = kFixedMax;
  const std::size_t first = rounds.size() - std::min(rounds.size(), kRegressionRounds);
  for (std::size_t i = first; i < rounds.size(); ++i) {
    const Round& r = rounds[i];
    if (r.sent <= 0 || r.send <= 0) continue;
    const double error = std::max(r.sent, latency_pages);
    const double weight = 1 / (error * error);
    n += 1, w += weight, x += weight * r.sent, y += weight * r.send;
    xx += weight * r.sent * r.sent, xy += weight * r.sent * r.send;
    least = std::min(least, r.send);
  }
  SendTime line{0, kPage / rate};
  if (n < 1) return line;
  if (is_rate(kPage / (xy / xx))) line.per_page = xy / xx;
  const double spread = w * xx - x * x;
  if (n < 3 || spread <= 1e-9 * w * xx) return line;
  const double slope = (w * xy - x * y) / spread;
  const double fixed = std::clamp((y - slope * x) / w, 0.0, least);
  const double per_page = (xy - fixed * x) / xx;  // the best slope for this `fixed`
  if (is_rate(kPage / per_page)) line = SendTime{fixed, per_page};
  return line;
}

// --------------------------------------------------------------------------------------- texts

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

std::string mib(double pages) { return format("%.1f MiB", pages * kPage / (1 << 20)); }
std::string time(double seconds) {
  return seconds < 10 ? format(seconds < 0.01 ? "%.1f ms" : "%.0f ms", seconds * 1e3)
                      : format("%.1f s", seconds);
}
std::string rate(double bytes_per_s) { return format("%.0f MB/s", bytes_per_s / 1e6); }
std::string percent(double share) { return format("%.0f %%", share * 100); }

// ----------------------------------------------------------------------------------- prediction

// Pages collected in a round for each that was found when it began: the others are written until their turn
// comes, as many as it lasts long. At best, after round 1, which found all there was: none.
double along(const std::vector<Round>& rounds) {
  const Round& last = rounds.back();
  return rounds.size() > 1 && last.found > 0 ? std::max(1.0, (last.sent + last.held) / last.found) : 1;
}

// At worst: half of what the job writes meanwhile comes before its turn.
double along_at_worst(const std::vector<Round>& rounds, const SendTime& send_time) {
  constexpr double kMostOfWire = 0.9;
  if (rounds.size() > 1) return along(rounds);
  return 1 / (1 - std::min(kMostOfWire, rounds.back().dirtying() * send_time.per_page / 2));
}

struct Forecast {
  double wait = 0;       // before the next scan
  double found = 0;      // by it
  double hot_share = 0;  // of those, to be held back if `hold_back`
  bool hold_back = false;
  double sent = 0;       // pages, at worst: of these and of those written until their turn comes
  double send = 0;       // seconds
  double quotient = 1;   // dirty after it / dirty now, at best
};

// How many pages the job writes per second once it has written for as long as the last round took:
// less than at first if it writes the same pages again.
double growth(const std::vector<Round>& rounds) {
  const Round& last = rounds.back();
  const double early = last.dirtying();
  if (rounds.size() < 2) return early;
  const double interval = last.started - rounds[rounds.size() - 2].started;
  if (interval <= last.time()) return early;
  return std::clamp((last.found - last.dirty) / (interval - last.time()), 0.0, early);
}

// Pages found in two rounds running: sent again, or not sent because of that.
double again_share(const Round& r) {
  const double all = r.sent + r.held;
  return all > 0 ? std::min(1.0, (r.resent + r.held) / all) : 0;
}

Forecast forecast(const std::vector<Round>& rounds, double pages, const PrecopyLimits& limits,
                  const SendTime& send_time) {
  const Round& last = rounds.back();
  Forecast next;
  // The interval from scan to scan is constant, as in lines 29 to 36, but by waiting: the paper
  // limits how much is sent, and here the scan has protected all it found, so it is sent.
  const double later = growth(rounds);
  double interval = number(limits.interval_s);
  const double early = last.dirtying();
  const double faults = last.dirty * number(limits.page_fault_cost_s);
  if (later < early / 2 && faults > interval * kTrackingShare) {
    // The same pages again and again: waiting longer makes fewer faults and hardly more pages.
    interval = std::min(faults / kTrackingShare, interval * kStretchMax);
  }
  next.wait = std::max(0.0, interval - last.time());
  next.found = std::min(last.dirty + later * next.wait, std::max(pages, last.dirty));

  if (rounds.size() >= 3) {
    // Of pages written at random, as many are found again as the round before found of all.
    const double chance = pages > 0 ? std::min(1.0, rounds[rounds.size() - 2].found / pages) : 1;
    const double again = again_share(last);
    const double beyond = chance < 1 ? (again - chance) / (1 - chance) : 0;
    next.hold_back = last.held > 0 || beyond >= kHotShare;
    next.hot_share = next.hold_back ? again : 0;
  }
  const double all = std::max(pages, last.dirty);
  next.sent = std::min(next.found * along_at_worst(rounds, send_time), all) * (1 - next.hot_share);
  next.send = send_time.of(std::min(next.found * along(rounds), all) * (1 - next.hot_share));
  if (last.dirty <= 0) return next;
  // Dirty after a round: what is held back, and what the job writes while it is sent. A set of
  // written pages grows with time ever slower, so this is the best that can come.
  const double held = std::min(last.dirty, std::max(last.held, next.found * next.hot_share));
  const double shorter = last.time() > 0 ? (last.scan + next.send) / last.time() : 1;
  next.quotient = (held + (last.dirty - held) * shorter) / last.dirty;
  return next;
}

// The longest the next round may take if the wire turns out as bad as jitter can make it.
double longest_s(const std::vector<Round>& rounds, const Forecast& next, double rate_now) {
  double slowest = rate_now, fastest = rate_now;
  double scan = 0;
  for (const Round& r : rounds) {
    scan = std::max(scan, r.scan);
    if (r.sent * kPage < rate_now * kFixedMax || r.send <= 0) continue;  // latency, not rate
    slowest = std::min(slowest, r.sent * kPage / r.send);
    fastest = std::max(fastest, r.sent * kPage / r.send);
  }
  slowest = std::min(slowest, fastest / kApart);
  const double sent = next.sent * (next.wait > 0 || next.sent > next.found ? 1 + kJitter : 1);
  return next.wait + scan + kFixedMax / 5 + sent * kPage / slowest;
}

// Rounds that began further apart than this share of the interval kept it.
constexpr double kInterval = 0.95;

// A closing round is not made for less: looking at the page tables and waiting for the last acknowledgement take
// about as long, however few pages it sends.
constexpr double kLeastSaved = 0.005;

// How many rounds at the end began right after the one before, to close: all others keep the interval.
std::size_t closing_rounds(const std::vector<Round>& rounds, const PrecopyLimits& limits) {
  std::size_t closing = 0;
  for (std::size_t i = rounds.size(); i-- > 1; ++closing) {
    if (rounds[i].started - rounds[i - 1].started >= number(limits.interval_s) * kInterval) break;
  }
  return closing;
}

// One more round without a pause: dirty after it / dirty now, at best.
double closing_quotient(const std::vector<Round>& rounds, const SendTime& send_time) {
  const Round& last = rounds.back();
  return last.time() > 0 ? (last.scan + send_time.of(last.dirty * along(rounds))) / last.time() : 1;
}

// The average dirty set over the rounds at the end that differ by no more than jitter; how many.
struct Steady {
  double average = 0;
  unsigned rounds = 0;
};

Steady steady_end(const std::vector<Round>& rounds) {
  const double now = rounds.back().dirty;
  Steady steady;
  for (auto r = rounds.rbegin(); r != rounds.rend(); ++r) {
    if (r->dirty > now * kApart || r->dirty * kApart < now) break;
    steady.average += r->dirty;
    ++steady.rounds;
  }
  steady.average /= steady.rounds;
  return steady;
}

const char* meaning(PrecopyPattern pattern) {
  switch (pattern) {
    case PrecopyPattern::kNone: return "";
    case PrecopyPattern::kA: return "the dirty set is stable";
    case PrecopyPattern::kB: return "one interval drains all";
    case PrecopyPattern::kC: return "the same pages are sent again and again";
  }
  return "";
}

}  // namespace

const char* to_string(PrecopyPattern pattern) {
  switch (pattern) {
    case PrecopyPattern::kNone: return "none";
    case PrecopyPattern::kA: return "a";
    case PrecopyPattern::kB: return "b";
    case PrecopyPattern::kC: return "c";
  }
  return "none";
}

PrecopyDecision decide(const std::vector<RoundMeasurement>& measured, std::uint64_t memory_bytes,
                       const PrecopyLimits& limits) {
  PrecopyDecision decision;
  if (measured.empty()) {
    decision.reason = "nothing sent yet: first round";
    return decision;
  }
  std::vector<Round> rounds;
  rounds.reserve(measured.size());
  double wire = 0;
  for (const RoundMeasurement& m : measured) {
    rounds.emplace_back(m);
    wire += rounds.back().wire;
    const double dirtying = rounds.back().dirtying() * kPage;
    decision.dirty_bytes_per_s =
        rounds.size() == 1 ? dirtying : (decision.dirty_bytes_per_s + dirtying) / 2;
  }
  const Round& last = rounds.back();
  // What the container says it has and what round 1 found may differ by what was mapped since.
  const double memory = std::max(static_cast<double>(memory_bytes), rounds.front().found * kPage);
  const double rate_now = send_rate(rounds, limits);
  const SendTime send_time = regression(rounds, rate_now);
  const Forecast next = forecast(rounds, memory / kPage, limits, send_time);

  const double rate_frozen = frozen_rate(rounds, limits);
  const double per_page = processor_cost_s(rounds);
  decision.send_bytes_per_s = rate_now;
  decision.expected_downtime_s = last.dirty * kPage / rate_frozen;
  decision.next_downtime_s = decision.expected_downtime_s * next.quotient;
  const std::string state = "dirty " + mib(last.dirty) + ", " +
                            time(decision.expected_downtime_s) + " at " + rate(rate_frozen);

  const auto freeze = [&](PrecopyPattern pattern, const std::string& why) {
    decision.freeze = true;
    decision.pattern = pattern;
    decision.reason = state + why;
    return decision;
  };
  const auto another = [&](PrecopyPattern pattern, const std::string& why) {
    decision.pattern = pattern;
    decision.wait_s = next.wait;
    decision.hold_back_hot = next.hold_back;
    decision.reason = state + why + ": another round" +
                      (next.wait > 0 ? " in " + time(next.wait) : "") +
                      (next.hold_back ? ", without the " + percent(next.hot_share) + " hot" : "");
    return decision;
  };

  // 5. Whether rounds that close are worth what they cost the job.
  const double at_once = closing_quotient(rounds, send_time);
  const double saved_at_once = decision.expected_downtime_s * (1 - at_once);
  const bool may_close = limits.patterns && last.untracked <= 0 && at_once < 1 - kLeastFall &&
                         saved_at_once > last.dirty * (number(limits.page_fault_cost_s) + along(rounds) * per_page);
  const std::size_t closing = closing_rounds(rounds, limits);
  const double before = rounds.size() > 1 ? rounds[rounds.size() - 2].dirty : 0;
  const bool closes = closing == 0 || last.dirty < before * (1 - kLeastFall);

  // 1. The budget and the limits.
  const double budget = number(limits.downtime_budget_s);
  const bool enough = decision.expected_downtime_s <= budget;
  const std::string within = " <= budget " + time(budget);
  if (last.dirty <= 0 || (enough && !(may_close && closes && saved_at_once >= kLeastSaved))) {
    return freeze(PrecopyPattern::kNone, within + ": freeze");
  }
  const std::string over = enough ? within + "; " : " > budget " + time(budget) + "; ";
  if (measured.size() >= limits.rounds_max) {
    return freeze(PrecopyPattern::kNone,
                  over + "all " + std::to_string(limits.rounds_max) + " rounds made: freeze");
  }
  const double bytes_max = number(limits.bytes_max_factor) * memory;
  const double bytes_next = next.sent * kPage;
  if (wire + bytes_next > bytes_max) {
    return freeze(PrecopyPattern::kNone,
                  over + mib(wire / kPage) + " sent, with " + mib(bytes_next / kPage) +
                      " more it would be over " + mib(bytes_max / kPage) + ": freeze");
  }
  const double now = last.started + last.time();
  const double longest = longest_s(rounds, next, rate_now);
  if (limits.deadline_s > 0 && now + longest > limits.deadline_s) {
    return freeze(PrecopyPattern::kNone, over + "another round could take " + time(longest) +
                                             ", the deadline is in " +
                                             time(std::max(0.0, limits.deadline_s - now)) +
                                             ": freeze");
  }

  if (last.untracked > 0) {
    return another(PrecopyPattern::kNone, over + mib(last.untracked) + " of it could not be tracked yet");
  }
  if (!limits.patterns) return another(PrecopyPattern::kNone, over + "patterns are not looked for");

  const auto close = [&](const std::string& why) {
    decision.pattern = PrecopyPattern::kB;
    decision.reason = state + over + why + ": another round at once, to " + percent(at_once) + " at best";
    return decision;
  };
  const bool drained = last.time() < number(limits.interval_s);
  const std::string drains = time(last.time()) + " of " + time(limits.interval_s);
  if (closing > 0) {
    const std::string change = "closed by " + std::to_string(closing) + " rounds, the last to " +
                               percent(before > 0 ? last.dirty / before : 1);
    if (!closes || !may_close) return freeze(PrecopyPattern::kB, over + change + ": freeze");
    return close(change);
  }
  if (may_close && (drained || enough)) {
    return close(drained ? std::string(meaning(PrecopyPattern::kB)) + " (" + drains + ")"
                         : "it can be had shorter");
  }

  // 2. The patterns. What a round has left against the one before is noisy (a slow wire makes a
  // large dirty set), the forecast averages over rounds: only both together show a steady state.
  const double measured_quotient =
      rounds.size() >= 2 && rounds[rounds.size() - 2].dirty > 0
          ? last.dirty / rounds[rounds.size() - 2].dirty
          : next.quotient;
  const double quotient = std::min(next.quotient, measured_quotient);
  const double again = rounds.size() >= 3 ? again_share(last) : 0;
  const bool resent = again >= kResentShare && quotient > 1 - kLeastFallResent;
  const PrecopyPattern pattern = resent    ? PrecopyPattern::kC
                                 : drained ? PrecopyPattern::kB
                                           : PrecopyPattern::kA;

  // 3. What another round costs the job and what it may save. With one sample of a steady state the
  // next one may still be better, by jitter.
  const double cost = next.found * number(limits.page_fault_cost_s) + next.sent * per_page;
  const double may_fall = std::max(1 - next.quotient, quotient < 1 - kLeastFall ? kJitter / 2 : 0);
  const double saves = decision.expected_downtime_s * may_fall;
  const bool steady = resent || quotient >= 1 - kLeastFall;
  if (!steady) {
    if (saves > cost) {
      // Not 1 - quotient: it may be of the round before, which the forecast contradicts.
      const bool falls = next.quotient < 1 - kLeastFall;
      return another(PrecopyPattern::kNone,
                     over + (falls ? "expected to fall by " + percent(1 - next.quotient)
                                   : "fell by " + percent(1 - measured_quotient) +
                                         ", not expected to fall further, to be confirmed"));
    }
    return freeze(pattern, over + "another round costs the job " + time(cost) +
                               " of page faults and processors to save " + time(saves) + ": freeze");
  }

  // 4. A good moment.
  const Steady end = steady_end(rounds);
  const double above = (last.dirty - end.average) * kPage / rate_frozen;
  if (end.rounds > 1 && end.rounds < kSteadyRoundsMax && last.dirty > end.average * kNotWorse &&
      above > cost) {
    return another(pattern, over + meaning(pattern) + ", but is " +
                                percent(last.dirty / end.average - 1) + " above the average of " +
                                std::to_string(end.rounds) + " rounds");
  }
  std::string numbers = resent ? percent(again) + " again"
                        : drained
                            ? drains
                            : (quotient > 1 ? "grows by " + percent(quotient - 1)
                                            : "falls by only " + percent(1 - quotient));
  return freeze(pattern, over + meaning(pattern) + " (" + numbers + "): freeze");
}

bool goes_first(double now_s, double send_s, const PrecopyLimits& limits) {
  // Beside ranks that poll on every processor a round that takes turns lasted a third longer; that and a
  // wire that is slower than expected, twice over.
  constexpr double kLonger = 3;
  return limits.deadline_s > 0 && number(now_s) + kLonger * number(send_s) > limits.deadline_s;
}

// ---------------------------------------------------------------------------------------- JSON

json::object to_json(const RoundMeasurement& round) {
  return {{"round", round.round},
          {"started_s", round.started_s},
          {"scan_s", round.scan_s},
          {"send_s", round.send_s},
          {"exposed_s", round.exposed_s},
          {"ran_s", round.ran_s},
          {"waited_s", round.waited_s},
          {"pages_found", round.pages_found},
          {"pages_sent", round.pages_sent},
          {"pages_resent", round.pages_resent},
          {"pages_held_back", round.pages_held_back},
          {"bytes_on_wire", round.bytes_on_wire},
          {"pages_dirty_after", round.pages_dirty_after},
          {"pages_untracked", round.pages_untracked}};
}

json::object to_json(const PrecopyDecision& decision) {
  return {{"freeze", decision.freeze},
          {"reason", decision.reason},
          {"pattern", to_string(decision.pattern)},
          {"wait_s", decision.wait_s},
          {"hold_back_hot", decision.hold_back_hot},
          {"expected_downtime_s", decision.expected_downtime_s},
          {"next_downtime_s", decision.next_downtime_s},
          {"dirty_bytes_per_s", decision.dirty_bytes_per_s},
          {"send_bytes_per_s", decision.send_bytes_per_s}};
}

json::object to_json(const PrecopyLimits& limits) {
  return {{"downtime_budget_s", limits.downtime_budget_s},
          {"deadline_s", limits.deadline_s},
          {"rounds_max", limits.rounds_max},
          {"bytes_max_factor", limits.bytes_max_factor},
          {"interval_s", limits.interval_s},
          {"rate_bytes_per_s", limits.rate_bytes_per_s},
          {"page_fault_cost_s", limits.page_fault_cost_s},
          {"patterns", limits.patterns}};
}

namespace {

Result<double> get_measure(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  boost::system::error_code error;
  const double found = value != nullptr ? value->to_number<double>(error) : -1;
  if (error || !std::isfinite(found) || found < 0) {
    return fail(Errc::kProtocol,
                "member '" + std::string(key) + "' is missing or not a number from 0 on");
  }
  return found;
}

Result<unsigned> get_count(const json::object& object, const char* key) {
  TRY(const std::uint64_t count, get_u64(object, key));
  if (count > std::numeric_limits<unsigned>::max()) {
    return fail(Errc::kProtocol, "member '" + std::string(key) + "' is too large");
  }
  return static_cast<unsigned>(count);
}

}  // namespace

Result<RoundMeasurement> round_measurement_from(const json::object& object) {
  RoundMeasurement round;
  TRY(round.round, get_count(object, "round"));
  TRY(round.started_s, get_measure(object, "started_s"));
  TRY(round.scan_s, get_measure(object, "scan_s"));
  TRY(round.send_s, get_measure(object, "send_s"));
  for (const auto& [key, target] : {std::pair{"exposed_s", &round.exposed_s}, {"ran_s", &round.ran_s},
                                    {"waited_s", &round.waited_s}}) {
    if (!object.contains(key)) continue;
    TRY(*target, get_measure(object, key));
  }
  TRY(round.pages_found, get_u64(object, "pages_found"));
  TRY(round.pages_sent, get_u64(object, "pages_sent"));
  TRY(round.pages_resent, get_u64(object, "pages_resent"));
  TRY(round.pages_held_back, get_u64(object, "pages_held_back"));
  TRY(round.bytes_on_wire, get_u64(object, "bytes_on_wire"));
  TRY(round.pages_dirty_after, get_u64(object, "pages_dirty_after"));
  if (object.contains("pages_untracked")) {
    TRY(round.pages_untracked, get_u64(object, "pages_untracked"));
  }
  return round;
}

Result<PrecopyLimits> precopy_limits_from(const json::object& object) {
  PrecopyLimits limits;
  const std::pair<const char*, double*> measures[] = {
      {"downtime_budget_s", &limits.downtime_budget_s},
      {"deadline_s", &limits.deadline_s},
      {"bytes_max_factor", &limits.bytes_max_factor},
      {"interval_s", &limits.interval_s},
      {"rate_bytes_per_s", &limits.rate_bytes_per_s},
      {"page_fault_cost_s", &limits.page_fault_cost_s}};
  for (const auto& [key, target] : measures) {
    if (!object.contains(key)) continue;
    TRY(*target, get_measure(object, key));
  }
  if (object.contains("rounds_max")) {
    TRY(limits.rounds_max, get_count(object, "rounds_max"));
  }
  if (const json::value* patterns = object.if_contains("patterns")) {
    if (!patterns->is_bool()) return fail(Errc::kProtocol, "member 'patterns' is not true or false");
    limits.patterns = patterns->as_bool();
  }
  return limits;
}

}  // namespace lifeboat
