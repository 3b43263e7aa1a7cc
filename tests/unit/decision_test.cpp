// The decision of a migration: every order in which messages get lost, ends die and the registry answers.
#include "registry/decision.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>
#include <vector>

namespace lifeboat::decision {
namespace {

constexpr std::uint64_t kVersion = 7;

TEST(Source, ListensUntilSomethingStandsInTheWay) {
  Source source(kVersion);
  EXPECT_EQ(source.next(), Source::Do::kListen);
  source.wants_back();
  EXPECT_EQ(source.next(), Source::Do::kWriteAbort);
  EXPECT_EQ(source.version(), kVersion);
  source.abort_written(Written::kYes);
  EXPECT_EQ(source.next(), Source::Do::kRunHere);
}

TEST(Source, NoAnswerOfTheRegistryLetsItGoOn) {
  for (const Written written : {Written::kNo, Written::kUnknown, Written::kConflict}) {
    Source source(kVersion);
    source.wants_back();
    source.abort_written(written);
    EXPECT_EQ(source.next(), Source::Do::kAsk);
    source.target_says(Word::kSilent);
    source.target_says(Word::kUndecided);
    source.registry_says(Verdict::kUnknown, 0);
    EXPECT_EQ(source.next(), Source::Do::kAsk);
    source.registry_says(Verdict::kOpen, 9);
    EXPECT_EQ(source.next(), Source::Do::kWriteAbort);
    EXPECT_EQ(source.version(), 9U);
  }
}

TEST(Source, OfARestartedDaemonReadsFirst) {
  Source source(0);
  source.wants_back();
  EXPECT_EQ(source.next(), Source::Do::kAsk);
  source.registry_says(Verdict::kCommitted, 8);
  EXPECT_EQ(source.next(), Source::Do::kEndHere);
}

TEST(Source, WhatIsKnownIsNeverForgotten) {
  Source source(kVersion);
  source.target_says(Word::kCommitted);
  source.wants_back();
  source.abort_written(Written::kYes);
  source.registry_says(Verdict::kAborted, 9);
  source.operator_says(true);
  EXPECT_EQ(source.next(), Source::Do::kEndHere);
}

TEST(Target, CommitsOnlyWhatItHoldsAndWasAskedFor) {
  Target target;
  EXPECT_EQ(target.next(), Target::Do::kReceive);
  target.staged(kVersion);
  EXPECT_EQ(target.next(), Target::Do::kListen);
  target.commit_asked();
  EXPECT_EQ(target.next(), Target::Do::kWriteCommit);
  target.commit_begins();
  target.commit_written(Written::kYes);
  EXPECT_EQ(target.next(), Target::Do::kRun);
}

TEST(Target, SavesTheContainerOfADeadSource) {
  Target target;
  target.staged(kVersion);
  target.source_lost();
  EXPECT_EQ(target.next(), Target::Do::kLook);
  target.registry_says(Verdict::kOpen, kVersion, true);
  EXPECT_EQ(target.next(), Target::Do::kLook) << "the source is alive: it decides";
  target.registry_says(Verdict::kOpen, kVersion, false);
  EXPECT_EQ(target.next(), Target::Do::kWriteCommit);
}

TEST(Target, WhatIsHeldMayBeTheOnlyCopy) {
  Target target;
  EXPECT_FALSE(target.undecided());
  target.staged(kVersion);
  EXPECT_TRUE(target.undecided()) << "the source may be dead";
  ASSERT_TRUE(target.renounce());
  EXPECT_FALSE(target.undecided());
}

TEST(Target, RenouncesOnlyWhatItNeverTried) {
  Target never;
  never.staged(kVersion);
  EXPECT_TRUE(never.renounce());
  EXPECT_EQ(never.next(), Target::Do::kRemove);

  Target under_way;
  under_way.staged(kVersion);
  under_way.commit_asked();
  under_way.commit_begins();
  EXPECT_FALSE(under_way.renounce());
  under_way.commit_written(Written::kNo);
  EXPECT_TRUE(under_way.renounce());

  Target unknown;
  unknown.staged(kVersion);
  unknown.commit_asked();
  unknown.commit_begins();
  unknown.commit_written(Written::kUnknown);
  EXPECT_FALSE(unknown.renounce());
  EXPECT_TRUE(unknown.undecided());
  EXPECT_EQ(unknown.next(), Target::Do::kLook);

  Target resumed;
  resumed.resumed(false);
  EXPECT_FALSE(resumed.renounce()) << "the earlier daemon may have tried";
  Target kept;
  kept.resumed(true);
  EXPECT_EQ(kept.next(), Target::Do::kRemove) << "the source may be running it already";
}

// ---- Both machines against a registry, over every order of what can happen up to a depth.

// One world: small enough to copy at each step.
struct World {
  Source source{kVersion};
  Target target;
  // The registry: the record's version and verdict; swaps that are on their way.
  std::uint64_t version = kVersion;
  Verdict record = Verdict::kOpen;
  enum class Swap { kNone, kSent };
  Swap abort = Swap::kNone;
  std::uint64_t abort_from = 0;
  Swap commit = Swap::kNone;
  std::uint64_t commit_from = 0;
  bool staged_sent = false;
  bool commit_sent = false;
  bool link = true;
  bool source_alive = true;

  [[nodiscard]] bool runs_at_source() const { return source.next() == Source::Do::kRunHere; }
  [[nodiscard]] bool runs_at_target() const { return target.next() == Target::Do::kRun; }
  [[nodiscard]] bool may_renounce() const { return Target(target).renounce(); }
  // What a swap that has arrived does.
  bool apply(std::uint64_t from, Verdict verdict) {
    if (version != from) return false;
    ++version;
    record = verdict;
    return true;
  }
  [[nodiscard]] auto key() const {
    return std::make_tuple(source.next(), source.state(), source.version(), target.next(), target.state(),
                           target.version(), may_renounce(), version, record, abort, abort_from, commit,
                           commit_from, staged_sent, commit_sent, link, source_alive);
  }
};

using Steps = std::vector<std::pair<const char*, World>>;

void add(Steps& steps, const char* what, const World& from, const std::function<void(World&)>& change) {
  World next = from;
  change(next);
  steps.emplace_back(what, next);
}

// Everything that can happen next.
Steps successors(const World& w) {
  Steps steps;
  // The link and the nodes.
  if (w.link) {
    add(steps, "link lost, both see it", w, [](World& n) {
      n.link = false;
      n.source.wants_back();
      n.target.source_lost();
    });
    add(steps, "source's patience ends", w, [](World& n) { n.source.wants_back(); });
    add(steps, "target's patience ends", w, [](World& n) { n.target.source_lost(); });
  }
  if (w.source_alive && w.source.state() == Source::State::kWaiting) {
    add(steps, "source dies", w, [](World& n) {
      n.source_alive = false;
      n.link = false;
      n.target.source_lost();
    });
    add(steps, "source's daemon starts again", w, [](World& n) {
      n.source = Source(0);
      n.source.wants_back();
      n.link = false;
      n.target.source_lost();
    });
  }
  if (w.target.next() == Target::Do::kReceive) {
    add(steps, "restored", w, [](World& n) { n.target.staged(kVersion); });
    add(steps, "restore fails", w, [](World& n) { (void)n.target.renounce(); });
  }
  if (w.link && w.source_alive && w.target.next() == Target::Do::kListen && !w.commit_sent) {
    add(steps, "commit sent", w, [](World& n) { n.commit_sent = true; });
  }
  if (w.link && w.commit_sent && w.target.next() == Target::Do::kListen) {
    add(steps, "commit arrives", w, [](World& n) { n.target.commit_asked(); });
  }
  if (w.link && w.source_alive && w.source.next() == Source::Do::kListen) {
    if (w.runs_at_target()) {
      add(steps, "running arrives", w, [](World& n) { n.source.target_says(Word::kCommitted); });
    }
    if (w.target.next() == Target::Do::kRemove) {
      add(steps, "failed arrives", w, [](World& n) { n.source.target_says(Word::kRenounced); });
    }
  }
  // The source's swap: sent; then it arrives (now, or after its answer was given up) or is lost.
  if (w.source_alive && w.source.next() == Source::Do::kWriteAbort && w.abort == World::Swap::kNone) {
    add(steps, "abort: not sent", w, [](World& n) { n.source.abort_written(Written::kNo); });
    add(steps, "abort: answered", w, [](World& n) {
      const bool won = n.apply(n.source.version(), Verdict::kAborted);
      n.source.abort_written(won ? Written::kYes : Written::kConflict);
    });
    add(steps, "abort: sent, no answer", w, [](World& n) {
      n.abort = World::Swap::kSent;
      n.abort_from = n.source.version();
      n.source.abort_written(Written::kUnknown);
    });
  }
  if (w.abort == World::Swap::kSent) {
    add(steps, "late abort arrives", w, [](World& n) {
      (void)n.apply(n.abort_from, Verdict::kAborted);
      n.abort = World::Swap::kNone;
    });
    add(steps, "late abort is lost", w, [](World& n) { n.abort = World::Swap::kNone; });
  }
  if (w.target.next() == Target::Do::kWriteCommit && w.commit == World::Swap::kNone) {
    add(steps, "commit swap: not sent", w, [](World& n) {
      n.target.commit_begins();
      n.target.commit_written(Written::kNo);
    });
    add(steps, "commit swap: answered", w, [](World& n) {
      n.target.commit_begins();
      const bool won = n.apply(n.target.version(), Verdict::kCommitted);
      n.target.commit_written(won ? Written::kYes : Written::kConflict);
    });
    add(steps, "commit swap: sent, no answer", w, [](World& n) {
      n.target.commit_begins();
      n.commit = World::Swap::kSent;
      n.commit_from = n.target.version();
      n.target.commit_written(Written::kUnknown);
    });
  }
  if (w.commit == World::Swap::kSent) {
    add(steps, "late commit arrives", w, [](World& n) {
      (void)n.apply(n.commit_from, Verdict::kCommitted);
      n.commit = World::Swap::kNone;
    });
    add(steps, "late commit is lost", w, [](World& n) { n.commit = World::Swap::kNone; });
  }
  // Looks, with and without the registry.
  if (w.source_alive && w.source.next() == Source::Do::kAsk) {
    add(steps, "source reads", w, [](World& n) { n.source.registry_says(n.record, n.version); });
    add(steps, "source asks the target", w, [](World& n) {
      if (n.runs_at_target()) return n.source.target_says(Word::kCommitted);
      n.source.target_says(n.target.renounce() ? Word::kRenounced : Word::kUndecided);
    });
  }
  if (w.target.next() == Target::Do::kLook) {
    add(steps, "target reads", w,
        [](World& n) { n.target.registry_says(n.record, n.version, n.source_alive); });
    add(steps, "target reads, lease wrongly gone", w,
        [](World& n) { n.target.registry_says(n.record, n.version, false); });
  }
  if (w.target.next() != Target::Do::kRun && !w.target.undecided()) {
    add(steps, "target's daemon is told to end", w, [](World& n) {
      (void)n.target.renounce();
      n.link = false;
      n.source.wants_back();
    });
  }
  const bool held = w.target.state() == Target::State::kHolding || w.target.state() == Target::State::kAborted;
  if (held && w.commit == World::Swap::kNone) {
    add(steps, "target's daemon starts again", w, [](World& n) {
      const bool renounced = n.target.state() == Target::State::kAborted;
      n.target = Target();
      n.target.resumed(renounced);
      n.link = false;
      n.source.wants_back();
    });
  }
  return steps;
}

TEST(Both, NeverRunTwiceAndAlwaysSomewhere) {
  std::map<decltype(World().key()), std::pair<World, std::string>> seen;
  std::deque<World> todo;
  const World first;
  seen.emplace(first.key(), std::make_pair(first, std::string()));
  todo.push_back(first);
  std::size_t ends = 0;
  while (!todo.empty()) {
    const World world = todo.front();
    todo.pop_front();
    const std::string path = seen.at(world.key()).second;
    ASSERT_FALSE(world.source_alive && world.runs_at_source() && world.runs_at_target()) << path;
    // Both have ended it: it lives nowhere though the source's node is alive.
    const bool gone =
        world.source.next() == Source::Do::kEndHere && world.target.next() == Target::Do::kRemove;
    ASSERT_FALSE(world.source_alive && gone) << path;
    // The source is dead, and has not taken it back: what was held is the only copy.
    const bool removed = world.target.version() != 0 && world.target.next() == Target::Do::kRemove;
    const bool taken_back = world.record == Verdict::kAborted || world.source.state() == Source::State::kAborted;
    ASSERT_FALSE(!world.source_alive && removed && !taken_back) << path;
    const Steps next = successors(world);
    if (next.empty()) ++ends;
    const bool settled = world.runs_at_target() || (world.source_alive && world.runs_at_source()) ||
                         (!world.source_alive && world.target.next() == Target::Do::kRemove);
    // As long as nobody runs it there is a way on: no state is a trap.
    ASSERT_TRUE(settled || !next.empty()) << path;
    for (const auto& [what, state] : next) {
      if (state.version > kVersion + 3) continue;
      if (seen.emplace(state.key(), std::make_pair(state, path + "; " + what)).second)
        todo.push_back(state);
    }
  }
  EXPECT_GT(seen.size(), 1000U);
  EXPECT_GT(ends, 0U);
}

// From every state that can be reached: once the registry answers and nothing more is lost, both ends
// agree, and it runs somewhere if it can.
TEST(Both, AgreeOnceTheRegistryAnswers) {
  std::set<decltype(World().key())> seen;
  std::deque<World> todo;
  const World first;
  seen.insert(first.key());
  todo.push_back(first);
  while (!todo.empty()) {
    const World world = todo.front();
    todo.pop_front();
    World calm = world;
    if (calm.abort == World::Swap::kSent) (void)calm.apply(calm.abort_from, Verdict::kAborted);
    if (calm.commit == World::Swap::kSent) (void)calm.apply(calm.commit_from, Verdict::kCommitted);
    // What the source has taken back before it died is lost with it.
    const bool taken_back = calm.record == Verdict::kAborted;
    if (calm.target.next() == Target::Do::kReceive) (void)calm.target.renounce();
    calm.source.wants_back();
    calm.target.source_lost();
    for (int i = 0; i < 12; ++i) {
      if (calm.target.next() == Target::Do::kLook) {
        calm.target.registry_says(calm.record, calm.version, calm.source_alive);
      } else if (calm.target.next() == Target::Do::kWriteCommit) {
        calm.target.commit_begins();
        const bool won = calm.apply(calm.target.version(), Verdict::kCommitted);
        calm.target.commit_written(won ? Written::kYes : Written::kConflict);
      }
      if (!calm.source_alive) continue;
      if (calm.source.next() == Source::Do::kAsk) {
        calm.source.registry_says(calm.record, calm.version);
      } else if (calm.source.next() == Source::Do::kWriteAbort) {
        const bool won = calm.apply(calm.source.version(), Verdict::kAborted);
        calm.source.abort_written(won ? Written::kYes : Written::kConflict);
      }
    }
    if (calm.source_alive) {
      ASSERT_NE(calm.runs_at_source(), calm.runs_at_target());
    } else if (!taken_back && world.target.next() == Target::Do::kListen) {
      ASSERT_TRUE(calm.runs_at_target()) << "the source is dead, and the target held everything";
    }
    for (const auto& [what, state] : successors(world)) {
      if (state.version > kVersion + 3) continue;
      if (seen.insert(state.key()).second) todo.push_back(state);
    }
  }
}

}  // namespace
}  // namespace lifeboat::decision
