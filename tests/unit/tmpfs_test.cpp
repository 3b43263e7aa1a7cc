#include "tmpfs.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

namespace lifeboat {
namespace {

// As a container's kernel writes it.
constexpr const char* kMountinfo =
    "413 389 254:0 /images/mpi/rootfs / ro,nosuid,nodev,relatime master:1 - ext4 /dev/vda rw,discard\n"
    "414 413 0:70 / /proc rw,relatime - proc proc rw\n"
    "402 413 0:79 / /dev rw,nosuid master:3 - tmpfs tmpfs rw,size=64k,mode=755,inode64\n"
    "406 402 0:80 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=524288k,inode64\n"
    "410 413 0:81 / /with\\040blank rw,noatime - tmpfs my\\134name rw,size=262144k\n"
    "411 413 0:82 /part /part rw - tmpfs tmpfs rw\n"
    "412 413 0:83 / /twice rw - tmpfs tmpfs rw\n"
    "415 413 0:83 / /twice2 rw - tmpfs tmpfs rw\n"
    "420 413 0:88 / /over rw - tmpfs tmpfs rw\n"
    "421 413 0:89 / /over rw - tmpfs tmpfs rw\n"
    "416 413 0:84 / /readonly ro - tmpfs tmpfs rw\n"
    "417 413 0:85 / /odd rw - tmpfs tmpfs rw,usrquota\n"
    "418 413 0:86 / /sys ro,nosuid - sysfs sysfs ro\n"
    "419 413 0:87 / /cut\n";

TEST(Tmpfs, FindsThoseThatCanBeMadeAgain) {
  const std::vector<TmpfsMount> mounts = parse_tmpfs_mounts(kMountinfo);
  ASSERT_EQ(mounts.size(), 3u);
  EXPECT_EQ(mounts[0], (TmpfsMount{"/dev", "tmpfs", {"size=64k", "mode=755", "inode64"}, {"nosuid"}, "0:79"}));
  EXPECT_EQ(mounts[1].target, "/dev/shm");
  EXPECT_EQ(mounts[1].flags, (std::vector<std::string>{"nosuid", "nodev", "noexec", "relatime"}));
  EXPECT_EQ(mounts[2].target, "/with blank");
  EXPECT_EQ(mounts[2].source, "my\\name");
}

TEST(Tmpfs, AnyTextIsRead) {
  const std::string text = kMountinfo;
  for (std::size_t size = 0; size < text.size(); ++size) (void)parse_tmpfs_mounts(text.substr(0, size));
  EXPECT_TRUE(parse_tmpfs_mounts("- - - - - - - -\n").empty());
  EXPECT_TRUE(parse_tmpfs_mounts("").empty());
}

TEST(Tmpfs, GoesThroughAMessage) {
  const std::vector<TmpfsMount> mounts = parse_tmpfs_mounts(kMountinfo);
  auto again = tmpfs_mounts_from(to_json(mounts));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  ASSERT_EQ(again->size(), mounts.size());
  EXPECT_EQ((*again)[0].device, "");
  (*again)[0].device = mounts[0].device;
  EXPECT_EQ((*again)[0], mounts[0]);
}

TEST(Tmpfs, RefusesWhatNoSourceSends) {
  const auto refused = [](auto change) {
    std::vector<TmpfsMount> mounts = parse_tmpfs_mounts(kMountinfo);
    change(mounts);
    return !tmpfs_mounts_from(to_json(mounts)).has_value();
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_TRUE(refused([](auto& mounts) { mounts[0].target = "/"; }));
  EXPECT_TRUE(refused([](auto& mounts) { mounts[0].target = "dev"; }));
  EXPECT_TRUE(refused([](auto& mounts) { mounts[0].options = {"usrquota"}; }));
  EXPECT_TRUE(refused([](auto& mounts) { mounts[0].flags = {"ro"}; }));
  EXPECT_TRUE(refused([](auto& mounts) { mounts.resize(65, mounts[0]); }));
  EXPECT_FALSE(tmpfs_mounts_from(json::array{1}).has_value());
}

TEST(Tmpfs, MakesOneThatIsMountedNowhere) {
  auto root = make_tmpfs({"/tmp", "tmpfs", {"size=64k", "mode=1777", "uid=7"}, {"nosuid", "nodev"}, ""});
  ASSERT_TRUE(root.has_value()) << root.error().message;
  struct statvfs size {};
  ASSERT_EQ(::fstatvfs(root->get(), &size), 0);
  EXPECT_EQ(size.f_blocks * size.f_frsize, 65536u);
  EXPECT_EQ(size.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC), static_cast<unsigned long>(ST_NOSUID | ST_NODEV));
  struct stat info {};
  ASSERT_EQ(::fstat(root->get(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 01777u);
  EXPECT_EQ(info.st_uid, 7u);
  const Fd file(::openat(root->get(), "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  EXPECT_TRUE(file);
}

TEST(Tmpfs, SaysWhichOptionIsBad) {
  auto root = make_tmpfs({"/tmp", "tmpfs", {"size=lots"}, {}, ""});
  ASSERT_FALSE(root.has_value());
  EXPECT_NE(root.error().message.find("'size=lots'"), std::string::npos) << root.error().message;
  EXPECT_NE(root.error().message.find("/tmp"), std::string::npos);
}

}  // namespace
}  // namespace lifeboat
