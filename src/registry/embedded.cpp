#include "registry/embedded.hpp"

#include <fcntl.h>
#include <sqlite3.h>

#include <algorithm>

#include "base/blocking.hpp"
#include "base/fd.hpp"

namespace lifeboat {

namespace {

constexpr const char* kSchema =
    "CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL,"
    " lease INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY, term_ms INTEGER NOT NULL);"
    // The last version and the last lease: neither is ever given twice.
    "CREATE TABLE IF NOT EXISTS last (what TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT OR IGNORE INTO last VALUES ('version', 0), ('lease', 0);";

Error sqlite_error(sqlite3* db, const char* what) {
  return Error(Errc::kSystem, std::string("registry: ") + what + ": " +
                                  (db != nullptr ? sqlite3_errmsg(db) : "no memory"));
}

Status execute(sqlite3* db, const char* sql) {
  if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return tl::unexpected<Error>(sqlite_error(db, sql));
}

// One statement, run once.
class Statement {
 public:
  static Result<Statement> prepare(sqlite3* db, const char* sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) != SQLITE_OK) {
      return tl::unexpected<Error>(sqlite_error(db, sql));
    }
    return Statement(db, statement);
  }
  Statement& bind(const std::string& text) {
    sqlite3_bind_text(statement_.get(), ++bound_, text.data(), static_cast<int>(text.size()),
                      SQLITE_TRANSIENT);
    return *this;
  }
  Statement& bind(std::uint64_t number) {
    sqlite3_bind_int64(statement_.get(), ++bound_, static_cast<sqlite3_int64>(number));
    return *this;
  }
  // Whether there is a row.
  Result<bool> step() {
    const int code = sqlite3_step(statement_.get());
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return tl::unexpected<Error>(sqlite_error(db_, sqlite3_sql(statement_.get())));
  }
  [[nodiscard]] std::string text(int column) const {
    const void* bytes = sqlite3_column_blob(statement_.get(), column);
    return {static_cast<const char*>(bytes == nullptr ? "" : bytes),
            static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column))};
  }
  [[nodiscard]] std::uint64_t number(int column) const {
    return static_cast<std::uint64_t>(sqlite3_column_int64(statement_.get(), column));
  }

 private:
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  Statement(sqlite3* db, sqlite3_stmt* statement) : db_(db), statement_(statement) {}
  sqlite3* db_;
  std::unique_ptr<sqlite3_stmt, Finalizer> statement_;
  int bound_ = 0;
};

Result<std::uint64_t> next_number(sqlite3* db, const std::string& what) {
  TRY(Statement next,
      Statement::prepare(db, "UPDATE last SET number = number + 1 WHERE what = ?1 RETURNING number"));
  TRY(const bool row, next.bind(what).step());
  if (!row) return fail(Errc::kSystem, "registry: the file lacks its counter of " + what);
  const std::uint64_t number = next.number(0);
  CHECK_OK(next.step());
  return number;
}

}  // namespace

void EmbeddedRegistry::Closer::operator()(sqlite3* db) const {
  sqlite3_close_v2(db);
}

EmbeddedRegistry::EmbeddedRegistry(Database database, Clock clock)
    : database_(std::move(database)), clock_(std::move(clock)) {}

EmbeddedRegistry::~EmbeddedRegistry() {
  thread_.join();
}

Result<std::unique_ptr<EmbeddedRegistry>> EmbeddedRegistry::open(const std::string& path, Clock clock) {
  {  // root's alone, and so are the files that SQLite puts beside it
    const Fd made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!made) return fail_errno("open " + path);
  }
  sqlite3* db = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  Database database(db);
  if (code != SQLITE_OK) return tl::unexpected<Error>(sqlite_error(db, ("open " + path).c_str()));
  std::unique_ptr<EmbeddedRegistry> registry(new EmbeddedRegistry(std::move(database), std::move(clock)));
  auto prepared = registry->prepare();
  if (!prepared) return tl::unexpected<Error>(prepared.error().context(path));
  return registry;
}

Status EmbeddedRegistry::prepare() {
  sqlite3* db = database_.get();
  // One daemon, one file: a second one would give out leases of its own.
  constexpr int kBusyMs = 5000;  // an earlier daemon may be ending still
  sqlite3_busy_timeout(db, kBusyMs);
  CHECK_OK(execute(db, "PRAGMA locking_mode=EXCLUSIVE"));
  CHECK_OK(execute(db, "PRAGMA journal_mode=WAL"));
  CHECK_OK(execute(db, "PRAGMA synchronous=FULL"));
  CHECK_OK(execute(db, kSchema));
  TRY(Statement all, Statement::prepare(db, "SELECT id, term_ms FROM lease"));
  for (;;) {
    TRY(const bool row, all.step());
    if (!row) return {};
    const Milliseconds term(static_cast<Milliseconds::rep>(all.number(1)));
    leases_[all.number(0)] = {term, clock_() + term};
  }
}

template <class R>
awaitable<R> EmbeddedRegistry::on_thread(std::function<R()> work) {
  std::function<R()> current = [this, work = std::move(work)]() -> R {
    if (auto expired = expire(); !expired) return tl::unexpected<Error>(expired.error());
    return work();
  };
  co_return co_await run_blocking(thread_, std::move(current));
}

awaitable<Result<std::optional<Entry>>> EmbeddedRegistry::get(std::string key) {
  std::function<Result<std::optional<Entry>>()> work = [this, key = std::move(key)] { return read(key); };
  co_return co_await on_thread(std::move(work));
}

awaitable<Result<Swap>> EmbeddedRegistry::try_swap(SwapRequest request) {
  CO_CHECK_OK(check_entry(request.key, request.value));
  std::function<Result<Swap>()> work = [this, request = std::move(request)] { return change(request); };
  co_return co_await on_thread(std::move(work));
}

awaitable<Result<std::vector<Entry>>> EmbeddedRegistry::page(Selection request) {
  std::function<Result<std::vector<Entry>>()> work =
      [this, request = std::move(request)] { return read_page(request); };
  co_return co_await on_thread(std::move(work));
}

awaitable<Result<LeaseId>> EmbeddedRegistry::grant(Milliseconds term) {
  std::function<Result<LeaseId>()> work = [this, term] { return add_lease(term); };
  co_return co_await on_thread(std::move(work));
}

awaitable<Status> EmbeddedRegistry::keep_alive(LeaseId lease) {
  std::function<Status()> work = [this, lease] { return renew(lease); };
  co_return co_await on_thread(std::move(work));
}

awaitable<Status> EmbeddedRegistry::revoke(LeaseId lease) {
  std::function<Status()> work = [this, lease] { return drop_lease(lease); };
  co_return co_await on_thread(std::move(work));
}

Result<std::optional<Entry>> EmbeddedRegistry::read(const std::string& key) {
  TRY(Statement select,
      Statement::prepare(database_.get(), "SELECT value, version FROM entry WHERE key = ?1"));
  TRY(const bool row, select.bind(key).step());
  if (!row) return std::optional<Entry>();
  return std::optional<Entry>(Entry{key, select.text(0), select.number(1)});
}

Result<Swap> EmbeddedRegistry::change(const SwapRequest& request) {
  if (request.lease != kNoLease && !leases_.contains(request.lease)) {
    return fail(Errc::kNotFound, "registry: no lease " + std::to_string(request.lease));
  }
  sqlite3* db = database_.get();
  CHECK_OK(execute(db, "BEGIN IMMEDIATE"));
  auto swapped = change_in_transaction(request);
  if (swapped && swapped->written) {
    auto kept = execute(db, "COMMIT");
    if (kept) return swapped;
    swapped = tl::unexpected<Error>(kept.error());
  }
  (void)execute(db, "ROLLBACK");
  return swapped;
}

Result<Swap> EmbeddedRegistry::change_in_transaction(const SwapRequest& request) {
  sqlite3* db = database_.get();
  Swap swap;
  TRY(swap.found, read(request.key));
  if ((swap.found ? swap.found->version : kAbsent) != request.version) return swap;
  TRY(swap.version, next_number(db, "version"));
  swap.written = true;
  swap.found.reset();
  if (!request.value) {
    TRY(Statement gone, Statement::prepare(db, "DELETE FROM entry WHERE key = ?1"));
    CHECK_OK(gone.bind(request.key).step());
    return swap;
  }
  TRY(Statement put, Statement::prepare(db, "INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3, ?4)"));
  CHECK_OK(put.bind(request.key).bind(*request.value).bind(swap.version).bind(request.lease).step());
  return swap;
}

Result<std::vector<Entry>> EmbeddedRegistry::read_page(const Selection& request) {
  TRY(Statement select,
      Statement::prepare(database_.get(), "SELECT key, value, version FROM entry WHERE key >= ?1 AND key > ?2 AND "
                                          "(key < ?3 OR ?3 = '') AND (?4 = '' OR instr(value, ?4) > 0) "
                                          "ORDER BY key LIMIT ?5"));
  select.bind(request.prefix).bind(request.after).bind(prefix_end(request.prefix)).bind(request.containing);
  select.bind(kPageEntries);
  std::vector<Entry> entries;
  for (;;) {
    TRY(const bool row, select.step());
    if (!row) return entries;
    entries.push_back({select.text(0), select.text(1), select.number(2)});
  }
}

Result<LeaseId> EmbeddedRegistry::add_lease(Milliseconds term) {
  constexpr std::size_t kLeasesMax = 16 * 1024;
  constexpr Milliseconds kTermMax{3'600'000};
  if (term.count() <= 0 || term > kTermMax)
    return fail(Errc::kInvalid, "registry: a lease lasts 1 ms to 1 h");
  if (leases_.size() >= kLeasesMax) return fail(Errc::kRefused, "registry: too many leases");
  TRY(const LeaseId id, next_number(database_.get(), "lease"));
  TRY(Statement put, Statement::prepare(database_.get(), "INSERT INTO lease VALUES (?1, ?2)"));
  CHECK_OK(put.bind(id).bind(static_cast<std::uint64_t>(term.count())).step());
  const Lease lease{term, clock_() + term};
  leases_[id] = lease;
  none_ends_before_ = std::min(none_ends_before_, lease.ends);
  return id;
}

Status EmbeddedRegistry::renew(LeaseId lease) {
  const auto at = leases_.find(lease);
  if (at == leases_.end())
    return fail(Errc::kNotFound, "registry: lease " + std::to_string(lease) + " is lost");
  at->second.ends = clock_() + at->second.term;
  return {};
}

Status EmbeddedRegistry::drop_lease(LeaseId lease) {
  sqlite3* db = database_.get();
  TRY(Statement keys, Statement::prepare(db, "DELETE FROM entry WHERE lease = ?1 AND lease != 0"));
  CHECK_OK(keys.bind(lease).step());
  TRY(Statement gone, Statement::prepare(db, "DELETE FROM lease WHERE id = ?1"));
  CHECK_OK(gone.bind(lease).step());
  leases_.erase(lease);
  return {};
}

Status EmbeddedRegistry::expire() {
  const auto now = clock_();
  if (now < none_ends_before_) return {};  // with each request all leases would be looked at: N nodes, N requests
  std::vector<LeaseId> over;
  auto next = SteadyClock::time_point::max();
  for (const auto& [id, lease] : leases_) {
    if (lease.ends <= now) {
      over.push_back(id);
    } else {
      next = std::min(next, lease.ends);
    }
  }
  for (const LeaseId id : over) CHECK_OK(drop_lease(id));
  none_ends_before_ = next;
  return {};
}

}  // namespace lifeboat
