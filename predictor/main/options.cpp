#include "predictor/main/options.hpp"

#include <array>
#include <cmath>
#include <cstdlib>

namespace lifeboat::predictor {
namespace {

Status one(const Options::Values& values) {
  if (values.size() == 1) return {};
  return fail(Errc::kInvalid, "needs one value");
}

}  // namespace

Result<Duration> duration_from(const std::string& text) {
  static const std::array<std::pair<std::string_view, double>, 5> kUnits{
      {{"ms", 1e3}, {"s", 1e6}, {"min", 60e6}, {"h", 3600e6}, {"d", 86400e6}}};
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  for (const auto& [unit, scale] : kUnits) {
    if (end != text.c_str() && unit == end && value >= 0 && value * scale < 1e18) {
      return Duration(static_cast<std::int64_t>(value * scale));
    }
  }
  return fail(Errc::kInvalid, "'" + text + "' is no duration such as 90s, 5min, 12h, 7d");
}

void Options::flag(std::string name, bool& out) {
  add(std::move(name), [&out](const Values& values) -> Status {
    if (!values.empty()) return fail(Errc::kInvalid, "takes no value");
    out = true;
    return {};
  });
}

void Options::text(std::string name, std::string& out) {
  add(std::move(name), [&out](const Values& values) -> Status {
    CHECK_OK(one(values));
    out = values[0];
    return {};
  });
}

void Options::texts(std::string name, Values& out) {
  add(std::move(name), [&out](const Values& values) -> Status {
    if (values.empty()) return fail(Errc::kInvalid, "needs a value");
    out.insert(out.end(), values.begin(), values.end());
    return {};
  });
}

void Options::duration(std::string name, Duration& out) {
  add(std::move(name), [&out](const Values& values) -> Status {
    CHECK_OK(one(values));
    TRY(out, duration_from(values[0]));
    return {};
  });
}

void Options::number(std::string name, double& out) {
  add(std::move(name), [&out](const Values& values) -> Status {
    CHECK_OK(one(values));
    char* end = nullptr;
    const double value = std::strtod(values[0].c_str(), &end);
    if (values[0].empty() || *end != '\0' || !(value >= 0) || !std::isfinite(value)) {
      return fail(Errc::kInvalid, "'" + values[0] + "' is no number of at least 0");
    }
    out = value;
    return {};
  });
}

Status Options::parse(int argc, char** argv) const {
  for (int i = 1; i < argc;) {
    const std::string name = argv[i++];
    const auto found = takes_.find(name);
    if (found == takes_.end()) return fail(Errc::kInvalid, "unknown option '" + name + "'");
    Values values;
    for (; i < argc && std::string_view(argv[i]).substr(0, 2) != "--"; ++i)
      values.emplace_back(argv[i]);
    if (Status taken = found->second(values); !taken) {
      return tl::unexpected<Error>(taken.error().context(name));
    }
  }
  return {};
}

}  // namespace lifeboat::predictor
