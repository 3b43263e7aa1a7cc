#include "metrics.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace lifeboat::metrics {

namespace {

// The shortest text that reads back as the same number; whole ones without an exponent.
std::string number(double value) {
  constexpr double kWhole = 1e15;
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char text[32];
  const bool whole = std::abs(value) < kWhole && value == std::floor(value);
  const auto end = whole ? std::to_chars(text, text + sizeof text, static_cast<long long>(value))
                         : std::to_chars(text, text + sizeof text, value);
  return {text, end.ptr};
}

std::string escaped(std::string_view text, bool is_label) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || (is_label && c == '"')) out += '\\';
    out += c;
  }
  return out;
}

const char* to_string(Type type) {
  switch (type) {
    case Type::kCounter: return "counter";
    case Type::kGauge: return "gauge";
    case Type::kHistogram: return "histogram";
  }
  return "untyped";
}

}  // namespace

void Histogram::observe(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<std::size_t>(at - bounds_.begin())];
  sum_ += value;
}

void Page::family(std::string_view name, Type type, std::string_view help) {
  name_ = name;
  text_.append("# HELP ").append(name).append(" ").append(escaped(help, false)).append("\n");
  text_.append("# TYPE ").append(name).append(" ").append(to_string(type)).append("\n");
}

void Page::line(std::string_view suffix, Labels labels, std::string_view le, double value) {
  text_.append(name_).append(suffix);
  const char* before = "{";
  const auto add = [&](std::string_view key, std::string_view label) {
    text_.append(before).append(key).append("=\"").append(escaped(label, true)).append("\"");
    before = ",";
  };
  for (const auto& [key, label] : labels) add(key, label);
  if (!le.empty()) add("le", le);
  text_.append(*before == ',' ? "} " : " ").append(number(value)).append("\n");
}

void Page::sample(Labels labels, double value) { line("", labels, "", value); }

void Page::sample(Labels labels, const Histogram& histogram) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < histogram.counts().size(); ++i) {
    count += histogram.counts()[i];
    const bool last = i == histogram.bounds().size();
    line("_bucket", labels, last ? "+Inf" : number(histogram.bounds()[i]), static_cast<double>(count));
  }
  line("_sum", labels, "", histogram.sum());
  line("_count", labels, "", static_cast<double>(count));
}

void Page::counter(std::string_view name, std::string_view help, double value) {
  family(name, Type::kCounter, help);
  sample({}, value);
}

void Page::gauge(std::string_view name, std::string_view help, double value) {
  family(name, Type::kGauge, help);
  sample({}, value);
}

}  // namespace lifeboat::metrics
