#include "registry/remote.hpp"

#include <algorithm>

namespace lifeboat {

using protocol::Kind;

namespace {

json::object to_json(const Entry& entry) {
  return {{"key", entry.key}, {"value", entry.value}, {"version", entry.version}};
}

Result<Entry> entry_from(const json::object& object) {
  Entry entry;
  TRY(entry.key, get_string(object, "key"));
  TRY(entry.value, get_string(object, "value"));
  TRY(entry.version, get_u64(object, "version"));
  return entry;
}

Result<std::optional<Entry>> found_from(const json::object& answer, const std::string& key) {
  std::optional<Entry> entry;
  if (!answer.contains("found")) return entry;
  TRY(const json::object* found, get_object(answer, "found"));
  TRY(entry, entry_from(*found));
  CHECK_OK(check_answer(key, entry));
  return entry;
}

Result<SwapRequest> swap_request_from(const json::object& params) {
  SwapRequest request;
  TRY(request.key, get_string(params, "key"));
  TRY(request.version, get_u64(params, "version"));
  TRY(request.lease, get_u64(params, "lease"));
  if (params.contains("value")) {
    TRY(request.value, get_string(params, "value"));
  }
  return request;
}

awaitable<Result<json::object>> serve_swap(Registry& registry, const json::object& params) {
  CO_TRY(SwapRequest request, swap_request_from(params));
  CO_TRY(const Swap swap, co_await registry.try_swap(std::move(request)));
  json::object answer{{"written", swap.written}, {"version", swap.version}};
  if (swap.found) answer["found"] = to_json(*swap.found);
  co_return answer;
}

awaitable<Result<json::object>> serve_lease(Registry& registry, const std::string& method,
                                            const json::object& params) {
  if (method == "registry.grant") {
    CO_TRY(const std::uint64_t term, get_u64(params, "term_ms"));
    const Milliseconds limited(static_cast<Milliseconds::rep>(std::min<std::uint64_t>(term, 1U << 30)));
    CO_TRY(const LeaseId lease, co_await registry.grant(limited));
    co_return json::object{{"lease", lease}};
  }
  CO_TRY(const LeaseId lease, get_u64(params, "lease"));
  if (method == "registry.keep_alive") {
    CO_CHECK_OK(co_await registry.keep_alive(lease));
  } else {
    CO_CHECK_OK(co_await registry.revoke(lease));
  }
  co_return json::object{};
}

}  // namespace

awaitable<Result<json::object>> serve_registry(Registry& registry, std::string method,
                                               json::object params) {
  if (method == "registry.get") {
    CO_TRY(std::string key, get_string(params, "key"));
    CO_TRY(const std::optional<Entry> found, co_await registry.get(std::move(key)));
    json::object answer;
    if (found) answer["found"] = to_json(*found);
    co_return answer;
  }
  if (method == "registry.swap") co_return co_await serve_swap(registry, params);
  if (method == "registry.page") {
    Selection wanted;
    CO_TRY(wanted.prefix, get_string(params, "prefix"));
    CO_TRY(wanted.after, get_string(params, "after"));
    wanted.containing = string_or(params, "containing");
    CO_TRY(const std::vector<Entry> entries, co_await registry.page(std::move(wanted)));
    json::array list;
    for (const Entry& entry : entries) list.push_back(to_json(entry));
    co_return json::object{{"entries", std::move(list)}};
  }
  if (method == "registry.grant" || method == "registry.keep_alive" || method == "registry.revoke") {
    co_return co_await serve_lease(registry, method, params);
  }
  co_return fail(Errc::kNotFound, "no method '" + method + "'");
}

awaitable<Status> RemoteRegistry::Connection::connect() {
  Error last(Errc::kUnavailable, "the registry's node has no address");
  const Milliseconds limit = settings_.timeout / static_cast<int>(settings_.addresses.size() + 1);
  for (const auto& [fabric, address] : settings_.addresses) {
    PeerAddress there{settings_.node, address, settings_.port};
    auto link = co_await Link::connect(std::move(there), settings_.self, limit);
    if (link) {
      link_.emplace(std::move(*link));
      co_return Status{};
    }
    last = link.error();
  }
  co_return fail(Errc::kUnavailable, "the registry cannot be reached: " + last.message);
}

awaitable<Result<json::object>> RemoteRegistry::Connection::ask(std::string method, json::object params) {
  const AsyncMutex::Lock lock = co_await asking_.lock();
  const bool kept = link_.has_value();
  auto answer = co_await ask_once(method, params);
  // A connection that was kept may have ended long ago. A swap is repeated by Registry::swap().
  const bool again = kept && !link_ && method != "registry.swap";
  if (again) answer = co_await ask_once(std::move(method), std::move(params));
  co_return answer;
}

awaitable<Result<json::object>> RemoteRegistry::Connection::ask_once(std::string method,
                                                                     json::object params) {
  if (!link_) CO_CHECK_OK(co_await connect());
  json::object request{{"method", std::move(method)}, {"params", std::move(params)}};
  auto sent = co_await link_->send(Kind::kRequest, std::move(request), settings_.timeout);
  if (!sent) {
    link_.reset();
    co_return fail(Errc::kTimeout, "the registry was lost: " + sent.error().message);
  }
  auto frame = co_await link_->receive(settings_.timeout);
  if (!frame) {
    link_.reset();
    co_return fail(Errc::kTimeout, "the registry does not answer: " + frame.error().message);
  }
  co_return link_->read(*frame, Kind::kResponse);
}

awaitable<Result<json::object>> RemoteRegistry::ask(std::string method, json::object params) {
  const std::shared_ptr<Connection> connection = connection_.lock();
  if (!connection)
    co_return fail(Errc::kUnavailable, "the registry is not asked any more: the program ends");
  co_return co_await connection->ask(std::move(method), std::move(params));
}

awaitable<Result<std::optional<Entry>>> RemoteRegistry::get(std::string key) {
  json::object params{{"key", key}};
  CO_TRY(const json::object answer, co_await ask("registry.get", std::move(params)));
  co_return found_from(answer, key);
}

awaitable<Result<Swap>> RemoteRegistry::try_swap(SwapRequest request) {
  CO_CHECK_OK(check_entry(request.key, request.value));
  json::object params{{"key", request.key}, {"version", request.version}, {"lease", request.lease}};
  if (request.value) params["value"] = *request.value;
  CO_TRY(const json::object answer, co_await ask("registry.swap", std::move(params)));
  Swap swap;
  swap.written = flag(answer, "written");
  CO_TRY(swap.version, get_u64(answer, "version"));
  CO_TRY(swap.found, found_from(answer, request.key));
  co_return swap;
}

awaitable<Result<std::vector<Entry>>> RemoteRegistry::page(Selection request) {
  json::object params{{"prefix", std::move(request.prefix)}, {"after", std::move(request.after)}};
  if (!request.containing.empty()) params["containing"] = std::move(request.containing);
  CO_TRY(const json::object answer, co_await ask("registry.page", std::move(params)));
  CO_TRY(const json::array* list, get_array(answer, "entries"));
  std::vector<Entry> entries;
  for (const json::value& item : *list) {
    if (!item.is_object()) co_return fail(Errc::kProtocol, "registry: an entry is no object");
    CO_TRY(Entry entry, entry_from(item.get_object()));
    entries.push_back(std::move(entry));
  }
  co_return entries;
}

awaitable<Result<LeaseId>> RemoteRegistry::grant(Milliseconds term) {
  json::object params{{"term_ms", term.count()}};
  CO_TRY(const json::object answer, co_await ask("registry.grant", std::move(params)));
  co_return get_u64(answer, "lease");
}

awaitable<Status> RemoteRegistry::keep_alive(LeaseId lease) {
  json::object params{{"lease", lease}};
  CO_TRY(const json::object answer, co_await ask("registry.keep_alive", std::move(params)));
  co_return Status{};
}

awaitable<Status> RemoteRegistry::revoke(LeaseId lease) {
  json::object params{{"lease", lease}};
  CO_TRY(const json::object answer, co_await ask("registry.revoke", std::move(params)));
  co_return Status{};
}

}  // namespace lifeboat
