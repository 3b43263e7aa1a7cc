// What of a restored process is still missing, as its mappings change.
#include "criu_glue/pending.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace lifeboat {
namespace {

constexpr std::uint64_t kPage = kPageBytes;

unsigned char* at(std::uint64_t number) {
  return reinterpret_cast<unsigned char*>(0x100000000 + number * kPage);
}

TEST(Pending, GivesWhatIsAroundAFault) {
  Pending pending;
  pending.add({64 * kPage, 64 * kPage, at(0)});
  const auto piece = pending.take_around(70 * kPage, 16 * kPage);
  ASSERT_TRUE(piece.has_value());
  EXPECT_EQ(piece->address, 64 * kPage);
  EXPECT_EQ(piece->bytes, 16 * kPage);
  EXPECT_EQ(piece->source, at(0));
  EXPECT_FALSE(pending.take_around(70 * kPage, 16 * kPage).has_value());
  EXPECT_FALSE(pending.take_around(63 * kPage, 16 * kPage).has_value());
  EXPECT_EQ(pending.bytes(), 48 * kPage);
}

TEST(Pending, StartsAgainFromTheBeginning) {
  Pending pending;
  pending.add({10 * kPage, kPage, at(10)});
  const auto piece = pending.take_next(50 * kPage, 4 * kPage);
  ASSERT_TRUE(piece.has_value());
  EXPECT_EQ(piece->address, 10 * kPage);
  EXPECT_TRUE(pending.empty());
  EXPECT_FALSE(pending.take_next(0, kPage).has_value());
}

// Against a model that knows every page.
TEST(Pending, RandomChanges) {
  std::mt19937_64 random(7);
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  for (int trial = 0; trial < 300; ++trial) {
    Pending pending;
    std::map<std::uint64_t, unsigned char*> model;
    for (std::uint64_t page = 0; page < 256;) {
      const std::uint64_t count = 1 + below(20);
      if (below(2) == 0) {
        pending.add({page * kPage, count * kPage, at(page)});
        for (std::uint64_t i = 0; i < count; ++i) model[page + i] = at(page + i);
      }
      page += count;
    }
    for (int step = 0; step < 60; ++step) {
      const std::uint64_t page = below(280);
      const std::uint64_t count = 1 + below(30);
      const std::uint64_t to = 512 + below(100);
      switch (below(3)) {
        case 0:
          pending.remove(page * kPage, (page + count) * kPage);
          for (std::uint64_t i = 0; i < count; ++i) model.erase(page + i);
          break;
        case 1: {
          const auto taken = pending.take_within(page * kPage, (page + count) * kPage);
          pending.remove(to * kPage, (to + count) * kPage);
          for (const Pending::Piece& piece : taken) {
            pending.add({piece.address - page * kPage + to * kPage, piece.bytes, piece.source});
          }
          std::map<std::uint64_t, unsigned char*> moved;
          for (std::uint64_t i = 0; i < count; ++i) {
            if (const auto found = model.find(page + i); found != model.end()) {
              moved[to + i] = found->second;
              model.erase(found);
            }
            model.erase(to + i);
          }
          model.merge(moved);
          break;
        }
        default: {
          const auto piece = pending.take_around(page * kPage, 16 * kPage);
          ASSERT_EQ(piece.has_value(), model.contains(page));
          if (!piece) break;
          for (std::uint64_t i = 0; i < piece->bytes / kPage; ++i) {
            const auto found = model.find(piece->address / kPage + i);
            ASSERT_NE(found, model.end());
            ASSERT_EQ(found->second, piece->source + i * kPage);
            model.erase(found);
          }
        }
      }
      ASSERT_EQ(pending.bytes(), model.size() * kPage);
    }
    while (const auto piece = pending.take_next(below(600) * kPage, 8 * kPage)) {
      for (std::uint64_t i = 0; i < piece->bytes / kPage; ++i) {
        const auto found = model.find(piece->address / kPage + i);
        ASSERT_NE(found, model.end());
        ASSERT_EQ(found->second, piece->source + i * kPage);
        model.erase(found);
      }
    }
    ASSERT_TRUE(model.empty());
  }
}

}  // namespace
}  // namespace lifeboat
