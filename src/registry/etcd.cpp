#include "registry/etcd.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <charconv>

namespace lifeboat {

namespace {

std::string base64(const std::string& text) {
  std::string out((text.size() + 2) / 3 * 4 + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

Result<std::string> from_base64(const std::string& text) {
  std::string out(text.size() / 4 * 3 + 1, '\0');
  const int size =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return fail(Errc::kProtocol, "etcd: not base64");
  // The zeros that stand for the padding are no part of it.
  const auto padding = static_cast<std::size_t>(text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0);
  out.resize(static_cast<std::size_t>(size) - std::min(padding, static_cast<std::size_t>(size)));
  return out;
}

// The gateway writes 64-bit numbers as strings.
Result<std::uint64_t> number_of(const json::object& object, std::string_view key) {
  auto text = get_string(object, key);
  if (!text) return get_u64(object, key);
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text->data(), text->data() + text->size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text->data() + text->size()) {
    return fail(Errc::kProtocol, "etcd: member '" + std::string(key) + "' is no number");
  }
  return number;
}

Result<std::uint64_t> revision_of(const json::object& answer) {
  TRY(const json::object* header, get_object(answer, "header"));
  return number_of(*header, "revision");
}

json::object put_request(const std::string& key, const SwapRequest& request) {
  if (!request.value) return {{"request_delete_range", json::object{{"key", key}}}};
  json::object put{{"key", key}, {"value", base64(*request.value)}};
  if (request.lease != kNoLease) put["lease"] = std::to_string(request.lease);
  return {{"request_put", std::move(put)}};
}

}  // namespace

Result<std::vector<Entry>> EtcdRegistry::entries_from(const json::object& range) const {
  std::vector<Entry> entries;
  if (!range.contains("kvs")) return entries;
  TRY(const json::array* list, get_array(range, "kvs"));
  for (const json::value& item : *list) {
    if (!item.is_object()) return fail(Errc::kProtocol, "etcd: an entry is no object");
    const json::object& object = item.get_object();
    TRY(const std::string key, get_string(object, "key"));
    Entry entry;
    TRY(entry.key, from_base64(key));
    if (entry.key.rfind(prefix_, 0) != 0)
      return fail(Errc::kProtocol, "etcd: a key that was not asked for");
    entry.key.erase(0, prefix_.size());
    TRY(entry.value, from_base64(string_or(object, "value")));
    TRY(entry.version, number_of(object, "mod_revision"));
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<std::optional<Entry>> EtcdRegistry::found_from(const json::object& range,
                                                      const std::string& key) const {
  TRY(std::vector<Entry> entries, entries_from(range));
  std::optional<Entry> found;
  if (!entries.empty()) found = std::move(entries.front());
  CHECK_OK(check_answer(key, found));
  return found;
}

awaitable<Result<json::object>> EtcdRegistry::post(std::string path, json::object body, bool repeatable) {
  const std::shared_ptr<EtcdHttp> http = http_.lock();
  if (!http) co_return fail(Errc::kUnavailable, "etcd is not asked any more: the program ends");
  co_return co_await http->post(std::move(path), std::move(body), repeatable);
}

awaitable<Result<std::optional<Entry>>> EtcdRegistry::get(std::string key) {
  json::object body{{"key", base64(prefix_ + key)}};
  CO_TRY(const json::object answer, co_await post("/v3/kv/range", std::move(body), true));
  co_return found_from(answer, key);
}

awaitable<Result<Swap>> EtcdRegistry::try_swap(SwapRequest request) {
  CO_CHECK_OK(check_entry(request.key, request.value));
  const std::string key = base64(prefix_ + request.key);
  json::object compare{{"key", key},
                       {"target", "MOD"},
                       {"result", "EQUAL"},
                       {"mod_revision", std::to_string(request.version)}};  // 0: of a key that is not there
  json::object range{{"request_range", json::object{{"key", key}}}};
  json::array compares;
  compares.push_back(std::move(compare));
  json::array success;
  success.push_back(put_request(key, request));
  json::array failure;
  failure.push_back(std::move(range));
  json::object body{
      {"compare", std::move(compares)}, {"success", std::move(success)}, {"failure", std::move(failure)}};
  CO_TRY(const json::object answer, co_await post("/v3/kv/txn", std::move(body), false));
  Swap swap;
  if (flag(answer, "succeeded")) {  // left out when it has not
    swap.written = true;
    CO_TRY(swap.version, revision_of(answer));
    co_return swap;
  }
  CO_TRY(const json::array* responses, get_array(answer, "responses"));
  if (responses->empty() || !responses->front().is_object()) {
    co_return fail(Errc::kProtocol, "etcd: a transaction without what it found");
  }
  CO_TRY(const json::object* found, get_object(responses->front().get_object(), "response_range"));
  CO_TRY(swap.found, found_from(*found, request.key));
  co_return swap;
}

awaitable<Result<std::vector<Entry>>> EtcdRegistry::page(Selection request) {
  const std::string end = prefix_end(prefix_ + request.prefix);
  const std::string first = request.after.empty() ? prefix_ + request.prefix : prefix_ + request.after + '\0';
  json::object body{{"key", base64(first)}, {"range_end", base64(end)}, {"limit", kPageEntries}};
  CO_TRY(const json::object answer, co_await post("/v3/kv/range", std::move(body), true));
  co_return entries_from(answer);
}

awaitable<Result<LeaseId>> EtcdRegistry::grant(Milliseconds term) {
  json::object body{{"TTL", std::chrono::ceil<std::chrono::seconds>(term).count()}};
  CO_TRY(const json::object answer, co_await post("/v3/lease/grant", std::move(body), true));
  co_return number_of(answer, "ID");
}

awaitable<Status> EtcdRegistry::keep_alive(LeaseId lease) {
  json::object body{{"ID", std::to_string(lease)}};
  CO_TRY(const json::object answer, co_await post("/v3/lease/keepalive", std::move(body), true));
  CO_TRY(const json::object* result, get_object(answer, "result"));
  if (result->contains("TTL")) co_return Status{};
  co_return fail(Errc::kNotFound, "etcd: lease " + std::to_string(lease) + " is lost");
}

awaitable<Status> EtcdRegistry::revoke(LeaseId lease) {
  json::object body{{"ID", std::to_string(lease)}};
  auto answer = co_await post("/v3/lease/revoke", std::move(body), true);
  // One that is gone is what was wanted.
  if (!answer && answer.error().code != Errc::kNotFound) co_return tl::unexpected<Error>(answer.error());
  co_return Status{};
}

}  // namespace lifeboat
