// Handshakes in turn.
#include "migration/handshake_turns.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace lifeboat {
namespace {

class HandshakeTurnsTest : public testing::Test {
 protected:
  // Takes a turn and keeps it for so long.
  void spawn(int who, Milliseconds limit, Milliseconds keeps) {
    const auto work = [](HandshakeTurnsTest& test, int name, Milliseconds wait,
                         Milliseconds hold) -> awaitable<void> {
      const auto turn = co_await test.turns_.take(wait);
      (turn ? test.had_ : test.gave_up_).push_back(name);
      if (turn) co_await sleep_for(hold);
    };
    asio::co_spawn(context_, work(*this, who, limit, keeps), asio::detached);
  }
  void fill(Milliseconds keeps) {
    for (unsigned i = 0; i < HandshakeTurns::kAtOnce; ++i) spawn(-1, Milliseconds(1), keeps);
    while (had_.size() < HandshakeTurns::kAtOnce) context_.poll_one();
    had_.clear();
  }

  asio::io_context context_{1};
  HandshakeTurns& turns_ = asio::use_service<HandshakeTurns>(context_);
  std::vector<int> had_;
  std::vector<int> gave_up_;
};

TEST_F(HandshakeTurnsTest, WhoIsOneTooManyWaitsAndTheFirstComesFirst) {
  fill(Milliseconds(1000));
  spawn(1, Milliseconds(10'000), Milliseconds(0));
  spawn(2, Milliseconds(10'000), Milliseconds(0));
  context_.poll();
  EXPECT_TRUE(had_.empty());
  context_.run();
  EXPECT_EQ(had_, (std::vector<int>{1, 2}));
}

TEST_F(HandshakeTurnsTest, WhoHasGivenUpGetsNoTurnAndKeepsNone) {
  fill(Milliseconds(100));
  spawn(1, Milliseconds(10), Milliseconds(0));
  spawn(2, Milliseconds(10'000), Milliseconds(0));
  context_.run();
  EXPECT_EQ(gave_up_, std::vector<int>{1});
  EXPECT_EQ(had_, std::vector<int>{2});
  context_.restart();
  fill(Milliseconds(0));  // all turns are there again
}

TEST_F(HandshakeTurnsTest, WaitersMayGoWithTheEventLoop) {
  fill(Milliseconds(60'000));
  spawn(1, Milliseconds(60'000), Milliseconds(0));
  context_.poll();
  EXPECT_TRUE(had_.empty());
}

}  // namespace
}  // namespace lifeboat
