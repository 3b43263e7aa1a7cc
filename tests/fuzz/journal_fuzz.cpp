// The journal of migrations after any kind of damage: it opens, and what it then tells is what it tells
// again after another start.
#include "journal.hpp"

#include "fuzz.hpp"

namespace {

using namespace lifeboat;

std::string told(const MigrationJournal& journal) {
  json::array all;
  for (json::object& report : journal.reports(1000)) all.push_back(std::move(report));
  for (const JournalEntry& entry : journal.unfinished()) {
    const auto report = journal.report(entry.id);
    fuzz::require(report.has_value(), "what is not finished has a report");
    all.push_back(*report);
  }
  return json::serialize(all);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Directory directory;
  directory.write("/migrations.jsonl", fuzz::text(data, size));
  JournalEntry entry;
  entry.id = "n1-a";
  entry.side = "source";
  entry.phase = "freeze";
  std::string before;
  {
    MigrationJournal journal;
    fuzz::require(journal.open(directory.path("/migrations.jsonl")).has_value(), "a damaged journal opens");
    journal.note(entry);
    before = told(journal);
    fuzz::require(!journal.unfinished().empty(), "what was noted is there");
  }
  MigrationJournal journal;
  fuzz::require(journal.open(directory.path("/migrations.jsonl")).has_value(), "it opens again");
  fuzz::require(told(journal) == before, "it tells the same after a restart");
  return 0;
}
