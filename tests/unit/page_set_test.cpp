// A set of pages, against a set of addresses.
#include "criu_glue/page_set.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace lifeboat {
namespace {

struct Part {
  std::uint64_t address;
  std::uint32_t pages;
  bool in_set;
  bool operator==(const Part&) const = default;
};

std::vector<Part> split(const PageSet& set, const PageRun& run) {
  std::vector<Part> parts;
  set.split(run, [&](const PageRun& part, bool in_set) { parts.push_back({part.address, part.pages, in_set}); });
  return parts;
}

TEST(PageSet, CutsARunWhereItsPagesDiffer) {
  PageSet set;
  constexpr std::uint64_t kBase = 5 * kChunkBytes;
  set.add({kBase, 3 * kChunkPages});
  set.remove({kBase + kChunkBytes, 1});
  set.remove({kBase + 9 * kChunkBytes, 1});  // was not in it
  const std::vector<Part> expected = {{kBase - kPageBytes, 1, false},
                                      {kBase, kChunkPages, true},
                                      {kBase + kChunkBytes, 1, false},
                                      {kBase + kChunkBytes + kPageBytes, 2 * kChunkPages - 1, true},
                                      {kBase + 3 * kChunkBytes, 7, false}};
  EXPECT_EQ(split(set, {kBase - kPageBytes, 3 * kChunkPages + 8}), expected);
  EXPECT_TRUE(split(set, {kBase, 0}).empty());
}

TEST(PageSet, IsTheSetOfItsAddresses) {
  std::mt19937_64 random(1);
  PageSet set;
  std::set<std::uint64_t> model;
  constexpr std::uint32_t kPages = 4 * kChunkPages;
  const auto any_run = [&] {
    const std::uint64_t from = random() % kPages;
    const auto pages = static_cast<std::uint32_t>(random() % 3 == 0 ? random() % (kPages - from) : random() % 70);
    return PageRun{from * kPageBytes, pages};
  };
  for (int i = 0; i < 5000; ++i) {
    const PageRun run = any_run();
    const bool adds = random() % 2 == 0;
    adds ? set.add(run) : set.remove(run);
    for (std::uint64_t page = 0; page < run.pages; ++page) {
      const std::uint64_t address = run.address + page * kPageBytes;
      if (adds) model.insert(address);
      else model.erase(address);
    }
    const PageRun looked_at = any_run();
    std::uint64_t at = looked_at.address;
    const std::vector<Part> parts = split(set, looked_at);
    for (std::size_t p = 0; p < parts.size(); ++p) {
      ASSERT_EQ(parts[p].address, at) << "parts are in order and have no gaps";
      ASSERT_GT(parts[p].pages, 0U);
      ASSERT_TRUE(p == 0 || parts[p].in_set != parts[p - 1].in_set) << "as long as they can be";
      for (std::uint32_t page = 0; page < parts[p].pages; ++page, at += kPageBytes) {
        ASSERT_EQ(parts[p].in_set, model.contains(at)) << at;
      }
    }
    ASSERT_EQ(at, looked_at.address + looked_at.pages * kPageBytes);
  }
}

}  // namespace
}  // namespace lifeboat
