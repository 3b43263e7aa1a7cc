// The journal of node states after any kind of damage: it opens, and what it then holds is kept.
#include "predictor/node_journal.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  using namespace lifeboat::predictor;
  const fuzz::Directory directory;
  directory.write("/states", fuzz::text(data, size));
  const auto journal = NodeJournal::open(directory.path("/states"));
  fuzz::require_good(journal);
  fuzz::require(journal.has_value(), "a damaged journal opens");
  for (const auto& [node, reasons] : journal->kept()) {
    NodeState state{StateTimes{}};
    state.restore(reasons);
    (void)state.condition();
  }
  const auto again = NodeJournal::open(directory.path("/states"));
  fuzz::require(again && again->unreadable() == 0, "a reduced journal is whole");
  for (const auto& [node, reasons] : journal->kept()) {
    if (reasons.empty()) continue;  // a node that is up needs no line
    const auto kept = again->kept().find(node);
    fuzz::require(kept != again->kept().end() && kept->second.size() == reasons.size(),
                  "every reason is kept");
  }
  return 0;
}
