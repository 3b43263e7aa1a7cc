// decision.hpp - how a migration is decided, as two state machines: one at the source, one at the target.
// Pure: events in, the next thing to do out; no clock, no network. source.cpp, target.cpp and
// outcome.cpp drive them, and so does a simulation.
//
// The source gives the target, with the end of the images, the right to commit: the version of the
// record that the target may swap for "mine". From then on the source is frozen and off the network
// until it knows the outcome. Whoever wants it otherwise proposes the abort by a swap from the same
// version. Three things can be known:
//
//   the registry says committed or aborted              that is it
//   the target says committed, or that it renounces     that is it, too: only it could have committed
//   an operator says so                                 it is taken for knowledge
//
// A target renounces only what it has never tried to commit, and writes that down before it says so: started
// again, it keeps to it. Nothing else, and no time that passes, lets the source go on or the target run. Before
// the right is given the source goes on by itself.
#pragma once

#include <cstdint>
#include <optional>

#include "registry/ownership.hpp"

namespace lifeboat::decision {

// How a swap that was proposed has ended.
enum class Written {
  kYes,
  kConflict,  // another change was faster: read it
  kNo,        // the registry was not reached, nothing was changed
  kUnknown,   // no answer
};

// What the target says when it is asked.
enum class Word { kSilent, kUndecided, kCommitted, kRenounced };

// ---- the source, from the moment it gives the right away

class Source {
 public:
  enum class State { kWaiting, kCommitted, kAborted };
  enum class Do {
    kListen,      // to the target, over the migration's own connection
    kWriteAbort,  // swap to aborted, from version()
    kAsk,         // after a pause: read the registry; if it does not decide, ask the target, which is to
                  // renounce if it can
    kRunHere,
    kEndHere,
  };

  // `version` of the record by which the right was given; 0: not known (a daemon that has started
  // again), so it reads first.
  explicit Source(std::uint64_t version) : version_(version) {}

  [[nodiscard]] Do next() const;
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] std::uint64_t version() const { return version_; }

  // Whatever stands in the way: connection lost, a deadline, a cancellation, the target's node gone. From
  // here on the source wants the container back.
  void wants_back() { wants_back_ = true; }
  void registry_says(Verdict verdict, std::uint64_t version);
  void abort_written(Written written);
  void target_says(Word word);
  // An operator's decision: true, it runs here.
  void operator_says(bool here) { decide(here ? State::kAborted : State::kCommitted); }

 private:
  void decide(State state) {
    if (state_ == State::kWaiting) state_ = state;
  }
  State state_ = State::kWaiting;
  std::uint64_t version_;
  bool wants_back_ = false;
  bool look_first_ = false;  // the last proposal did not go through
};

// ---- the target, from the offer on

class Target {
 public:
  enum class State { kReceiving, kHolding, kCommitted, kAborted };
  enum class Do {
    kReceive,      // not restored yet
    kListen,       // to the source
    kWriteCommit,  // swap to committed, from version()
    kLook,         // after a pause: read the registry, and whether the source's node is alive
    kRun,
    kRemove,  // what was restored; before that, that it has renounced is written down
  };

  [[nodiscard]] Do next() const;
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] std::uint64_t version() const { return version_; }
  // What is held may be the only copy left, by a commit or because the source is dead: it must outlive everything.
  [[nodiscard]] bool undecided() const { return state_ == State::kHolding; }

  // It holds what it was sent; `version` of the record by which the right was given.
  void staged(std::uint64_t version);
  // A daemon that has started again holds it: it has no connection, and reads first. `renounced`: the earlier one
  // has written down that it did, and may have told the source.
  void resumed(bool renounced);
  void commit_asked() { commit_asked_ = true; }
  // The connection to the source is lost, or it says nothing for too long.
  void source_lost() { source_lost_ = true; }
  // `source_alive`: it keeps its lease and has its copy, or the target cannot do without it (post-copy); if
  // not, nobody else will decide.
  void registry_says(Verdict verdict, std::uint64_t version, bool source_alive);
  // Around the swap: while it is under way nothing can be renounced.
  void commit_begins() { writing_ = true; }
  void commit_written(Written written);
  // The source asks for it, or what is held cannot be run after all (its pager has died). True: it was
  // renounced, or is aborted; false: not to be had any more, or not known yet.
  bool renounce();
  void operator_says(bool here) { decide(here ? State::kCommitted : State::kAborted); }

 private:
  void decide(State state) {
    if (state_ == State::kReceiving || state_ == State::kHolding) state_ = state;
  }
  State state_ = State::kReceiving;
  std::uint64_t version_ = 0;
  bool commit_asked_ = false;
  bool source_lost_ = false;
  bool writing_ = false;
  bool tried_ = false;       // a commit may have been written
  bool look_first_ = false;  // the last proposal did not go through
};

}  // namespace lifeboat::decision
