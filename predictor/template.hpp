// template.hpp - which messages are the same but for their numbers, and what is known of each.
//
// A template is the text with every word that has a digit, is a path or a long hexadecimal number
// replaced by '*' (as the first level of Drain, He et al. 2017, without its tree: an exact hash of the
// rest is enough for kernel messages and costs one pass over the text). A flood of new templates only
// pushes out the least useful ones: the table never grows.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

// "I/O error, dev sda1, sector 123" -> "I/O error, dev *, sector *".
[[nodiscard]] std::string template_text(std::string_view text);
// Equal for texts with the same template; without making it.
[[nodiscard]] std::uint64_t template_hash(std::string_view text);
// Of the event: its kind and detail "template" or, without one, its text.
[[nodiscard]] std::uint64_t template_hash(const Event& event);

// Words of a template, each as one bit. Counts its bits as they come: they are asked for with every message.
class Keywords {
 public:
  static constexpr std::size_t kBits = 256;
  void set(std::size_t bit) {
    std::uint64_t& word = bits_[bit / 64];
    const std::uint64_t mask = std::uint64_t{1} << (bit % 64);
    if ((word & mask) == 0) ++count_;
    word |= mask;
  }
  [[nodiscard]] unsigned count() const { return count_; }
  [[nodiscard]] bool none() const { return count_ == 0; }
  // Bits that both have. There are few: going through them is faster than a portable population count.
  [[nodiscard]] unsigned common(const Keywords& other) const {
    unsigned sum = 0;
    for (std::size_t i = 0; i < bits_.size(); ++i) {
      for (std::uint64_t both = bits_[i] & other.bits_[i]; both != 0; both &= both - 1) ++sum;
    }
    return sum;
  }

 private:
  std::array<std::uint64_t, kBits / 64> bits_{};
  unsigned count_ = 0;
};
[[nodiscard]] Keywords keywords(std::string_view text);

// Occurrences that were (or were not) followed by a failure.
struct Outcomes {
  double hits = 0;
  double trials = 0;
  double log_lead = 0;  // sum over the hits, ln of seconds

  // Mean of the Beta posterior whose prior has this mean and counts `weight` occurrences.
  [[nodiscard]] double rate(double prior, double weight) const {
    return (hits + prior * weight) / (trials + weight);
  }
};

// Nodes that said the same one after the other (Liang 2005, spatial compression).
struct Cluster {
  Time first{};
  Time last{};
  std::vector<std::uint32_t> nodes;  // distinct, at most one more than is allowed
  bool taken_back = false;           // it is the facility's, and its nodes are no longer blamed
};

struct Template {
  std::uint64_t hash = 0;  // 0: free
  Time used{};
  std::uint64_t seen = 0;
  Outcomes outcomes;
  Keywords words;
  Cluster cluster;
};

class TemplateTable {
 public:
  explicit TemplateTable(std::size_t max);

  // The entry of the event's template, new if it is not there (and `fresh` is set then).
  Template& find(std::uint64_t hash, Time now, bool& fresh);
  [[nodiscard]] const std::vector<Template>& all() const { return entries_; }

 private:
  static constexpr std::size_t kWays = 8;
  [[nodiscard]] std::size_t bucket(std::uint64_t hash) const;

  std::vector<Template> entries_;  // buckets of kWays
};

}  // namespace lifeboat::predictor
