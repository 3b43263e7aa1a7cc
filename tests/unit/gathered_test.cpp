// What many ask for is gathered once.
#include "gathered.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

class GatheredTest : public testing::Test {
 protected:
  // Takes 20 ms; counts.
  std::function<awaitable<int>()> counting() {
    return [this]() -> awaitable<int> { return count(); };
  }
  awaitable<int> count() {
    ++gathered_;
    co_await sleep_for(Milliseconds(20));
    co_return gathered_;
  }
  awaitable<int> fail_once() {
    const int value = co_await count();
    if (value == 1) throw std::bad_alloc();
    co_return value;
  }
  awaitable<void> ask(Gathered<int>& from, std::string reason) {
    const std::shared_ptr<const int> value = co_await from.get(std::move(reason));
    seen_.push_back(*value);
  }
  void ask_at_once(Gathered<int>& from, const std::vector<std::string>& reasons) {
    for (const std::string& reason : reasons) asio::co_spawn(context_, ask(from, reason), asio::detached);
    context_.run();
    context_.restart();
  }
  asio::io_context context_{1};
  int gathered_ = 0;
  std::vector<int> seen_;
};

TEST_F(GatheredTest, OnceForAllWhoAskMeanwhile) {
  Gathered<int> value(Milliseconds(60'000), counting());
  ask_at_once(value, {"", "", ""});
  ask_at_once(value, {""});
  EXPECT_EQ(seen_, (std::vector{1, 1, 1, 1}));
}

TEST_F(GatheredTest, AgainWhenItIsOld) {
  Gathered<int> value(Milliseconds(0), counting());
  ask_at_once(value, {""});
  ask_at_once(value, {""});
  EXPECT_EQ(seen_, (std::vector{1, 2}));
}

TEST_F(GatheredTest, AgainForAnotherReason) {
  Gathered<int> value(Milliseconds(60'000), counting());
  ask_at_once(value, {"a", "a", "b"});
  EXPECT_EQ(seen_, (std::vector{1, 1, 2}));
}

TEST_F(GatheredTest, AfterAFailureByTheNext) {
  const std::function<awaitable<int>()> failing = [this]() -> awaitable<int> { return fail_once(); };
  Gathered<int> value(Milliseconds(60'000), failing);
  std::exception_ptr thrown;
  asio::co_spawn(context_, ask(value, ""), [&](std::exception_ptr e) { thrown = e; });
  ask_at_once(value, {""});
  EXPECT_TRUE(thrown);
  EXPECT_EQ(seen_, std::vector{2});
}

}  // namespace
}  // namespace lifeboat
