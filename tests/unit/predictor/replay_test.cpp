#include "predictor/sources/replay.hpp"

#include <fcntl.h>

#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

std::string line(int second) {
  Event event;
  event.time = Time(std::chrono::seconds(second));
  event.node = "n7";
  event.text = "x";
  return to_replay_line(event);
}

TEST(Replay, FollowsAFileThatGrowsAndStartsAgain) {
  Tree tree;
  ReplaySource replay(tree.path("/drill"), std::chrono::seconds(1));
  EXPECT_EQ(replay.poll(kNow).error().code, Errc::kNotFound);
  tree.write("/drill", line(1) + line(2) + line(3).substr(0, 10));
  const auto first = replay.poll(kNow);
  ASSERT_EQ(first->size(), 2u);
  EXPECT_EQ(first->at(0).node, "n7");
  EXPECT_EQ(first->at(1).time, Time(std::chrono::seconds(2)));
  tree.write("/drill", line(1) + line(2) + line(3));  // the same file, longer
  ReplaySource after(tree.path("/drill"), std::chrono::seconds(1));
  after.restore(replay.save());
  EXPECT_EQ(after.poll(kNow)->size(), 1u);
  EXPECT_EQ(replay.poll(kNow)->size(), 1u);
  tree.write("/drill", line(9));
  EXPECT_EQ(replay.poll(kNow)->size(), 1u);
}

TEST(Replay, ReadsAFifoWhoeverWritesIt) {
  Tree tree;
  ASSERT_EQ(::mkfifo(tree.path("/fifo").c_str(), 0600), 0);
  ReplaySource replay(tree.path("/fifo"), std::chrono::seconds(1));
  EXPECT_TRUE(replay.poll(kNow)->empty());
  for (int i = 1; i < 3; ++i) {
    std::ofstream(tree.path("/fifo")) << line(i);
    EXPECT_EQ(replay.poll(kNow)->size(), 1u);
  }
}

TEST(Replay, SkipsLinesThatAreNone) {
  Tree tree;
  tree.write("/drill", garbage(100'000) + "\n" + std::string(200'000, 'x') + "\n" + line(1) + "{}\n");
  ReplaySource replay(tree.path("/drill"), std::chrono::seconds(1));
  EXPECT_EQ(replay.poll(kNow)->size(), 1u);
  tree.write("/drill", "{\"t\":1}\n");
  EXPECT_EQ(error_of(replay.poll(kNow)),
            tree.path("/drill") + ": member 'node' is missing or not a string: {\"t\":1}");
}

TEST(Text, BecomesFitForAnEvent) {
  EXPECT_EQ(clean(" a\tb\n\x01"), "a b");
  EXPECT_EQ(clean("\xc3\xa9 \xff\xc0\x80"), "\xc3\xa9 \\xff\\xc0\\x80");
  EXPECT_EQ(clean("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(clean(std::string(5000, 'x')).size(), kTextMax);
  for (std::size_t size : {1U, 100U, 10'000U}) {
    Event event;
    event.node = "n";
    event.text = clean(garbage(size));
    const auto back = parse_replay_line(to_replay_line(event));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->text, event.text);
  }
}

}  // namespace
}  // namespace lifeboat::predictor
