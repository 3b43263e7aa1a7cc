// Events as systemd's journal gets them, and their catalog.
#include "events.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "base/fd.hpp"
#include "base/file.hpp"
#include "base/journald.hpp"

namespace lifeboat {
namespace {

TEST(JournaldEntry, FieldsAndValuesOfSeveralLines) {
  EXPECT_EQ(journald_entry({{"MESSAGE", "node is up"}, {"PRIORITY", "6"}}), "MESSAGE=node is up\nPRIORITY=6\n");
  // Name, line break, length as 64 bits, value, line break.
  EXPECT_EQ(journald_entry({{"A", "x\ny"}}), std::string("A\n\x03\0\0\0\0\0\0\0x\ny\n", 14));
  EXPECT_EQ(journald_field("migration"), "LIFEBOAT_MIGRATION");
  EXPECT_EQ(journald_field("paths.run_dir"), "LIFEBOAT_PATHS_RUN_DIR");
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
