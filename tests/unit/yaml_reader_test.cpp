// Every message of the YAML reader, and what it does with hostile text.
#include "base/yaml_reader.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace lifeboat::yaml {
namespace {

using namespace std::chrono_literals;

using Body = std::function<void(Reader&)>;

// What read() says about `text`; "" if nothing.
std::string told(
    std::string_view text, const Body& body = [](Reader&) {}) {
  const Status status = read(text, "f.yaml", body);
  if (status) return "";
  EXPECT_EQ(status.error().code, Errc::kInvalid);
  return status.error().message;
}

// What is said about `text` as the value of the required key `k`.
template <class T, Kind K>
std::string told_of(const std::string& text, const K& kind) {
  return told("k: " + text, [&](Reader& m) {
    T value{};
    m.required("k", value, kind);
  });
}

template <class T, Kind K>
T value_of(const std::string& text, const K& kind) {
  T value{};
  EXPECT_EQ(told("k: " + text, [&](Reader& m) { m.required("k", value, kind); }), "");
  return value;
}

std::string repeated(const std::string& piece, std::size_t bytes) {
  std::string text;
  while (text.size() + piece.size() <= bytes) text += piece;
  return text;
}

TEST(YamlKinds, ReadsValues) {
  EXPECT_EQ(value_of<int>("-7", Integer{-10, 10}), -7);
  EXPECT_EQ(value_of<std::uint16_t>("65535", Integer{1, 65535}), 65535);
  EXPECT_EQ(value_of<bool>("true", Boolean{}), true);
  EXPECT_EQ(value_of<std::string>("\"two\\nlines\"", Text{}), "two\nlines");
  EXPECT_EQ(value_of<std::string>("n-1", Name{32}), "n-1");
  EXPECT_EQ(value_of<std::chrono::milliseconds>("500ms", Duration{1ms, 1h}), 500ms);
  EXPECT_EQ(value_of<std::chrono::milliseconds>("5min", Duration{1ms, 1h}), 5min);
  EXPECT_EQ(value_of<std::uint64_t>("64MiB", Size{1, 1ull << 40}), 64ull << 20);
  EXPECT_EQ(value_of<std::uint64_t>("512KiB", Size{1, 1ull << 40}), 512ull << 10);
  EXPECT_EQ(value_of<std::uint64_t>("10Gbit", Rate{1, 1ull << 40}), 10'000'000'000ull);
  EXPECT_EQ(value_of<int>("two", Choice<int>{{{"one", 1}, {"two", 2}}}), 2);
}

TEST(YamlKinds, SayWhatWouldHaveBeenRight) {
  EXPECT_EQ(told_of<int>("eight", Integer{1, 32}),
            "f.yaml:1:4: k: expected an integer from 1 to 32, got 'eight'");
  EXPECT_EQ(told_of<int>("33", Integer{1, 32}),
            "f.yaml:1:4: k: expected an integer from 1 to 32, got '33'");
  EXPECT_EQ(told_of<bool>("yes", Boolean{}), "f.yaml:1:4: k: expected true or false, got 'yes'");
  EXPECT_EQ(told_of<std::string>("''", Text{1, 8}),
            "f.yaml:1:4: k: expected text of 1 to 8 bytes, got ''");
  EXPECT_EQ(told_of<std::string>("Node_1", Name{32}),
            "f.yaml:1:4: k: expected a name of 1 to 32 characters a-z, 0-9 or '-' (not first), "
            "got 'Node_1'");
  EXPECT_EQ(told_of<std::chrono::milliseconds>("5", Duration{100ms, 10min}),
            "f.yaml:1:4: k: expected a duration from 100ms to 10min (unit ms, s, min or h), "
            "got '5'");
  EXPECT_EQ(told_of<std::uint64_t>("1024", Size{1ull << 20, 1ull << 40}),
            "f.yaml:1:4: k: expected a size from 1MiB to 1TiB (unit B, KiB, MiB, GiB or TiB), "
            "got '1024'");
  EXPECT_EQ(told_of<std::uint64_t>("1GB/s", Rate{1'000'000, 1'000'000'000}),
            "f.yaml:1:4: k: expected a rate from 1Mbit to 1Gbit (unit Mbit or Gbit), "
            "got '1GB/s'");
  EXPECT_EQ(told_of<int>("three", Choice<int>{{{"one", 1}, {"two", 2}}}),
            "f.yaml:1:4: k: expected one of one, two, got 'three'");
  EXPECT_EQ(told_of<std::string>("a/b", Path{}),
            "f.yaml:1:4: k: expected an absolute path of at most 1024 bytes, got 'a/b'");
  EXPECT_EQ(told_of<int>("", Integer{1, 2}),
            "f.yaml:1:1: k: expected an integer from 1 to 2, got nothing");
  EXPECT_EQ(told_of<int>("[1]", Integer{1, 2}),
            "f.yaml:1:4: k: expected an integer from 1 to 2, got a list");
  EXPECT_EQ(told_of<int>("{a: 1}", Integer{1, 2}),
            "f.yaml:1:4: k: expected an integer from 1 to 2, got a mapping");
}

TEST(YamlKinds, NumbersAreWholeAndDoNotOverflow) {
  for (const char* text : {"1.0", "0x1", "+1", "1 2", "99999999999999999999", "1e0"}) {
    EXPECT_NE(told_of<int>(text, Integer{0, 10}), "") << text;
  }
  for (const char* text : {"18014398509481985KiB", "99999999999999999999B", "-1KiB", "1.5GiB",
                           "1 GiB", "1gib", "GiB", "1GiBs"}) {
    EXPECT_NE(told_of<std::uint64_t>(text, Size{0, ~0ull}), "") << text;
  }
}

TEST(YamlKinds, PathsAreMadeNormal) {
  EXPECT_EQ(Path{}.parse("/a/./b/../c/"), "/a/c");
  EXPECT_EQ(Path{}.parse("/../.."), "/");
  EXPECT_EQ(Path{}.parse("//a"), "/a");
  EXPECT_EQ(Path{"/jobs"}.parse("x/y"), "/jobs/x/y");
  EXPECT_EQ(Path{"/jobs"}.parse("../x"), "/x");
  EXPECT_EQ(Path{"/jobs"}.parse("/x"), "/x");
  EXPECT_EQ(Path{}.parse(""), std::nullopt);
}

TEST(YamlKinds, QuantitiesAsText) {
  EXPECT_EQ(to_text(0ms), "0ms");
  EXPECT_EQ(to_text(1500ms), "1500ms");
  EXPECT_EQ(to_text(60s), "1min");
  EXPECT_EQ(size_text(0), "0B");
  EXPECT_EQ(size_text(1000), "1000B");
  EXPECT_EQ(size_text(1536ull << 20), "1536MiB");
}

TEST(YamlReader, StructsFromYaml) {
  struct Item {
    std::string name;
    int port = 7;
  };
  std::vector<Item> items;
  std::vector<std::string> words;
  std::vector<std::pair<std::string, std::string>> env;
  int depth = 0;
  const std::string text =
      "items:\n- name: a\n  port: 1\n- {name: b}\nwords: [x, 'y z']\nenv: {B: 2, A: ''}\n"
      "deep: {deeper: {depth: 3}}\nempty:\n";
  EXPECT_EQ(told(text,
                 [&](Reader& m) {
                   m.each("items", items, {1, 4}, [](Reader& i, Item& item) {
                     i.required("name", item.name, Name{8});
                     i.optional("port", item.port, Integer{1, 9});
                   });
                   m.list("words", words, {0, 4}, Text{});
                   m.table("env", env, {0, 4}, Text{}, Text{0});
                   m.map("deep", [&](Reader& d) {
                     d.map("deeper", [&](Reader& e) { e.required("depth", depth, Integer{1, 9}); });
                   });
                   m.map("empty", [&](Reader& e) { e.optional("depth", depth, Integer{1, 9}); });
                   m.map("absent", [&](Reader& e) { e.optional("depth", depth, Integer{1, 9}); });
                 }),
            "");
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].port, 1);
  EXPECT_EQ(items[1].name, "b");
  EXPECT_EQ(items[1].port, 7);
  EXPECT_EQ(words, (std::vector<std::string>{"x", "y z"}));
  EXPECT_EQ(env, (std::vector<std::pair<std::string, std::string>>{{"B", "2"}, {"A", ""}}));
  EXPECT_EQ(depth, 3);
}

TEST(YamlReader, EveryMistakeInFileOrder) {
  const std::string text =
      "nodes:\n"
      "  - name: n1\n"
      "  - name: n1\n"
      "    prot: 5\n"
      "  - n3\n"
      "  - {}\n"
      "budget:\n"
      "  downtme: 5\n"
      "  n2: 1\n"
      "  n2: 2\n"
      "[x]: y\n"
      "zzz: 1\n";
  EXPECT_EQ(told(text,
                 [](Reader& m) {
                   int number = 0;
                   Seen seen;
                   m.required("missing", number, Integer{1, 2});
                   m.map("budget", [&](Reader& b) {
                     b.optional("downtime", number, Integer{1, 2});
                     b.optional("n2", number, Integer{1, 1});
                   });
                   std::vector<std::string> names;
                   m.each("nodes", names, {1, 9}, [&](Reader& n, std::string& name) {
                     n.optional("port", number, Integer{1, 9});
                     if (n.required("name", name, Name{8})) n.unique("name", name, seen);
                   });
                 }),
            "f.yaml:1:1: missing: required key is missing\n"
            "f.yaml:3:11: nodes[1].name: 'n1' appears twice (first at line 2)\n"
            "f.yaml:4:5: nodes[1].prot: unknown key; did you mean 'port'?\n"
            "f.yaml:5:5: nodes[2]: expected a mapping, got 'n3'\n"
            "f.yaml:6:5: nodes[3].name: required key is missing\n"
            "f.yaml:8:3: budget.downtme: unknown key; did you mean 'downtime'?\n"
            "f.yaml:10:3: budget: key 'n2' appears twice (first at line 9)\n"
            "f.yaml:11:1: a key must be text\n"
            "f.yaml:12:1: zzz: unknown key");
}

TEST(YamlReader, CountsEntries) {
  const Body two = [](Reader& m) {
    std::vector<std::string> words;
    m.list("w", words, {1, 2}, Text{});
  };
  const Body none = [](Reader& m) {
    std::vector<std::string> words;
    m.list("w", words, {0, 2}, Text{});
  };
  EXPECT_EQ(told("w: [a, b, c]", two), "f.yaml:1:4: w: expected a list of 1 to 2 entries, got 3");
  EXPECT_EQ(told("w: []", two), "f.yaml:1:4: w: expected a list of 1 to 2 entries, got 0");
  EXPECT_EQ(told("w: a", two), "f.yaml:1:4: w: expected a list of 1 to 2 entries, got 'a'");
  EXPECT_EQ(told("w:", two), "f.yaml:1:1: w: expected a list of 1 to 2 entries, got nothing");
  EXPECT_EQ(told("{}", two), "f.yaml:1:1: w: required key is missing");
  EXPECT_EQ(told("w: [a, [b]]", two),
            "f.yaml:1:8: w[1]: expected text of 1 to 4096 bytes, "
            "got a list");
  EXPECT_EQ(told("w:", none), "");
  EXPECT_EQ(told("{}", none), "");
}

TEST(YamlReader, TableKeysAreChecked) {
  EXPECT_EQ(told("e: {A-B: 1, ok: [], ok: 2, [x]: 3}",
                 [](Reader& m) {
                   std::vector<std::pair<std::string, std::string>> env;
                   m.table("e", env, {0, 9}, Choice<std::string>{{{"ok", "ok"}}}, Text{});
                 }),
            "f.yaml:1:5: e: expected one of ok, got 'A-B'\n"
            "f.yaml:1:17: e.ok: expected text of 1 to 4096 bytes, got a list\n"
            "f.yaml:1:21: e: key 'ok' appears twice (first at line 1)\n"
            "f.yaml:1:28: e: a key must be text");
}

TEST(YamlReader, SuggestsOnlyWhatIsNear) {
  const std::set<std::string, std::less<>> known{"port", "downtime_budget", "rounds_max"};
  EXPECT_EQ(nearest("downtme_budget", known), "downtime_budget");
  EXPECT_EQ(nearest("downtime-budget", known), "downtime_budget");
  EXPECT_EQ(nearest("ports", known), "port");
  EXPECT_EQ(nearest("prot", known), "port");
  EXPECT_EQ(nearest("sports", known), "port");
  EXPECT_EQ(nearest("spurt", known), "");  // two edits of five letters
  EXPECT_EQ(nearest("x", known), "");
  EXPECT_EQ(nearest("", known), "");
}

TEST(YamlReader, NotYaml) {
  EXPECT_EQ(told(""), "f.yaml:1:1: the file is empty");
  EXPECT_EQ(told("# nothing\n"), "f.yaml:1:1: the file is empty");
  EXPECT_EQ(told("---\n"), "f.yaml:1:1: the file is empty");
  EXPECT_EQ(told("- a\n"), "f.yaml:1:1: expected a mapping, got a list");
  EXPECT_EQ(told("word"), "f.yaml:1:1: expected a mapping, got 'word'");
  EXPECT_EQ(told("a: b\n  c: d\n"), "f.yaml:2:4: not valid YAML: illegal map value");
  EXPECT_EQ(told("a: [1, 2\n"), "f.yaml:2:1: not valid YAML: end of sequence flow not found");
  EXPECT_EQ(told("a: \"b"), "f.yaml:1:6: not valid YAML: illegal EOF in scalar");
  EXPECT_EQ(told("a: b\n---\nc: d\n"), "f.yaml:2:1: more than one document in the file");
}

TEST(YamlReader, FilesThatCannotBeRead) {
  const auto told_of_file = [](const std::string& path) {
    const Status status = read_file(path, [](Reader&) {});
    return status ? ""
                  : std::string(to_string(status.error().code)) + ": " + status.error().message;
  };
  EXPECT_EQ(told_of_file("/nonexistent/f.yaml"),
            "system: read /nonexistent/f.yaml: No such file or directory; "
            "a YAML file that this user may read is needed");
  EXPECT_EQ(told_of_file("/"), "invalid: read /: not a regular file; name a YAML file");
  EXPECT_EQ(told_of_file("/dev/zero"),
            "invalid: read /dev/zero: not a regular file; name a YAML file");
  const std::string path = ::testing::TempDir() + "/yaml_reader_test.yaml";
  std::ofstream(path) << std::string((1 << 20) + 1, '#');
  EXPECT_EQ(told_of_file(path), "invalid: read " + path +
                                    ": larger than 1048576 bytes; "
                                    "a YAML file that this user may read is needed");
  std::ofstream(path) << "a: 1\n";
  EXPECT_EQ(told_of_file(path), "invalid: " + path + ":1:1: a: unknown key");
  std::remove(path.c_str());
}

TEST(YamlHostile, Limits) {
  EXPECT_EQ(told(std::string((1 << 20) + 1, ' ')),
            "f.yaml:1:1: larger than 1MiB, which is the limit");
  const auto lists = [](std::size_t n) {
    return "a: " + std::string(n, '[') + std::string(n, ']');
  };
  EXPECT_EQ(told(lists(31)), "f.yaml:1:1: a: unknown key");
  EXPECT_EQ(told(lists(32)), "f.yaml:1:35: nested deeper than 32 lists and mappings");
  EXPECT_TRUE(told("a: " + std::string(100'000, '[')).ends_with("32 lists and mappings"));
  EXPECT_EQ(told("a: " + repeated("{a: ", 100'000)),
            "f.yaml:1:128: nested deeper than 32 lists and mappings");
  EXPECT_EQ(told(repeated("- ", 100'000)), "f.yaml:1:65: nested deeper than 32 lists and mappings");
  EXPECT_EQ(told("a: &x [1]\nb: [*x, *x]\n"),
            "f.yaml:1:4: anchors and aliases (&, *) are not allowed; repeat the value");
  EXPECT_EQ(told("a: *x\n"), "f.yaml:1:4: not valid YAML: the referenced anchor is not defined");
  EXPECT_EQ(told("a: !!python/object:os.system [x]\n"),
            "f.yaml:1:4: tags are not allowed: 'tag:yaml.org,2002:python/object:os.system'");
}

TEST(YamlHostile, Bytes) {
  EXPECT_EQ(told(std::string("a: b\nc: \0d\n", 11)),
            "f.yaml:2:4: byte 0x00 is not text; the file must be UTF-8 YAML");
  EXPECT_EQ(told("a: \"x\\0y\"\n"), "f.yaml:1:4: a NUL character is not allowed in a value");
  EXPECT_EQ(told("\x7f"
                 "ELF\x02\x01"),
            "f.yaml:1:5: byte 0x02 is not text; the file must be UTF-8 YAML");
  for (const char* text : {"\xff\xfe", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                           "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xe2\x82", "\x80"}) {
    EXPECT_TRUE(told(text).ends_with("is not text; the file must be UTF-8 YAML")) << text;
  }
  EXPECT_EQ(told("ü€𝄞: 1\n"), "f.yaml:1:1: ü€𝄞: unknown key");
}

TEST(YamlHostile, MessagesStayShortAndPrintable) {
  EXPECT_EQ(told("\"a\\e[31m\\n\": 1\n"), "f.yaml:1:1: a\\x1b[31m\\x0a: unknown key");
  EXPECT_EQ(told(std::string(1000, 'k') + ": 1\n"),
            "f.yaml:1:1: " + std::string(60, 'k') + "...: unknown key");
  EXPECT_EQ(quote(std::string(59, 'x') + "ü-"), "'" + std::string(59, 'x') + "ü...'");
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "k" + std::to_string(i) + ": 1\n";
  const std::string all = told(many);
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 50);
  EXPECT_TRUE(all.ends_with("\nf.yaml:50:1: k49: unknown key\nf.yaml: and 950 more mistakes"));
}

TEST(YamlHostile, RepeatedPiecesEndSoon) {
  for (const char* piece :
       {"[",     "{",        "? ",    "- ",    "a: ", "{a: ",   "[a, ",  "\"",   "'",
        "|\n",   "!a ",      "%a ",   "\n",    "a\n", "a: b\n", "[a]: ", "- - ", "-\n",
        "?\n",   ":\n",      ",",     "]",     "}",   "a",      "!",     "&",    "*",
        "- a\n", "{a: b}\n", "---\n", "...\n", "[]",  "{}",     "? - "}) {
    (void)read(repeated(piece, 100'000), "f.yaml", [](Reader& m) {
      std::vector<std::string> list;
      m.list("a", list, {0, 4}, Text{});
    });
  }
}

TEST(YamlHostile, DamagedTextNeverCrashes) {
  const std::string good =
      "a: {b: [1, \"x\\n\", 'y'], c: |\n  text\n}\nd:\n- e: >\n    folded\n  f: ~\n- &g h\n"
      "? [i]\n: *g\n%YAML 1.2\n---\n!!str j: # k\n";
  std::mt19937 random(1);
  const auto pick = [&](std::size_t below) { return random() % below; };
  for (int round = 0; round < 20'000; ++round) {
    std::string text = good;
    for (std::size_t edit = 0; edit <= pick(8); ++edit) {
      const std::size_t at = pick(text.size());
      switch (pick(4)) {
        case 0:
          text[at] = good[pick(good.size())];
          break;
        case 1:
          text[at] = static_cast<char>(pick(256));
          break;
        case 2:
          text.erase(at, 1 + pick(4));
          break;
        default:
          text.insert(at, good.substr(pick(good.size()), 1 + pick(12)));
          break;
      }
    }
    (void)read(text, "f.yaml", [](Reader& m) {
      std::vector<std::pair<std::string, std::string>> table;
      m.table("a", table, {0, 9}, Text{}, Text{});
      std::vector<std::string> list;
      m.list("d", list, {0, 4}, Text{});
    });
  }
}

}  // namespace
}  // namespace lifeboat::yaml
