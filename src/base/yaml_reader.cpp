#include "base/yaml_reader.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <sstream>

#include "base/file.hpp"

namespace lifeboat::yaml {

namespace {

struct Refused {
  Position at;
  std::string message;
};

Position position(const YAML::Mark& mark) {
  return mark.is_null() ? Position{} : Position{mark.line + 1, mark.column + 1};
}

// Length of the well-formed UTF-8 sequence at the start of `text`; 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xc2 ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                             : lead < 0xf5 ? 4
                                           : 0;
  if (length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and what lies above U+10FFFF.
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) ||
      (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f)) {
    return 0;
  }
  return length;
}

// Throws Refused unless all of `text` is UTF-8 text.
void check_characters(std::string_view text) {
  Position at;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text.substr(i));
    const auto c = static_cast<unsigned char>(text[i]);
    const bool control = c < 0x20 && c != '\t' && c != '\n' && c != '\r';
    if (length == 0 || control) {
      constexpr char kHex[] = "0123456789abcdef";
      throw Refused{at, std::string("byte 0x") + kHex[c >> 4] + kHex[c & 15] +
                            " is not text; the file must be UTF-8 YAML"};
    }
    i += length;
    at = c == '\n' ? Position{at.line + 1, 1} : Position{at.line, at.column + 1};
  }
}

// Builds the tree from the parser's events, refusing what is beyond our limits as it comes.
class Builder : public YAML::EventHandler {
 public:
  Node root;

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Refused{position(mark), "more than one document in the file"};
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    const bool is_value = !open_.empty() && open_.back()->type == Node::Type::kMap &&
                          open_.back()->items.size() % 2 == 1;
    // yaml-cpp places a missing value at the next token; the key is where people look.
    const Position at = is_value ? open_.back()->items.back().at : position(mark);
    add(Node::Type::kNothing, at, "");
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark); }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { refuse_anchor(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    if (value.find('\0') != std::string::npos) {
      throw Refused{position(mark), "a NUL character is not allowed in a value"};
    }
    add(Node::Type::kText, position(mark), tag).text = value;
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(Node::Type::kList, mark, tag);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(Node::Type::kMap, mark, tag);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  [[noreturn]] static void refuse_anchor(const YAML::Mark& mark) {
    throw Refused{position(mark), "anchors and aliases (&, *) are not allowed; repeat the value"};
  }

  Node& add(Node::Type type, Position at, const std::string& tag) {
    // "?" and "!" are the parser's own marks for plain and quoted text.
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Refused{at, "tags are not allowed: " + quote(tag)};
    }
    Node& node = open_.empty() ? root : open_.back()->items.emplace_back();
    node.type = type;
    node.at = at;
    return node;
  }

  void open(Node::Type type, const YAML::Mark& mark, const std::string& tag) {
    if (open_.size() >= kDepthMax) {
      throw Refused{position(mark),
                    "nested deeper than " + std::to_string(kDepthMax) + " lists and mappings"};
    }
    open_.push_back(&add(type, position(mark), tag));
  }

  int documents_ = 0;
  std::vector<Node*> open_;  // stable: a list of items grows only after its last item is closed
};

Node parse(std::string_view text) {
  if (text.size() > kTextBytesMax) {
    throw Refused{{}, "larger than " + size_text(kTextBytesMax) + ", which is the limit"};
  }
  check_characters(text);
  std::istringstream stream{std::string(text)};
  Builder builder;
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& e) {
    throw Refused{position(e.mark), "not valid YAML: " + e.msg};
  }
  if (builder.root.type == Node::Type::kNothing) throw Refused{{}, "the file is empty"};
  return std::move(builder.root);
}

// Edits that make `b` of `a`: insert, delete, replace, or swap two neighbours.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before;  // the rows of a[0..i-1), a[0..i) and a[0..i+1)
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::vector<std::size_t> next(b.size() + 1, i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      next[j + 1] = std::min({row[j] + (a[i] == b[j] ? 0 : 1), row[j + 1] + 1, next[j] + 1});
      const bool swapped = i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j];
      if (swapped) next[j + 1] = std::min(next[j + 1], before[j - 1] + 1);
    }
    before = std::exchange(row, std::move(next));
  }
  return row.back();
}

}  // namespace

std::string nearest(std::string_view word, const std::set<std::string, std::less<>>& known) {
  std::string best;
  std::size_t limit = std::clamp<std::size_t>(word.size() / 3, 1, 3) + 1;
  for (const std::string& name : known) {
    const auto [shorter, longer] = std::minmax({word.size(), name.size()});
    if (longer - shorter >= limit) continue;
    if (const std::size_t edits = distance(word, name); edits < limit) {
      limit = edits;
      best = name;
    }
  }
  return best;
}

std::string quote(std::string_view text) {
  constexpr std::size_t kBytesMax = 60;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (out.size() > kBytesMax && (byte & 0xc0) != 0x80) return out + "...'";
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
    } else {
      out += std::string("\\x") + kHex[byte >> 4] + kHex[byte & 15];
    }
  }
  return out + "'";
}

// ---- Reading ------------------------------------------------------------------------------------

Status read(std::string_view text, const std::string& name,
            const std::function<void(Reader&)>& body) {
  Mistakes mistakes(name);
  try {
    const Node root = parse(text);
    Reader outside(mistakes, Node{}, "");
    outside.into(root, "", body);
  } catch (const Refused& refused) {
    mistakes.add(refused.at, "", refused.message);
  }
  return mistakes.status();
}

Result<std::string> text_of_file(const std::string& path) {
  std::error_code ignored;
  const auto type = std::filesystem::status(path, ignored).type();
  if (type != std::filesystem::file_type::not_found &&
      type != std::filesystem::file_type::regular) {
    return fail(Errc::kInvalid, "read " + path + ": not a regular file; name a YAML file");
  }
  auto text = lifeboat::read_file(path, kTextBytesMax);
  if (!text) {
    return fail(text.error().code,
                text.error().message + "; a YAML file that this user may read is needed");
  }
  return text;
}

Status read_file(const std::string& path, const std::function<void(Reader&)>& body) {
  TRY(const std::string text, text_of_file(path));
  return read(text, path, body);
}

void Mistakes::add(Position at, const std::string& path, const std::string& message) {
  list_.push_back({at, (path.empty() ? "" : path + ": ") + message});
}

Status Mistakes::status() const {
  if (list_.empty()) return {};
  std::vector<Mistake> sorted = list_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Mistake& a, const Mistake& b) {
    return std::pair(a.at.line, a.at.column) < std::pair(b.at.line, b.at.column);
  });
  const std::size_t told = std::min(sorted.size(), kMistakesTold);
  std::string text;
  for (std::size_t i = 0; i < told; ++i) {
    const Mistake& m = sorted[i];
    if (i > 0) text += '\n';
    text +=
        name_ + ":" + std::to_string(m.at.line) + ":" + std::to_string(m.at.column) + ": " + m.text;
  }
  if (told < sorted.size()) {
    text += "\n" + name_ + ": and " + std::to_string(sorted.size() - told) + " more mistakes";
  }
  return fail(Errc::kInvalid, text);
}

Reader::Reader(Mistakes& mistakes, const Node& map, std::string path)
    : mistakes_(mistakes), at_(map.at), path_(std::move(path)) {
  for (std::size_t i = 0; i + 1 < map.items.size(); i += 2) {
    const Node& key = map.items[i];
    if (key.type != Node::Type::kText) {
      mistakes_.add(key.at, path_, "a key must be text");
      continue;
    }
    const auto [first, fresh] = values_.try_emplace(key.text, &key, &map.items[i + 1]);
    if (!fresh) {
      mistakes_.add(key.at, path_,
                    "key " + quote(key.text) + " appears twice (first at line " +
                        std::to_string(first->second.first->at.line) + ")");
    }
  }
}

void Reader::map(std::string_view key, const std::function<void(Reader&)>& body) {
  const Node* node = find(key);
  Node absent;
  absent.type = Node::Type::kMap;
  absent.at = node != nullptr ? node->at : at_;
  const bool nothing = node == nullptr || node->type == Node::Type::kNothing;
  into(nothing ? absent : *node, path_of(key), body);
}

void Reader::mistake(std::string_view key, const std::string& message) {
  const Node* node = find(key);
  mistakes_.add(node != nullptr ? node->at : at_, path_of(key), message);
}

void Reader::unique(std::string_view key, const std::string& value, Seen& seen) {
  const Node* node = find(key);
  const auto [first, fresh] = seen.emplace(value, node != nullptr ? node->at.line : at_.line);
  if (fresh) return;
  mistake(key,
          quote(value) + " appears twice (first at line " + std::to_string(first->second) + ")");
}

void Reader::finish() {
  for (const auto& [key, nodes] : values_) {
    if (known_.contains(key)) continue;
    const std::string meant = mistakes_.plenty() ? "" : nearest(key, known_);
    mistakes_.add(nodes.first->at, path_of(key),
                  meant.empty() ? "unknown key" : "unknown key; did you mean '" + meant + "'?");
  }
}

std::string Reader::join(const std::string& path, std::string_view key) {
  const std::string safe = quote(key);  // keys of a hostile file go into paths too
  const std::string name = safe.substr(1, safe.size() - 2);
  return path.empty() ? name : path + "." + name;
}

const Node* Reader::find(std::string_view key) {
  known_.emplace(key);
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : it->second.second;
}

bool Reader::missing(std::string_view key) {
  mistakes_.add(at_, path_of(key), "required key is missing");
  return false;
}

bool Reader::wrong(const Node& node, const std::string& path, const std::string& expected) {
  const auto got = [&]() -> std::string {
    switch (node.type) {
      case Node::Type::kNothing:
        return "nothing";
      case Node::Type::kText:
        return quote(node.text);
      case Node::Type::kList:
        return "a list";
      case Node::Type::kMap:
        return "a mapping";
    }
    return "";
  };
  mistakes_.add(node.at, path, "expected " + expected + ", got " + got());
  return false;
}

// Whether `node`, the value of `key`, is a list or mapping of `count` entries to go through.
bool Reader::counted(const Node* node, std::string_view key, Count count, Node::Type type) {
  const bool nothing = node == nullptr || node->type == Node::Type::kNothing;
  if (nothing && count.min == 0) return false;
  if (node == nullptr) return missing(key);
  const bool is_list = type == Node::Type::kList;
  const std::string expected = std::string(is_list ? "a list" : "a mapping") + " of " +
                               std::to_string(count.min) + " to " + std::to_string(count.max) +
                               " entries";
  if (node->type != type) return wrong(*node, path_of(key), expected);
  const std::size_t size = is_list ? node->items.size() : node->items.size() / 2;
  if (size >= count.min && size <= count.max) return true;
  mistakes_.add(node->at, path_of(key), "expected " + expected + ", got " + std::to_string(size));
  return false;
}

std::vector<std::pair<const Node*, std::string>> Reader::entries(std::string_view key,
                                                                 Count count) {
  std::vector<std::pair<const Node*, std::string>> all;
  const Node* node = find(key);
  if (!counted(node, key, count, Node::Type::kList)) return all;
  for (const Node& item : node->items) {
    all.emplace_back(&item, path_of(key) + "[" + std::to_string(all.size()) + "]");
  }
  return all;
}

Reader::Pairs Reader::pairs(std::string_view key, Count count) {
  Pairs all;
  const Node* node = find(key);
  if (!counted(node, key, count, Node::Type::kMap)) return all;
  const Reader inside(mistakes_, *node, path_of(key));
  for (std::size_t i = 0; i + 1 < node->items.size(); i += 2) {
    const auto it = inside.values_.find(node->items[i].text);
    if (it != inside.values_.end() && it->second.first == &node->items[i]) {
      all.push_back(it->second);
    }
  }
  return all;
}

void Reader::into(const Node& node, const std::string& path,
                  const std::function<void(Reader&)>& body) {
  if (node.type != Node::Type::kMap) {
    wrong(node, path, "a mapping");
    return;
  }
  Reader reader(mistakes_, node, path);
  body(reader);
  reader.finish();
}

}  // namespace lifeboat::yaml
