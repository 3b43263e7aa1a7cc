#include "predictor/config.hpp"

#include <cstdlib>
#include <optional>

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

struct Number {
  double min;
  double max;
  [[nodiscard]] std::string expected() const {
    return "a number from " + text(min) + " to " + text(max);
  }
  [[nodiscard]] std::optional<double> parse(const std::string& text) const {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value >= min && value <= max)) return std::nullopt;
    return value;
  }

 private:
  static std::string text(double value) {
    std::string text = std::to_string(value);
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
    return text;
  }
};

void duration(yaml::Reader& m, std::string_view key, Duration& out, std::chrono::milliseconds min,
              std::chrono::milliseconds max) {
  std::chrono::milliseconds value{};
  if (m.optional(key, value, yaml::Duration{min, max})) out = value;
}

void read_filter(yaml::Reader& m, FilterConfig& out) {
  m.optional("temporal", out.temporal, yaml::Boolean{});
  m.optional("semantic", out.semantic, yaml::Boolean{});
  duration(m, "gap", out.gap, 1s, 24h);
  duration(m, "length_max", out.length_max, 1s, 24h * 7);
  m.optional("facility", out.facility, yaml::Boolean{});
  m.optional("facility_nodes", out.facility_nodes, yaml::Integer{2, 1000});
}

void read_memory(yaml::Reader& m, MemoryConfig& out) {
  m.optional("enabled", out.on, yaml::Boolean{});
  m.optional("corrected_max", out.corrected_max, Number{1, 1e6});
  m.optional("processor_max", out.processor_max, Number{1, 1e6});
  duration(m, "window", out.window, 1min, 24h * 30);
  m.optional("regions_max", out.regions_max, yaml::Integer{1, 7});
  m.optional("storm", out.storm, Number{1, 1e6});
}

}  // namespace

void read_predictor(yaml::Reader& m, PredictorConfig& out) {
  duration(m, "horizon", out.horizon, 1min, 24h * 365);
  duration(m, "lead_min", out.lead_min, 0ms, 24h);
  m.optional("degraded_at", out.degraded_at, Number{0.001, 1});
  m.optional("healthy_below", out.healthy_below, Number{0.0001, 1});
  if (out.healthy_below > out.degraded_at) {
    m.mistake("healthy_below", "must not be above degraded_at");
  }
  duration(m, "hold", out.hold, 0ms, 24h * 365);
  m.optional("evidence_max", out.evidence_max, yaml::Integer{1, 256});
  m.optional("nodes_max", out.nodes_max, yaml::Integer{1, 1 << 20});
  m.map("filter", [&](yaml::Reader& f) { read_filter(f, out.filter); });
  m.map("templates", [&](yaml::Reader& t) {
    t.optional("enabled", out.templates.on, yaml::Boolean{});
    t.optional("max", out.templates.max, yaml::Integer{64, 1 << 20});
    t.optional("prior_weight", out.templates.prior_weight, Number{0.1, 1e6});
  });
  m.map("memory", [&](yaml::Reader& r) { read_memory(r, out.memory); });
  m.map("history", [&](yaml::Reader& h) {
    h.optional("enabled", out.history.on, yaml::Boolean{});
    h.optional("learning", out.history.learning, Number{0, 1});
  });
}

}  // namespace lifeboat::predictor
