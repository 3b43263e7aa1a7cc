// When CRIU's cgroups are left out of its images, and when not.
#include "criu_glue/cgroup_image.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/file.hpp"
#include "criu_glue/files.pb.h"

namespace lifeboat {
namespace {

std::string number(std::uint32_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

const std::string kMagic = number(0x54564319) + number(0x59383330);

// As CRIU writes it: with controllers, which Lifeboat does not know.
std::string image_of(int sets) {
  criu::Cgroups cgroups;
  for (int i = 0; i < sets; ++i) cgroups.add_sets("\x08\x02");  // its id
  const std::string bytes = cgroups.SerializeAsString() + std::string("\x12\x03\x0a\x01\x63", 5);
  return kMagic + number(static_cast<std::uint32_t>(bytes.size())) + bytes;
}

TEST(CgroupImage, OneSetIsCounted) {
  EXPECT_EQ(has_one_cgroup_set(image_of(1)).value(), true);
  EXPECT_EQ(has_one_cgroup_set(image_of(0)).value(), false);
  EXPECT_EQ(has_one_cgroup_set(image_of(2)).value(), false);
  EXPECT_EQ(has_one_cgroup_set(kMagic).value(), false);
}

TEST(CgroupImage, ADamagedImageIsNamed) {
  const std::string image = image_of(1);
  for (const std::string& bad : {std::string(), image.substr(0, 7), image.substr(0, 10), image.substr(0, image.size() - 1),
                                 image + "x", "x" + image}) {
    const auto one = has_one_cgroup_set(bad);
    ASSERT_FALSE(one.has_value());
    EXPECT_EQ(one.error().code, Errc::kProtocol);
    EXPECT_TRUE(one.error().message.starts_with("cgroup.img")) << one.error().message;
  }
}

TEST(CgroupImage, OnlyOneSetIsLeftOut) {
  char directory[] = "/tmp/lifeboat-cgroup-image-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/cgroup.img";
  EXPECT_TRUE(leave_cgroups_out(directory).has_value()) << "there is none";
  ASSERT_TRUE(replace_file(path, image_of(1)).has_value());
  EXPECT_TRUE(leave_cgroups_out(directory).has_value());
  EXPECT_EQ(read_file(path, 1000).value(), kMagic);
  EXPECT_TRUE(leave_cgroups_out(directory).has_value()) << "it has been left out";
  EXPECT_EQ(read_file(path, 1000).value(), kMagic);
  // Threads in different ones: CRIU moves them.
  ASSERT_TRUE(replace_file(path, image_of(2)).has_value());
  EXPECT_TRUE(leave_cgroups_out(directory).has_value());
  EXPECT_EQ(read_file(path, 1000).value(), image_of(2));
  EXPECT_TRUE(remove_tree(directory).has_value());
}

}  // namespace
}  // namespace lifeboat
