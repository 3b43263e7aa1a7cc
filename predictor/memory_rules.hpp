// memory_rules.hpp - errors that hardware corrected: harmless one by one, a sign when they come often or
// from many places of one part.
//
// Each part (a DIMM, a processor) has a bucket that leaks: level = level * exp(-dt / window) + count. The
// limits are those that mcelog and rasdaemon ship (10 a day for a DIMM, 18 a day for a processor); that
// corrected errors foretell uncorrected ones, above all in more than one row or bank, is from Schroeder,
// Pinheiro and Weber 2009 and Li et al. (Huawei) 2023.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "predictor/config.hpp"

namespace lifeboat::predictor {

struct Finding {
  double probability = 0;  // that the node fails within the horizon
  std::string why;
};

class MemoryRules {
 public:
  // A finding if the event completes one, or repeats one that holds. Nothing for other kinds.
  std::optional<Finding> add(const MemoryConfig& config, const Event& event, Time now);

  // Text form, for Predictor::save(); load() throws on what save() does not write.
  [[nodiscard]] json::array save() const;
  void load(const json::array& saved);

 private:
  struct Part {
    std::string location;
    EventKind kind = EventKind::kCorrectedMemory;
    double level = 0;
    Time time{};
    std::vector<std::string> rows;  // distinct, the latest kRegionsMax
    std::vector<std::string> banks;
  };
  static constexpr std::size_t kPartsMax = 32;
  static constexpr std::size_t kRegionsMax = 8;

  Part& part(const Event& event, Time now);

  std::vector<Part> parts_;
};

}  // namespace lifeboat::predictor
