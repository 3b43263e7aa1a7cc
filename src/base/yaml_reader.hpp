// yaml_reader.hpp - turns YAML written by people into structs and reports every mistake in one run,
// each as `file:line:col: path: message`, in file order:
//
//   lab.yaml:14:17: limits.migrations_per_node: expected an integer from 1 to 64, got 'eight'
//   lab.yaml:16:3: peer.prot: unknown key; did you mean 'port'?
//
// Use:
//
//   Status ok = yaml::read(text, "lab.yaml", [&](yaml::Reader& m) {
//     m.required("name", out.name, yaml::Name{32});
//     m.map("peer", [&](yaml::Reader& p) { p.optional("port", out.port, yaml::Integer{1, 65535});
//     }); m.each("nodes", out.nodes, yaml::Count{1, 64}, [](yaml::Reader& n, Node& node) {
//       n.required("memory", node.memory_bytes, yaml::Size{1 << 20, 1ull << 44});
//     });
//   });
//
// What was not asked for is an unknown key: there is no schema beside the code that reads.
// What a value may be is a Kind: `parse` gives the value or nothing, `expected` says in words what
// would have been right; define your own where the words belong to one file only.
//
// Why a tree of our own and not YAML::Node: yaml-cpp keeps duplicate keys silently, expands aliases
// without limit and has no position for what is missing. We take its parser's events, so depth,
// aliases and tags are refused before anything is built. The text may come from a peer: every
// limit below ends in an error, never in a crash.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/yaml_kinds.hpp"

namespace lifeboat::yaml {

inline constexpr std::size_t kTextBytesMax = 1 << 20;
inline constexpr int kDepthMax = 32;              // nested lists and mappings
inline constexpr std::size_t kMistakesTold = 50;  // further ones are only counted

class Reader;

// Parses `text` and lets `body` read its outermost mapping. kInvalid with every mistake, one a
// line, each beginning with `name` (the file's path, or what the text is).
Status read(std::string_view text, const std::string& name,
            const std::function<void(Reader&)>& body);
// A file that people wrote. kInvalid when it is none that can be; kSystem if it cannot be read.
Result<std::string> text_of_file(const std::string& path);
// read() of such a file.
Status read_file(const std::string& path, const std::function<void(Reader&)>& body);

struct Position {
  int line = 1;  // from 1
  int column = 1;
};

struct Node {
  enum class Type { kNothing, kText, kList, kMap };
  Type type = Type::kNothing;
  Position at;
  std::string text;         // of kText
  std::vector<Node> items;  // of kList: the entries; of kMap: key, value, key, value, ...
};

// How many entries a list or a mapping with free keys may have. `min` 0 makes it optional.
struct Count {
  std::size_t min;
  std::size_t max;
};

// Values seen so far, with the line, for what must be unique.
using Seen = std::map<std::string, int>;

class Mistakes {
 public:
  explicit Mistakes(std::string name) : name_(std::move(name)) {}
  // `path` may be empty: the mistake is in the file as such.
  void add(Position at, const std::string& path, const std::string& message);
  // More than will be told: no use in working on their wording.
  [[nodiscard]] bool plenty() const { return list_.size() > kMistakesTold; }
  // OK if there are none, otherwise kInvalid with all of them in file order.
  [[nodiscard]] Status status() const;

 private:
  struct Mistake {
    Position at;
    std::string text;
  };
  std::string name_;
  std::vector<Mistake> list_;
};

// One mapping while it is being read. Keys may be asked for in any order. A false return means a
// mistake was noted (or, from optional(), nothing given) and `out` is as it was.
class Reader {
 public:
  Reader(Mistakes& mistakes, const Node& map, std::string path);

  template <class T, Kind K>
  bool required(std::string_view key, T& out, const K& kind) {
    const Node* value = find(key);
    return value != nullptr ? convert(*value, path_of(key), out, kind) : missing(key);
  }

  template <class T, Kind K>
  bool optional(std::string_view key, T& out, const K& kind) {
    const Node* value = find(key);
    return value != nullptr && convert(*value, path_of(key), out, kind);
  }

  // A list of scalars.
  template <class T, Kind K>
  void list(std::string_view key, std::vector<T>& out, Count count, const K& kind) {
    for (const auto& [node, path] : entries(key, count)) {
      if (T value{}; convert(*node, path, value, kind)) out.push_back(std::move(value));
    }
  }

  // A nested mapping. If it is not there, `body` reads an empty one in its place: its required
  // keys are reported as missing, its optional ones keep their defaults.
  void map(std::string_view key, const std::function<void(Reader&)>& body);

  // A list of mappings; `body(Reader&, T&)` reads one into a new last element of `out`.
  template <class T, class Body>
  void each(std::string_view key, std::vector<T>& out, Count count, const Body& body) {
    for (const auto& [node, path] : entries(key, count)) {
      into(*node, path, [&](Reader& reader) { body(reader, out.emplace_back()); });
    }
  }

  // A mapping whose keys are data: environment variables, for example. Keeps the order.
  template <Kind KeyKind, Kind K>
  void table(std::string_view key, std::vector<std::pair<std::string, std::string>>& out,
             Count count, const KeyKind& key_kind, const K& kind) {
    for (const auto& [name, value] : pairs(key, count)) {
      std::pair<std::string, std::string> row;
      const bool good = convert(*name, path_of(key), row.first, key_kind);
      if (convert(*value, join(path_of(key), name->text), row.second, kind) && good) {
        out.push_back(std::move(row));
      }
    }
  }

  // Whether the key is given. It counts as known then, whether or not it is read.
  [[nodiscard]] bool has(std::string_view key) { return find(key) != nullptr; }
  // Notes a mistake of meaning at the key's value, or at this mapping if the key is not given.
  void mistake(std::string_view key, const std::string& message);
  // Notes a mistake if `value`, which `key` held, is in `seen`; adds it if not.
  void unique(std::string_view key, const std::string& value, Seen& seen);
  // Reports the keys nobody asked for. read(), map() and each() call it after the body.
  void finish();

 private:
  using Pairs = std::vector<std::pair<const Node*, const Node*>>;

  template <class T, Kind K>
  bool convert(const Node& node, const std::string& path, T& out, const K& kind) {
    if (node.type == Node::Type::kText) {
      if (auto value = kind.parse(node.text)) {
        out = static_cast<T>(*std::move(value));
        return true;
      }
    }
    return wrong(node, path, kind.expected());
  }

  static std::string join(const std::string& path, std::string_view key);
  [[nodiscard]] std::string path_of(std::string_view key) const { return join(path_, key); }
  const Node* find(std::string_view key);
  bool missing(std::string_view key);
  bool wrong(const Node& node, const std::string& path, const std::string& expected);
  bool counted(const Node* node, std::string_view key, Count count, Node::Type type);
  std::vector<std::pair<const Node*, std::string>> entries(std::string_view key, Count count);
  Pairs pairs(std::string_view key, Count count);
  void into(const Node& node, const std::string& path, const std::function<void(Reader&)>& body);
  friend Status read(std::string_view, const std::string&, const std::function<void(Reader&)>&);

  Mistakes& mistakes_;
  Position at_;
  std::string path_;
  std::map<std::string_view, std::pair<const Node*, const Node*>> values_;  // of the tree's nodes
  std::set<std::string, std::less<>> known_;
};

// The one of `known` that `word` was probably meant to be; empty if none is near.
std::string nearest(std::string_view word, const std::set<std::string, std::less<>>& known);
// 'text' for a message: control characters escaped, cut when long.
std::string quote(std::string_view text);

}  // namespace lifeboat::yaml
