#include "registry/registry.hpp"

namespace lifeboat {

Status check_entry(const std::string& key, const std::optional<std::string>& value) {
  if (key.empty() || key.size() > Registry::kKeyBytesMax) {
    return fail(Errc::kInvalid, "a key of the registry has 1 to " + std::to_string(Registry::kKeyBytesMax) +
                                    " bytes, not " + std::to_string(key.size()));
  }
  if (value && value->size() > Registry::kValueBytesMax) {
    return fail(Errc::kInvalid, "registry: the value of " + key + " has " + std::to_string(value->size()) +
                                    " bytes, more than " + std::to_string(Registry::kValueBytesMax));
  }
  return {};
}

Status check_answer(const std::string& asked, const std::optional<Entry>& found) {
  if (!found || found->key == asked) return {};
  return fail(Errc::kProtocol,
              "registry: asked for " + asked + ", it answers of " + found->key.substr(0, 200));
}

std::string prefix_end(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(prefix.back() + 1);
  return prefix;
}

awaitable<Result<Swap>> Registry::swap(SwapRequest request, Milliseconds limit) {
  constexpr Milliseconds kPause{50};
  const auto end = SteadyClock::now() + limit;
  bool maybe_written = false;
  for (;;) {
    SwapRequest attempt = request;
    auto swapped = co_await try_swap(std::move(attempt));
    if (swapped) {
      const bool mine =
          maybe_written &&
          (request.value ? swapped->found && swapped->found->value == *request.value : !swapped->found);
      if (!swapped->written && mine) {
        swapped->written = true;
        swapped->version = swapped->found ? swapped->found->version : kAbsent;
      }
      co_return swapped;
    }
    if (swapped.error().code == Errc::kTimeout) maybe_written = true;
    const bool again = swapped.error().code == Errc::kTimeout || swapped.error().code == Errc::kUnavailable;
    if (!again) co_return swapped;
    if (SteadyClock::now() + kPause >= end) {
      if (!maybe_written || swapped.error().code == Errc::kTimeout) co_return swapped;
      co_return fail(Errc::kTimeout, "it is not known whether the registry has taken the change of " +
                                         request.key + ": " + swapped.error().message);
    }
    co_await sleep_for(kPause);
  }
}

awaitable<Result<std::vector<Entry>>> Registry::list(std::string prefix, std::string containing) {
  constexpr std::size_t kBytesMax = 256U << 20;
  std::vector<Entry> all;
  Selection wanted{prefix, "", containing};
  std::string& after = wanted.after;
  std::size_t bytes = 0;
  for (;;) {
    CO_TRY(std::vector<Entry> some, co_await page(wanted));
    const bool last = some.size() < kPageEntries;
    for (Entry& entry : some) {
      bytes += sizeof entry + entry.key.size() + entry.value.size();
      if (entry.key <= after || !entry.key.starts_with(prefix) || bytes > kBytesMax) {
        co_return fail(Errc::kProtocol, "registry: a list of " + prefix + " without order or end");
      }
      after = entry.key;
      if (entry.value.find(containing) != std::string::npos) all.push_back(std::move(entry));
    }
    if (last) co_return all;
  }
}

}  // namespace lifeboat
