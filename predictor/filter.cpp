#include "predictor/filter.hpp"

#include <algorithm>
#include <cmath>

namespace lifeboat::predictor {

using namespace std::chrono_literals;

TemporalFilter::TemporalFilter(const FilterConfig& config)
    : config_(config), entries_(config.temporal ? kEntries : 0) {}

bool TemporalFilter::repeated(std::uint32_t node, std::string_view location,
                              std::uint64_t template_hash, Time now) {
  if (!config_.temporal) return false;
  std::uint64_t key = (template_hash ^ node) * 0x9e3779b97f4a7c15;
  for (const char c : location) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  key ^= key >> 32;
  if (key == 0) key = 1;
  const auto from = entries_.begin() +
                    static_cast<std::ptrdiff_t>(key % (kEntries / kWays) * kWays);
  auto entry = std::find_if(from, from + kWays, [&](const Entry& e) { return e.key == key; });
  if (entry != from + kWays && now - entry->last <= config_.gap &&
      now - entry->first <= config_.length_max) {
    entry->last = now;
    return true;
  }
  if (entry == from + kWays) {
    entry = std::min_element(from, from + kWays,
                             [](const Entry& a, const Entry& b) { return a.last < b.last; });
  }
  *entry = {key, now, now};
  return false;
}

double correlation(const Keywords& a, const Keywords& b) {
  const auto both = static_cast<double>(a.common(b));
  const auto in_a = static_cast<double>(a.count());
  const auto in_b = static_cast<double>(b.count());
  const auto all = static_cast<double>(Keywords::kBits);
  const double scale = std::sqrt(in_a * in_b * (all - in_a) * (all - in_b));
  if (scale == 0) return 0;  // nothing to compare
  return (both * all - in_a * in_b) / scale;
}

double semantic_threshold(Duration gap) {
  if (gap < 1min) return 0;
  if (gap < 1h) return 0.7;
  if (gap < 10h) return 0.8;
  if (gap < 20h) return 0.9;
  return 1.01;  // nothing
}

bool redundant(SaidLately& lately, const Keywords& words, std::uint64_t template_hash,
               Severity severity, Time now) {
  for (Said& said : lately.records) {
    if (said.template_hash == 0 || said.template_hash == template_hash) continue;
    if (severity > said.severity) continue;
    const double threshold = semantic_threshold(now - said.time);
    if (threshold < 1 && correlation(words, said.words) > threshold) return true;
  }
  for (Said& said : lately.records) {
    if (said.template_hash != template_hash) continue;
    said.time = now;
    said.severity = severity;
    return false;
  }
  lately.records[lately.next] = {words, now, template_hash, severity};
  lately.next = (lately.next + 1) % lately.records.size();
  return false;
}

bool facility_wide(const FilterConfig& config, Cluster& cluster, std::uint32_t node, Time now) {
  if (!config.facility) return false;
  if (now - cluster.last > config.gap || now - cluster.first > config.length_max) {
    cluster.nodes.clear();
    cluster.taken_back = false;
    cluster.first = now;
  }
  cluster.last = now;
  const auto limit = static_cast<std::size_t>(config.facility_nodes);
  if (cluster.nodes.size() <= limit &&
      std::find(cluster.nodes.begin(), cluster.nodes.end(), node) == cluster.nodes.end()) {
    cluster.nodes.push_back(node);
  }
  return cluster.nodes.size() > limit;
}

}  // namespace lifeboat::predictor
