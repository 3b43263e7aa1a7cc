#include "predictor/template.hpp"

#include <algorithm>

namespace lifeboat::predictor {
namespace {

constexpr std::uint64_t kSeed = 0xcbf29ce484222325;

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15;
  return hash ^ (hash >> 29);
}

std::uint64_t hash_bytes(std::uint64_t hash, std::string_view bytes) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return mix(hash, bytes.size());
}

enum : std::uint8_t { kOther = 0, kLetter = 1, kHex = 2, kDigit = 4, kJoin = 8 };

// Without the locale: bytes beyond ASCII are no part of words.
constexpr std::array<std::uint8_t, 256> kClass = [] {
  std::array<std::uint8_t, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<std::size_t>(c)] = kLetter;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<std::size_t>(c)] = kLetter;
  for (const char c : std::string_view("abcdefABCDEF")) {
    table[static_cast<std::size_t>(c)] |= kHex;
  }
  for (int c = '0'; c <= '9'; ++c) table[static_cast<std::size_t>(c)] = kDigit;
  for (const char c : std::string_view("_-./+@#")) table[static_cast<std::size_t>(c)] = kJoin;
  return table;
}();

std::uint8_t class_of(char c) { return kClass[static_cast<unsigned char>(c)]; }

struct Word {
  std::string_view text;
  bool variable = false;  // a number, an address, a path
};

// Calls `word` for every word and `gap` for every byte between two.
template <class OnWord, class OnGap>
void split(std::string_view text, const OnWord& word, const OnGap& gap) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::uint8_t seen = 0;
    bool hex = true;
    std::size_t end = at;
    for (; end < text.size() && class_of(text[end]) != kOther; ++end) {
      const std::uint8_t is = class_of(text[end]);
      seen |= is;
      hex = hex && (is & (kHex | kDigit)) != 0;
    }
    if (end == at) {
      gap(text[at]);
      ++at;
      continue;
    }
    Word found{text.substr(at, end - at), false};
    found.variable = (seen & kDigit) != 0 || (found.text[0] == '/' && found.text.size() > 1) ||
                     (hex && found.text.size() >= 8);
    word(found);
    at = end;
  }
}

}  // namespace

std::string template_text(std::string_view text) {
  std::string out;
  split(
      text.substr(0, kTextMax),
      [&](const Word& word) { word.variable ? out += '*' : out += word.text; },
      [&](char c) { out += c; });
  return out;
}

std::uint64_t template_hash(std::string_view text) {
  std::uint64_t hash = kSeed;
  split(
      text.substr(0, kTextMax),
      [&](const Word& word) { hash = hash_bytes(hash, word.variable ? "*" : word.text); },
      [&](char c) { hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3; });
  return hash;
}

std::uint64_t template_hash(const Event& event) {
  const std::string_view given = detail(event, "template");
  const std::uint64_t text = given.empty() ? template_hash(event.text) : hash_bytes(kSeed, given);
  const std::uint64_t hash = mix(text, static_cast<std::uint64_t>(event.kind) + 1);
  return hash == 0 ? 1 : hash;
}

Keywords keywords(std::string_view text) {
  Keywords words;
  split(
      text.substr(0, kTextMax),
      [&](const Word& word) {
        if (word.variable || word.text.size() < 3) return;
        std::uint64_t hash = kSeed;
        for (const char c : word.text) {  // ASCII letters without their case
          hash = (hash ^ static_cast<unsigned char>(c | 0x20)) * 0x100000001b3;
        }
        words.set(mix(hash, 0) % Keywords::kBits);
      },
      [](char) {});
  return words;
}

TemplateTable::TemplateTable(std::size_t max) {
  std::size_t size = kWays;
  while (size < max) size *= 2;
  entries_.resize(size);
}

std::size_t TemplateTable::bucket(std::uint64_t hash) const {
  return (mix(hash, 1) % (entries_.size() / kWays)) * kWays;
}

Template& TemplateTable::find(std::uint64_t hash, Time now, bool& fresh) {
  const auto from = entries_.begin() + static_cast<std::ptrdiff_t>(bucket(hash));
  auto entry = std::find_if(from, from + kWays, [&](const Template& t) { return t.hash == hash; });
  fresh = entry == from + kWays;
  if (fresh) {
    // What has foretold a failure is kept longest, then what was said last.
    entry =
        std::min_element(from, from + kWays, [](const Template& a, const Template& b) {
          const bool free_a = a.hash == 0;
          const bool free_b = b.hash == 0;
          if (free_a != free_b) return free_a;
          if (a.outcomes.hits != b.outcomes.hits) return a.outcomes.hits < b.outcomes.hits;
          return a.used < b.used;
        });
    // The memory of the cluster is used again: a flood must not cost an allocation each.
    std::vector<std::uint32_t> nodes = std::move(entry->cluster.nodes);
    nodes.clear();
    *entry = Template{};
    entry->hash = hash;
    entry->cluster.nodes = std::move(nodes);
  }
  entry->used = now;
  ++entry->seen;
  return *entry;
}

}  // namespace lifeboat::predictor
