// Events as systemd's journal gets them, and their catalog.
#include "events.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "base/fd.hpp"
#include "base/file.hpp"
#include "base/journald.hpp"
#include "base/log.hpp"

namespace lifeboat {
namespace {

TEST(JournaldEntry, FieldsAndValuesOfSeveralLines) {
  EXPECT_EQ(journald_entry({{"MESSAGE", "node is up"}, {"PRIORITY", "6"}}), "MESSAGE=node is up\nPRIORITY=6\n");
  // Name, line break, length as 64 bits, value, line break.
  EXPECT_EQ(journald_entry({{"A", "x\ny"}}), std::string("A\n\x03\0\0\0\0\0\0\0x\ny\n", 14));
  EXPECT_EQ(journald_field("migration"), "LIFEBOAT_MIGRATION");
  EXPECT_EQ(journald_field("paths.run_dir"), "LIFEBOAT_PATHS_RUN_DIR");
}

// In a process of its own: standard error, and what is known of it, are for all of one.
[[noreturn]] void log_to_a_journald_that_hangs() {
  ::alarm(60);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || ::dup2(ends[0], STDERR_FILENO) < 0) ::_exit(1);
  struct stat info {};
  if (::fstat(STDERR_FILENO, &info) != 0) ::_exit(2);
  ::setenv("JOURNAL_STREAM", (std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino)).c_str(), 1);
  for (int i = 0; i < 20'000; ++i) log::info("said while it hangs");
  std::string text(1 << 20, '\0');
  const auto read = [&] {
    const ssize_t n = ::recv(ends[1], text.data(), text.size(), MSG_DONTWAIT);
    return std::string_view(text).substr(0, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  };
  while (!read().empty()) {}
  log::info("it goes on");
  const std::regex expected("warn [1-9]\\d* lines before this one are lost.*\n.*info it goes on\n$");
  ::_exit(std::regex_search(std::string(read()), expected) ? 6 : 4);
}

TEST(Journald, OneThatHangsHoldsUpNobody) {
  if (std::filesystem::exists("/run/systemd/journal/socket")) GTEST_SKIP() << "there is a real one, which would listen";
  EXPECT_EXIT(log_to_a_journald_that_hangs(), testing::ExitedWithCode(6), "");
}

TEST(Journald, SendsADatagramAndSaysWhenNobodyTookIt) {
  char name[] = "/tmp/lifeboat-journald-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string path = std::string(name) + "/socket";
  EXPECT_FALSE(Journald(path).send({{"MESSAGE", "x"}}));
  const Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_TRUE(Journald(path).send({{"MESSAGE", "x"}, {"PRIORITY", "4"}}));
  char buffer[64];
  const ssize_t size = ::recv(fd.get(), buffer, sizeof buffer, 0);
  ASSERT_GT(size, 0);
  EXPECT_EQ(std::string(buffer, static_cast<std::size_t>(size)), "MESSAGE=x\nPRIORITY=4\n");
  std::filesystem::remove_all(name);
}

TEST(Events, IdsAreUnlike) {
  std::set<std::string_view> ids;
  std::set<std::string_view> names;
  const std::regex id("[0-9a-f]{32}");
  for (const log::Event& event : events::kAll) {
    EXPECT_TRUE(std::regex_match(std::string(event.id), id)) << event.name;
    EXPECT_TRUE(ids.insert(event.id).second) << event.name;
    EXPECT_TRUE(names.insert(event.name).second) << event.name;
  }
}

// Each id as `-- ID`, with the event's name as its support topic's first word.
TEST(Events, TheCatalogHasEachAndNoOther) {
  const auto text = read_file(LIFEBOAT_SOURCE_DIR "/configs/lifeboat.catalog");
  ASSERT_TRUE(text.has_value());
  std::map<std::string, std::string> subjects;
  std::istringstream lines(*text);
  std::string id;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("-- ")) id = line.substr(3);
    if (line.starts_with("Subject: ")) subjects[id] = line.substr(9);
  }
  EXPECT_EQ(subjects.size(), std::size(events::kAll));
  for (const log::Event& event : events::kAll) {
    EXPECT_TRUE(subjects[std::string(event.id)].starts_with(std::string(event.name) + ": ")) << event.name;
  }
}

}  // namespace
}  // namespace lifeboat
