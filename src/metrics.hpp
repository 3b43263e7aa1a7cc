// metrics.hpp - numbers as Prometheus reads them: its text exposition format 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats). Pure; what a node counts is in node_metrics.hpp.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lifeboat::metrics {

inline constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

// How often something was at most as large as each bound.
class Histogram {
 public:
  // Bounds grow; what is greater than the last is counted, too.
  explicit Histogram(std::initializer_list<double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void observe(double value);

  [[nodiscard]] const std::vector<double>& bounds() const { return bounds_; }
  // Of each bucket by itself; one more than there are bounds.
  [[nodiscard]] const std::vector<std::uint64_t>& counts() const { return counts_; }
  [[nodiscard]] double sum() const { return sum_; }

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> counts_;
  double sum_ = 0;
};

enum class Type { kCounter, kGauge, kHistogram };
using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

// One answer to a scrape. Each family once, and its samples right after it.
class Page {
 public:
  // `name` ends in its unit (_seconds, _bytes), counters in _total.
  void family(std::string_view name, Type type, std::string_view help);
  // A sample of the family begun last.
  void sample(Labels labels, double value);
  void sample(Labels labels, const Histogram& histogram);
  // A family of one sample.
  void counter(std::string_view name, std::string_view help, double value);
  void gauge(std::string_view name, std::string_view help, double value);

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void line(std::string_view suffix, Labels labels, std::string_view le, double value);

  std::string name_;
  std::string text_;
};

}  // namespace lifeboat::metrics
