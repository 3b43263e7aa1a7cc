#include "registry/owners.hpp"

#include <chrono>

#include "base/blocking.hpp"

namespace lifeboat {

namespace {

// What throws below (no descriptor, no thread) is an answer that is not known, for whoever has to decide.
constexpr const char* kWhat = "ask the registry";

Result<OwnerRecord> record_from(const Entry& entry) {
  auto ownership = ownership_from(entry.value);
  if (!ownership) return tl::unexpected<Error>(ownership.error().context("registry: " + entry.key));
  if (ownership_key(ownership->container) != entry.key) {
    return fail(Errc::kProtocol, "registry: " + entry.key + " is a record of container " +
                                     ownership->container.substr(0, 64));
  }
  return OwnerRecord{std::move(*ownership), entry.version};
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<Milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

decision::Written written_from(const Result<Swap>& swapped) {
  if (swapped) return swapped->written ? decision::Written::kYes : decision::Written::kConflict;
  return swapped.error().code == Errc::kUnavailable ? decision::Written::kNo : decision::Written::kUnknown;
}

tl::unexpected<Error> outrun(const std::string& container) {
  return fail(Errc::kConflict,
              "the record of container " + container + " has been changed meanwhile; try again");
}

}  // namespace

std::string presence_key(const std::string& node) {
  return "node/" + node;
}

json::object to_json(const OwnerRecord& record) {
  return {{"version", record.version}, {"record", to_text(record.ownership)}};
}

Result<OwnerRecord> owner_record_from(const json::object& object) {
  OwnerRecord record;
  TRY(record.version, get_u64(object, "version"));
  TRY(const std::string text, get_string(object, "record"));
  TRY(record.ownership, ownership_from(text));
  return record;
}

awaitable<Result<Swap>> Owners::put(const Ownership& next, std::uint64_t version) {
  Ownership stamped = next;
  stamped.changed_ms = now_ms();
  SwapRequest request;
  request.key = ownership_key(next.container);
  request.version = version;
  request.value = to_text(stamped);
  co_return co_await errors_of(registry_.swap(std::move(request), timeout_), kWhat);
}

awaitable<Result<std::optional<OwnerRecord>>> Owners::find(std::string container) {
  CO_TRY(const std::optional<Entry> entry, co_await errors_of(registry_.get(ownership_key(container)), kWhat));
  if (!entry) co_return std::optional<OwnerRecord>();
  CO_TRY(OwnerRecord record, record_from(*entry));
  co_return std::optional<OwnerRecord>(std::move(record));
}

awaitable<Result<std::vector<OwnerRecord>>> Owners::of_node(std::string node) {
  std::string text = ownership_text_of(node);
  CO_TRY(const std::vector<Entry> entries,
         co_await errors_of(registry_.list(kOwnershipPrefix, std::move(text)), kWhat));
  std::vector<OwnerRecord> records;
  for (const Entry& entry : entries) {
    CO_TRY(OwnerRecord record, record_from(entry));
    if (record.ownership.owner == node) records.push_back(std::move(record));
  }
  co_return records;
}

awaitable<Result<OwnerRecord>> Owners::claim(std::string container, std::string job, std::string node) {
  CO_TRY(const std::optional<OwnerRecord> now, co_await find(container));
  std::optional<Ownership> owned;
  if (now) owned = now->ownership;
  CO_TRY(const Ownership next, ownership::claim(owned, container, job, node));
  CO_TRY(const Swap swapped, co_await put(next, now ? now->version : kAbsent));
  if (!swapped.written) co_return outrun(container);
  co_return OwnerRecord{next, swapped.version};
}

awaitable<Result<OwnerRecord>> Owners::offer(OwnerRecord now, OwnedMigration migration) {
  CO_TRY(const Ownership next, ownership::offer(now.ownership, std::move(migration)));
  CO_TRY(const Swap swapped, co_await put(next, now.version));
  if (!swapped.written) co_return outrun(next.container);
  co_return OwnerRecord{next, swapped.version};
}

awaitable<decision::Written> Owners::commit(OwnerRecord now, std::string migration) {
  auto next = ownership::commit(now.ownership, migration);
  if (!next) co_return decision::Written::kConflict;
  co_return written_from(co_await put(*next, now.version));
}

awaitable<decision::Written> Owners::abort(OwnerRecord now, std::string migration) {
  auto next = ownership::abort(now.ownership, migration);
  if (!next) co_return decision::Written::kConflict;
  co_return written_from(co_await put(*next, now.version));
}

awaitable<decision::Written> Owners::yield(OwnerRecord now, std::string migration) {
  auto next = ownership::yield(now.ownership, migration);
  if (!next) co_return decision::Written::kConflict;
  co_return written_from(co_await put(*next, now.version));
}

awaitable<Status> Owners::end(std::string container, std::string node) {
  CO_TRY(const std::optional<OwnerRecord> now, co_await find(container));
  if (!now || now->ownership.ended || now->ownership.owner != node) co_return Status{};
  co_return co_await put_end(*now);
}

awaitable<Status> Owners::end_anywhere(std::string container) {
  constexpr int kTries = 5;  // its node may be ending it, too, or a migration changing its owner
  for (int i = 1;; ++i) {
    CO_TRY(const std::optional<OwnerRecord> now, co_await find(container));
    if (!now || now->ownership.ended) co_return Status{};
    Status ended = co_await put_end(*now);
    if (ended || ended.error().code != Errc::kConflict || i == kTries) co_return ended;
  }
}

awaitable<Status> Owners::put_end(OwnerRecord now) {
  CO_TRY(const Ownership next, ownership::end(now.ownership, now.ownership.owner));
  CO_TRY(const Swap swapped, co_await put(next, now.version));
  if (!swapped.written) co_return outrun(next.container);
  co_return Status{};
}

awaitable<Status> Owners::forget(OwnerRecord record) {
  SwapRequest request;
  request.key = ownership_key(record.ownership.container);
  request.version = record.version;
  CO_TRY(const Swap swapped, co_await registry_.swap(std::move(request), timeout_));
  if (!swapped.written) co_return outrun(record.ownership.container);
  co_return Status{};
}

awaitable<Result<bool>> Owners::node_alive(std::string node) {
  CO_TRY(const std::optional<Entry> entry, co_await registry_.get(presence_key(node)));
  co_return entry.has_value();
}

}  // namespace lifeboat
