// source_set.hpp - all sources of a node behind one poll: each asked when it is due, what they tell
// in the order of time and counted once (repeats.hpp), and what is to be said about the sources
// themselves. For the daemon and for `lifeboat-predict record`.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "predictor/source.hpp"
#include "predictor/sources/repeats.hpp"

namespace lifeboat::predictor {

// Something an operator should know of a source; to be logged, not to be concluded from.
struct Notice {
  enum class What { kMissing, kFailing, kWorksAgain };
  std::string source;
  What what = What::kMissing;
  std::string text;  // why; empty when it works again
};

class SourceSet {
 public:
  // A node does not grow a source often.
  static constexpr Duration kMissingInterval = std::chrono::minutes(10);
  // The same is not said again sooner, even if it came and went in between.
  static constexpr Duration kSilence = std::chrono::hours(1);
  // Nor more than so many different things of one source.
  static constexpr std::size_t kSaidMax = 8;

  explicit SourceSet(std::vector<std::unique_ptr<Source>> sources);

  struct Polled {
    std::vector<Event> events;
    std::vector<Notice> notices;
  };
  // Asks those that are due at `now`, which may jump either way.
  Polled poll(Time now);
  // Until the next one is due; not negative.
  [[nodiscard]] Duration until_due(Time now) const;

  // Where all of them stand: a JSON object, source -> what it saved.
  [[nodiscard]] std::string save() const;
  // Before the first poll. kInvalid: it is none; the sources then begin as new. What a source does
  // not know is its own business.
  Status restore(std::string_view saved);

 private:
  struct Entry {
    std::unique_ptr<Source> source;
    Time next{};        // when it is due
    Duration wait{0};   // how long `next` was away when it was set
    std::string problem;                // as it was last said; empty: it works
    std::map<std::string, Time> said;   // problems, when
  };
  void ask(Entry& entry, Time now, Polled& out);
  void note(Entry& entry, Notice::What what, const std::string& text, Time now, Polled& out);
  static bool is_due(const Entry& entry, Time now);

  std::vector<Entry> entries_;
  Repeats repeats_;
};

}  // namespace lifeboat::predictor
