// What is changed in CRIU's files.img, and what is not.
#include "criu_glue/timer_image.hpp"

#include <gtest/gtest.h>

#include "criu_glue/files.pb.h"

namespace lifeboat {
namespace {

std::string number(std::uint32_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

std::string image_of(const std::vector<std::string>& entries) {
  std::string image = number(0x54564319) + number(0x56303138);
  for (const std::string& entry : entries) image += number(static_cast<std::uint32_t>(entry.size())) + entry;
  return image;
}

// As CRIU writes it: with type, id, and members of the timer that Lifeboat does not know.
std::string timer_entry(std::uint64_t value_ns, std::uint64_t interval_ns) {
  criu::File file;
  criu::Timer& timer = *file.mutable_timer();
  timer.set_value_s(0);
  timer.set_value_ns(value_ns);
  timer.set_interval_s(0);
  timer.set_interval_ns(interval_ns);
  timer.MergeFromString("\x08\x21\x28\x03");  // id 33, ticks 3
  std::string bytes = "\x08\x0b\x10\x21";     // type, id
  return bytes + file.SerializeAsString();
}

criu::File first_file(const std::string& image) {
  criu::File file;
  EXPECT_TRUE(file.ParseFromString(image.substr(12)));
  return file;
}

TEST(TimerImage, APeriodicTimerThatStandsStillGoesOnAfterOneInterval) {
  auto mended = with_timers_rearmed(image_of({timer_entry(0, 10'000'000)}));
  ASSERT_TRUE(mended && *mended);
  const criu::File file = first_file(**mended);
  EXPECT_EQ(file.timer().value_ns(), 10'000'000U);
  EXPECT_EQ(file.timer().interval_ns(), 10'000'000U);
}

TEST(TimerImage, WhatItDoesNotKnowStays) {
  auto mended = with_timers_rearmed(image_of({timer_entry(0, 5)}));
  ASSERT_TRUE(mended && *mended);
  const std::string image = **mended;
  EXPECT_NE(image.find("\x08\x0b\x10\x21"), std::string::npos) << "type and id";
  EXPECT_NE(image.find("\x28\x03"), std::string::npos) << "ticks";
}

TEST(TimerImage, OthersAreLeftAlone) {
  for (const std::string& entry : {timer_entry(7, 10), timer_entry(0, 0), timer_entry(7, 0), std::string("\x08\x01\x10\x02")}) {
    auto mended = with_timers_rearmed(image_of({entry}));
    ASSERT_TRUE(mended.has_value());
    EXPECT_FALSE(mended->has_value());
  }
}

TEST(TimerImage, OthersBesideOneKeepTheirBytes) {
  const std::string other = "\x08\x01\x10\x02";
  auto mended = with_timers_rearmed(image_of({other, timer_entry(0, 5), other}));
  ASSERT_TRUE(mended && *mended);
  EXPECT_EQ((*mended)->substr(8, 8), number(4) + other);
  EXPECT_EQ((*mended)->substr((*mended)->size() - 8), number(4) + other);
}

TEST(TimerImage, ADamagedImageIsNamed) {
  const std::string good = image_of({timer_entry(0, 5)});
  for (std::size_t size = 0; size + 1 < good.size(); ++size) {
    if (size == 8) continue;  // no entries
    auto mended = with_timers_rearmed(good.substr(0, size));
    ASSERT_FALSE(mended.has_value()) << size;
    EXPECT_EQ(mended.error().code, Errc::kProtocol);
  }
}

}  // namespace
}  // namespace lifeboat
