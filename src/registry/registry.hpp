// registry.hpp - the cluster's small, safe memory: who owns which container, and which nodes live.
//
// Keys with values and versions, changed by compare-and-swap only, and leases, whose keys go when
// nobody keeps them alive. Three kinds, one meaning (tests/unit/registry_test.cpp runs against all):
// embedded.hpp (SQLite in one daemon), remote.hpp (that one, from the other daemons), etcd.hpp.
//
// Errors of every call: kUnavailable - it cannot be reached, and nothing was changed; kTimeout - it
// did not answer, and a change may or may not have been made: read, or try the same again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/result.hpp"

namespace lifeboat {

struct Entry {
  std::string key;
  std::string value;
  std::uint64_t version = 0;  // of the last change of this key; grows over all keys
  bool operator==(const Entry&) const = default;
};

// Which entries: those whose keys begin with `prefix` and are greater than `after`, and whose values contain
// this text. Empty: all.
struct Selection {
  std::string prefix;
  std::string after;
  std::string containing;
};

// How a compare-and-swap ended.
struct Swap {
  bool written = false;
  std::uint64_t version = 0;   // written: the new one
  std::optional<Entry> found;  // not written: what is there instead; nothing: no such key
};

using LeaseId = std::uint64_t;
inline constexpr LeaseId kNoLease = 0;
inline constexpr std::uint64_t kAbsent = 0;  // the version of a key that is not there

// A change. Without a value the key is removed.
struct SwapRequest {
  std::string key;
  std::uint64_t version = kAbsent;  // the change is made only if this is the key's version
  std::optional<std::string> value;
  LeaseId lease = kNoLease;  // the key goes when this lease does; kNotFound: there is no such lease
};

class Registry {
 public:
  virtual ~Registry() = default;

  // What is there now: never an older state.
  virtual awaitable<Result<std::optional<Entry>>> get(std::string key) = 0;

  // One attempt. See swap().
  virtual awaitable<Result<Swap>> try_swap(SwapRequest request) = 0;

  // At most kPageEntries of these, in order. Those whose values do not contain the text may be among them.
  virtual awaitable<Result<std::vector<Entry>>> page(Selection request) = 0;

  // A lease of at least `term`. keep_alive() gives it a full term again; kNotFound: it is lost.
  virtual awaitable<Result<LeaseId>> grant(Milliseconds term) = 0;
  virtual awaitable<Status> keep_alive(LeaseId lease) = 0;
  // Its keys go at once.
  virtual awaitable<Status> revoke(LeaseId lease) = 0;

  // Makes the change, and makes sure of it: an attempt whose answer was lost is repeated until one is
  // answered or `limit` is over. An attempt that finds the very value it was to write has been made
  // already; so a value must say who wrote it and why.
  awaitable<Result<Swap>> swap(SwapRequest request, Milliseconds limit);
  // All of page(), and no others. kProtocol: the pages have no order, or no end.
  awaitable<Result<std::vector<Entry>>> list(std::string prefix, std::string containing = {});

  static constexpr std::size_t kPageEntries = 500;
  static constexpr std::size_t kKeyBytesMax = 512;
  static constexpr std::size_t kValueBytesMax = 64 * 1024;
};

// kInvalid: a key or value beyond these limits.
Status check_entry(const std::string& key, const std::optional<std::string>& value);
// kProtocol: an answer about another key than the one that was asked for.
Status check_answer(const std::string& asked, const std::optional<Entry>& found);
// The smallest key greater than all that begin with `prefix`.
std::string prefix_end(std::string prefix);

}  // namespace lifeboat
