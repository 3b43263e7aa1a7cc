#include "registry/decision.hpp"

namespace lifeboat::decision {

Source::Do Source::next() const {
  switch (state_) {
    case State::kCommitted:
      return Do::kEndHere;
    case State::kAborted:
      return Do::kRunHere;
    case State::kWaiting:
      break;
  }
  if (!wants_back_) return Do::kListen;
  return look_first_ || version_ == 0 ? Do::kAsk : Do::kWriteAbort;
}

void Source::registry_says(Verdict verdict, std::uint64_t version) {
  switch (verdict) {
    case Verdict::kCommitted:
      return decide(State::kCommitted);
    case Verdict::kAborted:
      return decide(State::kAborted);
    case Verdict::kOpen:
      version_ = version;
      look_first_ = false;
      return;
    case Verdict::kUnknown:  // no record: only the target, or a person, can tell
      look_first_ = true;
      return;
  }
}

void Source::abort_written(Written written) {
  if (written == Written::kYes) return decide(State::kAborted);
  look_first_ = true;
}

void Source::target_says(Word word) {
  if (word == Word::kCommitted) decide(State::kCommitted);
  if (word == Word::kRenounced) decide(State::kAborted);
}

Target::Do Target::next() const {
  switch (state_) {
    case State::kCommitted:
      return Do::kRun;
    case State::kAborted:
      return Do::kRemove;
    case State::kReceiving:
      return Do::kReceive;
    case State::kHolding:
      break;
  }
  if (look_first_ || (source_lost_ && !commit_asked_)) return Do::kLook;
  return commit_asked_ ? Do::kWriteCommit : Do::kListen;
}

void Target::staged(std::uint64_t version) {
  if (state_ == State::kReceiving) state_ = State::kHolding;
  version_ = version;
}

void Target::resumed(bool renounced) {
  if (renounced) return decide(State::kAborted);
  if (state_ == State::kReceiving) state_ = State::kHolding;
  source_lost_ = true;
  tried_ = true;  // by the earlier daemon, for all that is known
  look_first_ = true;
}

void Target::registry_says(Verdict verdict, std::uint64_t version, bool source_alive) {
  switch (verdict) {
    case Verdict::kCommitted:
      return decide(State::kCommitted);
    case Verdict::kAborted:
      return decide(State::kAborted);
    case Verdict::kOpen:
      version_ = version;
      look_first_ = false;
      // Nobody else can save it.
      if (source_lost_ && !source_alive) commit_asked_ = true;
      return;
    case Verdict::kUnknown:
      look_first_ = true;
      return;
  }
}

void Target::commit_written(Written written) {
  writing_ = false;
  if (written == Written::kYes) return decide(State::kCommitted);
  if (written == Written::kUnknown) tried_ = true;
  look_first_ = true;
}

bool Target::renounce() {
  if (!tried_ && !writing_) decide(State::kAborted);
  return state_ == State::kAborted;
}

}  // namespace lifeboat::decision
