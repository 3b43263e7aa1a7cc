#include "migration/wire_shares.hpp"

#include <algorithm>
#include <map>

namespace lifeboat {
namespace {

// Divides `rate` equally; what a stream may not use for its own limit goes to the others.
void divide(const std::vector<WireUse>& uses, std::vector<std::size_t> members, double rate,
            std::vector<std::uint64_t>& shares) {
  std::sort(members.begin(), members.end(), [&](std::size_t a, std::size_t b) {
    // Unlimited ones last.
    return uses[a].limit_bytes_per_s - 1 < uses[b].limit_bytes_per_s - 1;
  });
  std::size_t left = members.size();
  for (const std::size_t index : members) {
    double share = rate / static_cast<double>(left);
    const std::uint64_t own = uses[index].limit_bytes_per_s;
    if (own > 0) share = std::min(share, static_cast<double>(own));
    shares[index] = std::max<std::uint64_t>(static_cast<std::uint64_t>(share), 1);
    rate -= share;
    --left;
  }
}

// What urgent streams leave of the wire: something only if the operator limits all of them.
double left_by_urgent(const std::vector<WireUse>& uses, const std::vector<std::size_t>& urgent,
                      double rate) {
  double used = 0;
  for (const std::size_t index : urgent) {
    const std::uint64_t own = uses[index].limit_bytes_per_s;
    used += own > 0 ? static_cast<double>(own) : rate;
  }
  return std::max(rate - used, rate * kPatientPart);
}

}  // namespace

std::vector<std::uint64_t> wire_shares(const std::vector<WireUse>& uses) {
  std::vector<std::uint64_t> shares;
  struct Members {
    std::vector<std::size_t> urgent;
    std::vector<std::size_t> patient;
  };
  std::map<std::string, Members> fabrics;
  for (std::size_t i = 0; i < uses.size(); ++i) {
    shares.push_back(uses[i].limit_bytes_per_s);
    if (uses[i].urgent) {
      fabrics[uses[i].fabric].urgent.push_back(i);
    } else if (uses[i].sending) {
      fabrics[uses[i].fabric].patient.push_back(i);
    }
  }
  for (const auto& [name, members] : fabrics) {
    const std::size_t any = !members.urgent.empty() ? members.urgent.front() : members.patient.front();
    const auto rate = static_cast<double>(uses[any].fabric_bytes_per_s);
    if (members.urgent.size() > 1) divide(uses, members.urgent, rate, shares);
    if (members.urgent.empty()) {
      if (members.patient.size() > 1) divide(uses, members.patient, rate, shares);
    } else if (!members.patient.empty()) {
      divide(uses, members.patient, left_by_urgent(uses, members.urgent, rate), shares);
    }
  }
  return shares;
}

}  // namespace lifeboat
