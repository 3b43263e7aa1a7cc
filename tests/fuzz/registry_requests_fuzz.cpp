// What other daemons ask of the registry that this node keeps: one request a line. What was written is
// there, pages are in order, versions are never given twice.
#include "fuzz.hpp"
#include "registry/embedded.hpp"
#include "registry/remote.hpp"

namespace {

using namespace lifeboat;

constexpr int kRequestsMax = 20;

awaitable<void> check_written(Registry& registry, json::object params, json::object answer,
                              std::uint64_t& version) {
  if (!flag(answer, "written")) co_return;
  const std::uint64_t now = get_u64(answer, "version").value();
  fuzz::require(now > version, "versions grow");
  version = now;
  const auto entry = co_await registry.get(get_string(params, "key").value());
  fuzz::require(entry.has_value(), "what was written can be read");
  const auto value = get_string(params, "value");
  if (!value) {
    fuzz::require(!*entry, "what was removed is gone");
  } else {
    const bool there = *entry && (*entry)->value == *value && (*entry)->version == now;
    fuzz::require(there, "what was written is there");
  }
}

void check_page(const json::object& answer) {
  const auto entries = get_array(answer, "entries");
  if (!entries) return;
  std::string last;
  for (const json::value& item : **entries) {
    const std::string key = get_string(item.as_object(), "key").value();
    fuzz::require(key > last, "a page is in order");
    last = key;
  }
}

awaitable<void> serve(Registry& registry, std::string_view lines) {
  std::uint64_t version = 0;
  for (int i = 0; i < kRequestsMax && !lines.empty(); ++i) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    const auto request = parse_object(lines.substr(0, end));
    lines.remove_prefix(std::min(end + 1, lines.size()));
    if (!request) continue;
    json::object params;
    if (auto given = get_object(*request, "params")) params = **given;
    json::object asked = params;
    const auto answer = co_await serve_registry(registry, string_or(*request, "method"), std::move(asked));
    fuzz::require_good(answer);
    if (!answer) continue;
    fuzz::require(parse_object(json::serialize(*answer)).has_value(), "an answer is JSON");
    check_page(*answer);
    if (string_or(*request, "method") == "registry.swap")
      co_await check_written(registry, std::move(params), *answer, version);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Directory directory;
  auto registry = EmbeddedRegistry::open(directory.path("/registry.db"), [] { return SteadyClock::now(); });
  fuzz::require(registry.has_value(), "the registry opens");
  asio::io_context io(1);
  asio::co_spawn(io, serve(**registry, fuzz::text(data, size)), [](std::exception_ptr thrown) {
    if (thrown) std::rethrow_exception(thrown);
  });
  io.run();
  return 0;
}
