#include "migration/precopy_forecast.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace lifeboat {

namespace {

constexpr double kPage = 4096;

// `pages` of the memory are written at random, `per_s` times a second.
struct Writer {
  double pages = 0;
  double per_s = 0;

  // Different ones within `seconds`, of `among` of them.
  [[nodiscard]] double written(double seconds, double among) const {
    return pages > 0 ? among * -std::expm1(-per_s * seconds / pages) : 0;
  }
  // Of `sent` pages, sent evenly over `seconds`: written again by the end.
  [[nodiscard]] double written_again(double seconds, double sent) const {
    const double times = pages > 0 ? per_s * seconds / pages : 0;
    return times > 1e-9 ? sent * (1 + std::expm1(-times) / times) : 0;
  }
};

// late / early = (1 - exp(-x * ratio)) / (1 - exp(-x)) falls with x = per_s * early_s / pages.
Writer writer_of(const WriteSample& sample, double memory_pages) {
  const auto early = static_cast<double>(sample.early_pages);
  const double late = std::max(early, static_cast<double>(sample.late_pages));
  if (late <= 0 || sample.early_s <= 0 || sample.late_s <= sample.early_s) return {};
  const double ratio = sample.late_s / sample.early_s;
  double low = 1e-6, high = 30;
  for (int i = 0; i < 60; ++i) {
    const double x = std::sqrt(low * high);
    (std::expm1(-x * ratio) / std::expm1(-x) * early > late ? low : high) = x;
  }
  Writer writer;
  writer.pages = std::clamp(late / -std::expm1(-low * ratio), late, std::max(late, memory_pages));
  const double share = std::min(late / writer.pages, 1 - 1e-9);
  // Where the later count says that all of it was written, only the early one says how fast.
  const double early_share = std::min(early / writer.pages, 1 - 1e-9);
  writer.per_s = std::max(-std::log1p(-early_share) / sample.early_s,
                          share < 0.9 ? -std::log1p(-share) / sample.late_s : 0) * writer.pages;
  return writer;
}

}  // namespace

PrecopyForecast forecast_rounds(const WriteSample& sample, std::uint64_t memory_bytes,
                                const PrecopyLimits& limits) {
  const double memory = std::ceil(static_cast<double>(memory_bytes) / kPage);
  const Writer writer = writer_of(sample, memory);
  const double rate = std::max(1.0, limits.rate_bytes_per_s / kPage);
  PrecopyForecast out;
  std::vector<RoundMeasurement> rounds;
  double found = memory, sent_before = 0, now = 0;
  do {
    RoundMeasurement round;
    round.round = static_cast<unsigned>(rounds.size()) + 1;
    round.started_s = now;
    // Clean pages that are written meanwhile: half of them before their turn, and are sent along.
    const double clean = rounds.empty() ? 0 : std::max(0.0, writer.pages - found);
    double sent = found;
    for (int i = 0; i < 20; ++i) sent = found + writer.written(sent / rate, clean) / 2;
    const double seconds = sent / rate;
    const double hot = std::min(sent, rounds.empty() ? writer.pages : sent);
    const double dirty = writer.written_again(seconds, hot) + writer.written(seconds, clean) / 2;
    round.send_s = seconds;
    round.exposed_s = seconds / 2;
    round.pages_found = static_cast<std::uint64_t>(found);
    round.pages_sent = static_cast<std::uint64_t>(sent);
    if (rounds.size() >= 2) {
      round.pages_resent = static_cast<std::uint64_t>(sent * std::min(1.0, sent_before / writer.pages));
    }
    round.bytes_on_wire = static_cast<std::uint64_t>(sent * kPage);
    round.pages_dirty_after = static_cast<std::uint64_t>(dirty);
    rounds.push_back(round);
    out.bytes += round.bytes_on_wire;
    out.last = decide(rounds, memory_bytes, limits);
    now += seconds;
    out.rounds_s = now;
    now += out.last.wait_s;
    found = dirty + writer.written(out.last.wait_s, std::max(0.0, writer.pages - dirty));
    sent_before = sent;
  } while (!out.last.freeze && rounds.size() < limits.rounds_max);
  out.rounds = static_cast<unsigned>(rounds.size());
  return out;
}

}  // namespace lifeboat
