// A registry that answers nonsense: nobody believes it, and no list goes on for ever.
#include <gtest/gtest.h>

#include <optional>

#include "registry/owners.hpp"

namespace lifeboat {
namespace {

// Answers with what it is given.
class Nonsense : public Registry {
 public:
  std::optional<Entry> entry;
  std::vector<Entry> entries;

  awaitable<Result<std::optional<Entry>>> get(std::string) override { co_return entry; }
  awaitable<Result<Swap>> try_swap(SwapRequest) override { co_return Swap{}; }
  awaitable<Result<std::vector<Entry>>> page(Selection) override { co_return entries; }
  awaitable<Result<LeaseId>> grant(Milliseconds) override { co_return LeaseId{1}; }
  awaitable<Status> keep_alive(LeaseId) override { co_return Status{}; }
  awaitable<Status> revoke(LeaseId) override { co_return Status{}; }
};

template <class R>
R wait(awaitable<R> task) {
  asio::io_context context;
  std::optional<R> result;
  asio::co_spawn(context, std::move(task), [&](std::exception_ptr error, R value) {
    EXPECT_FALSE(error);
    result.emplace(std::move(value));
  });
  context.run();
  return std::move(*result);
}

std::vector<Entry> full_page(const std::string& prefix) {
  std::vector<Entry> page;
  for (std::size_t i = 0; i < Registry::kPageEntries; ++i) {
    page.push_back({prefix + std::to_string(1'000'000 + i), "", i + 1});
  }
  return page;
}

TEST(RegistryAnswers, AListWhosePagesDoNotGoOnEnds) {
  Nonsense registry;
  registry.entries = full_page("c/");
  EXPECT_EQ(wait(registry.list("c/")).error().code, Errc::kProtocol) << "the same page again";
  EXPECT_EQ(wait(registry.list("d/")).error().code, Errc::kProtocol) << "other keys than were asked for";
  registry.entries.resize(2);
  EXPECT_EQ(wait(registry.list("c/"))->size(), 2u);
  std::swap(registry.entries[0], registry.entries[1]);
  EXPECT_EQ(wait(registry.list("c/")).error().code, Errc::kProtocol) << "not in order";
}

TEST(RegistryAnswers, ARecordIsThatOfItsKey) {
  Ownership record;
  record.container = "hpl-1";
  Nonsense registry;
  Owners owners(registry, Milliseconds(1000));
  registry.entry = Entry{ownership_key("hpl-0"), to_text(record), 1};
  EXPECT_EQ(wait(owners.find("hpl-0")).error().code, Errc::kProtocol);
  registry.entry->key = ownership_key("hpl-1");
  EXPECT_TRUE(wait(owners.find("hpl-1")));
}

// A container that is given up just when its owner changes: its new owner ends it as well.
TEST(RegistryAnswers, WhoGivesAContainerUpOvertakesOthersThatChangeItsRecord) {
  class Changing : public Nonsense {
   public:
    int changes = 1;
    std::vector<SwapRequest> asked;
    awaitable<Result<Swap>> try_swap(SwapRequest request) override {
      asked.push_back(request);
      if (changes == 0) co_return Swap{true, entry->version + 1, {}};
      --changes;
      ++entry->version;
      co_return Swap{};
    }
  };
  Ownership record;
  record.container = "hpl-1";
  record.owner = "n1";
  Changing registry;
  Owners owners(registry, Milliseconds(1000));
  registry.entry = Entry{ownership_key("hpl-1"), to_text(record), 1};
  EXPECT_TRUE(wait(owners.end_anywhere("hpl-1")));
  ASSERT_EQ(registry.asked.size(), 2u);
  EXPECT_EQ(registry.asked[1].version, 2u);
  registry.changes = 1000;
  EXPECT_EQ(wait(owners.end_anywhere("hpl-1")).error().code, Errc::kConflict);
}

TEST(RegistryAnswers, AnAnswerIsAboutWhatWasAsked) {
  EXPECT_TRUE(check_answer("a", std::nullopt));
  EXPECT_TRUE(check_answer("a", Entry{"a", "", 1}));
  EXPECT_EQ(check_answer("a", Entry{"b", "", 1}).error().code, Errc::kProtocol);
}

}  // namespace
}  // namespace lifeboat
