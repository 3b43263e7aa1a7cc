// One suite for every kind of registry: embedded, that of another daemon, and a real etcd cluster of three
// with TLS (skipped where etcd is not installed).
#include "registry/registry.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "etcd_cluster.hpp"
#include "own_stall.hpp"
#include "registry/decide.hpp"
#include "registry/embedded.hpp"
#include "registry/etcd.hpp"
#include "registry/owners.hpp"
#include "registry/remote.hpp"

namespace lifeboat {
namespace {

using asio::ip::tcp;

enum class Kind { kEmbedded, kRemote, kEtcd };
constexpr Milliseconds kLimit{10'000};

// Serves an embedded registry as a daemon does.
class Server {
 public:
  explicit Server(asio::io_context& context)
      : context_(context), acceptor_(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {}
  [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  void start(Registry& registry) { asio::co_spawn(context_, accept(registry), asio::detached); }
  void drop_connections() {
    for (const auto& socket : sockets_) socket->close();
    sockets_.clear();
  }

 private:
  awaitable<void> accept(Registry& registry) {
    for (;;) {
      auto [error, socket] = co_await acceptor_.async_accept(use_tuple);
      if (error) co_return;
      auto link = std::make_shared<Link>(std::move(socket));
      sockets_.push_back(link);
      asio::co_spawn(context_, serve(registry, link), asio::detached);
    }
  }
  awaitable<void> serve(Registry& registry, std::shared_ptr<Link> link) {
    const LinkSelf name{"c", "head", nullptr};
    if (!co_await link->accept_hello(name, kLimit)) co_return;
    for (;;) {
      auto body = co_await link->expect(protocol::Kind::kRequest, Milliseconds(60'000));
      if (!body) co_return;
      auto result =
          co_await serve_registry(registry, string_or(*body, "method"), body->at("params").get_object());
      json::object answer = result ? std::move(*result) : failed_body(result.error(), "");
      (void)co_await link->send(result ? protocol::Kind::kResponse : protocol::Kind::kFailed,
                                std::move(answer), kLimit);
    }
  }

  asio::io_context& context_;
  tcp::acceptor acceptor_;
  std::vector<std::shared_ptr<Link>> sockets_;
};

class RegistryTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    char name[] = "/tmp/lifeboat-registry-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    if (GetParam() == Kind::kEtcd) {
      if (!EtcdCluster::available()) GTEST_SKIP() << "etcd or openssl is not installed";
      // One cluster for all tests, each below a prefix of its own.
      auto http = EtcdHttp::create(context_.get_executor(), EtcdCluster::shared().settings());
      ASSERT_TRUE(http) << http.error().message;
      registry_ =
          std::make_unique<EtcdRegistry>(context_.get_executor(), std::move(*http), directory_ + "/");
      return;
    }
    open_embedded();
    if (GetParam() == Kind::kRemote) {
      server_ = std::make_unique<Server>(context_);
      server_->start(*embedded_);
      RemoteRegistry::Settings settings;
      settings.addresses = {{"f", "127.0.0.1"}};
      settings.port = server_->port();
      settings.node = "head";
      settings.self = {"c", "n1", nullptr};
      registry_ = std::make_unique<RemoteRegistry>(context_.get_executor(), settings);
    }
  }
  void TearDown() override {
    registry_.reset();
    std::filesystem::remove_all(directory_);
  }

  void open_embedded() {
    embedded_ = nullptr;
    registry_.reset();
    auto opened =
        EmbeddedRegistry::open(directory_ + "/registry.db",
                               [this] { return stall_ ? stall_->now_at(now()) : now(); });
    ASSERT_TRUE(opened) << opened.error().message;
    embedded_ = opened->get();
    if (GetParam() == Kind::kRemote) {
      kept_ = std::move(*opened);
    } else {
      registry_ = std::move(*opened);
    }
  }

  [[nodiscard]] SteadyClock::time_point now() const { return SteadyClock::now() + skew_; }
  // Lets time pass: by the embedded registry's clock, or really.
  void pass(Milliseconds time) {
    if (embedded_ != nullptr) {
      skew_ += time;
    } else {
      std::this_thread::sleep_for(time);
    }
  }

  // Lets time pass until a key is gone.
  bool goes(const std::string& key) {
    for (int i = 0; i < 20 && get(key); ++i) pass(Milliseconds(1000));
    return !get(key);
  }

  template <class R>
  R wait(awaitable<R> task) {
    std::optional<R> result;
    asio::co_spawn(context_, std::move(task), [&](std::exception_ptr error, R value) {
      EXPECT_FALSE(error);
      result.emplace(std::move(value));
    });
    const auto end = SteadyClock::now() + std::chrono::seconds(30);
    context_.restart();
    while (!result && SteadyClock::now() < end) context_.run_one_for(std::chrono::milliseconds(100));
    EXPECT_TRUE(result) << "hangs";
    return result ? std::move(*result) : R(fail(Errc::kTimeout, "hangs"));
  }

  Result<Swap> swap(std::string key, std::uint64_t version, std::optional<std::string> value,
                    LeaseId lease = kNoLease) {
    SwapRequest request{std::move(key), version, std::move(value), lease};
    return wait(registry_->swap(std::move(request), kLimit));
  }
  std::optional<Entry> get(std::string key) {
    auto found = wait(registry_->get(std::move(key)));
    EXPECT_TRUE(found) << found.error().message;
    return found ? *found : std::nullopt;
  }

  asio::io_context context_{1};
  std::string directory_;
  Milliseconds skew_{0};
  std::optional<OwnStall> stall_;
  std::unique_ptr<EmbeddedRegistry> kept_;
  EmbeddedRegistry* embedded_ = nullptr;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Registry> registry_;
};

TEST_P(RegistryTest, CreatesChangesAndRemovesByVersion) {
  EXPECT_FALSE(get("a"));
  const Swap made = swap("a", kAbsent, "one").value();
  ASSERT_TRUE(made.written);
  EXPECT_EQ(get("a"), (Entry{"a", "one", made.version}));
  const Swap twice = swap("a", kAbsent, "two").value();
  EXPECT_FALSE(twice.written);
  EXPECT_EQ(twice.found, (Entry{"a", "one", made.version}));
  const Swap changed = swap("a", made.version, "two").value();
  ASSERT_TRUE(changed.written);
  EXPECT_GT(changed.version, made.version);
  EXPECT_FALSE(swap("a", made.version, "three").value().written);
  EXPECT_FALSE(swap("a", made.version, std::nullopt).value().written);
  EXPECT_TRUE(swap("a", changed.version, std::nullopt).value().written);
  EXPECT_FALSE(get("a"));
  const Swap gone = swap("a", changed.version, "four").value();
  EXPECT_FALSE(gone.written);
  EXPECT_FALSE(gone.found);
  EXPECT_GT(swap("a", kAbsent, "five").value().version, changed.version)
      << "a version is never given twice";
}

TEST_P(RegistryTest, OfManyThatSwapFromOneVersionOneWins) {
  const Swap made = swap("a", kAbsent, "start").value();
  std::vector<Result<Swap>> results(20, fail(Errc::kTimeout, ""));
  std::size_t left = results.size();
  for (std::size_t i = 0; i < results.size(); ++i) {
    SwapRequest request{"a", made.version, "by " + std::to_string(i), kNoLease};
    asio::co_spawn(context_, registry_->swap(std::move(request), kLimit),
                   [&, i](std::exception_ptr, Result<Swap> result) {
                     results[i] = std::move(result);
                     --left;
                   });
  }
  context_.restart();
  while (left > 0) context_.run_one();
  std::size_t won = results.size();
  for (std::size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i]) << results[i].error().message;
    if (!results[i]->written) continue;
    EXPECT_EQ(won, results.size()) << "two have won";
    won = i;
  }
  ASSERT_LT(won, results.size());
  EXPECT_EQ(get("a")->value, "by " + std::to_string(won));
}

TEST_P(RegistryTest, ListsByPrefixPageByPage) {
  const std::size_t count =
      GetParam() == Kind::kEtcd ? Registry::kPageEntries + 3 : Registry::kPageEntries * 2 + 3;
  for (std::size_t i = 0; i < count; ++i)
    ASSERT_TRUE(swap("c/" + std::to_string(i), kAbsent, "v")->written);
  ASSERT_TRUE(swap("b/x", kAbsent, "v")->written);
  ASSERT_TRUE(swap("d", kAbsent, "v")->written);
  const auto all = wait(registry_->list("c/"));
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(all->size(), count);
  EXPECT_TRUE(std::is_sorted(all->begin(), all->end(),
                             [](const Entry& a, const Entry& b) { return a.key < b.key; }));
  EXPECT_TRUE(wait(registry_->list("e/"))->empty());
}

TEST_P(RegistryTest, ListsThoseWhoseValuesContainAText) {
  for (std::size_t i = 0; i < Registry::kPageEntries + 3; ++i) {
    ASSERT_TRUE(swap("c/" + std::to_string(i), kAbsent, i % 100 == 7 ? "of n1" : "of n2")->written);
  }
  const auto some = wait(registry_->list("c/", "n1"));
  ASSERT_TRUE(some) << some.error().message;
  EXPECT_EQ(some->size(), 5u);
  for (const Entry& entry : *some) EXPECT_EQ(entry.value, "of n1");
  EXPECT_EQ(wait(registry_->list("c/", "of"))->size(), Registry::kPageEntries + 3);
  EXPECT_TRUE(wait(registry_->list("c/", "n3"))->empty());
}

TEST_P(RegistryTest, FindsTheRecordsOfANode) {
  Owners owners(*registry_, Milliseconds(5000));
  ASSERT_TRUE(wait(owners.claim("a", "job", "n1")));
  ASSERT_TRUE(wait(owners.claim("b", "job", "n2")));
  ASSERT_TRUE(wait(owners.claim("c", "n1", "n10")));
  ASSERT_TRUE(wait(owners.claim("d", "job", "n1")));
  ASSERT_TRUE(wait(owners.end("d", "n1")));
  const auto records = wait(owners.of_node("n1"));
  ASSERT_TRUE(records) << records.error().message;
  ASSERT_EQ(records->size(), 2u);
  EXPECT_EQ(records->at(0).ownership.container, "a");
  EXPECT_TRUE(records->at(1).ownership.ended);
}

TEST_P(RegistryTest, KeepsAnyTextAsItIs) {
  const std::string text = "{\"a\":\"\\u00e4 \xc3\xa4\\n\"}\n";
  for (const std::string& value : {text, std::string(), std::string(1, 'x'), std::string(2, 'y')}) {
    const auto now = get("text");
    ASSERT_TRUE(swap("text", now ? now->version : kAbsent, value)->written);
    EXPECT_EQ(get("text")->value, value);
  }
  EXPECT_EQ(swap("", kAbsent, "v").error().code, Errc::kInvalid);
  EXPECT_EQ(swap("big", kAbsent, std::string(Registry::kValueBytesMax + 1, 'x')).error().code,
            Errc::kInvalid);
}

// The terms are long beside a stall of the machine.
TEST_P(RegistryTest, ALeaseThatNobodyKeepsAliveTakesItsKeysAlong) {
  const LeaseId lease = wait(registry_->grant(Milliseconds(6000))).value();
  ASSERT_TRUE(swap("node/n1", kAbsent, "here", lease)->written);
  ASSERT_TRUE(swap("other", kAbsent, "stays")->written);
  for (int i = 0; i < 4; ++i) {
    pass(Milliseconds(2000));
    ASSERT_TRUE(wait(registry_->keep_alive(lease)));
  }
  EXPECT_TRUE(get("node/n1"));
  EXPECT_TRUE(goes("node/n1"));
  EXPECT_TRUE(get("other"));
  EXPECT_EQ(wait(registry_->keep_alive(lease)).error().code, Errc::kNotFound);
  EXPECT_EQ(swap("node/n1", kAbsent, "here", lease).error().code, Errc::kNotFound);
}

// Whose daemon stood still has not heard who kept a lease alive.
TEST_P(RegistryTest, TimeInWhichItsDaemonStoodStillEndsNoLease) {
  if (embedded_ == nullptr) GTEST_SKIP() << "for the embedded one";
  const LeaseId lease = wait(registry_->grant(Milliseconds(6000))).value();
  ASSERT_TRUE(swap("node/n1", kAbsent, "here", lease)->written);
  const auto from = now();
  stall_.emplace().tick(from);
  pass(Milliseconds(60'000));
  EXPECT_TRUE(get("node/n1"));
  stall_->tick(from + Milliseconds(60'000));
  EXPECT_TRUE(get("node/n1"));
  ASSERT_TRUE(wait(registry_->keep_alive(lease)));
  for (int i = 1; i <= 32; ++i) stall_->tick(from + Milliseconds(60'000 + i * 250));
  pass(Milliseconds(8000));
  EXPECT_FALSE(get("node/n1"));
}

TEST_P(RegistryTest, AShortLeaseEndsInTimeBesideLongOnes) {
  const LeaseId kept = wait(registry_->grant(Milliseconds(60'000))).value();
  ASSERT_TRUE(swap("node/n1", kAbsent, "here", kept)->written);  // when the first of them ends is known now
  const LeaseId lease = wait(registry_->grant(Milliseconds(6000))).value();
  ASSERT_TRUE(swap("node/n2", kAbsent, "here", lease)->written);
  pass(Milliseconds(2000));
  EXPECT_TRUE(get("node/n2"));
  EXPECT_TRUE(goes("node/n2"));
  EXPECT_TRUE(get("node/n1"));
}

TEST_P(RegistryTest, ALeaseThatIsRevokedTakesItsKeysAlong) {
  const LeaseId lease = wait(registry_->grant(Milliseconds(5000))).value();
  ASSERT_TRUE(swap("node/n2", kAbsent, "here", lease)->written);
  EXPECT_TRUE(wait(registry_->revoke(lease)));
  EXPECT_FALSE(get("node/n2"));
  EXPECT_TRUE(wait(registry_->revoke(lease))) << "what is gone need not be revoked";
}

TEST_P(RegistryTest, AKeyThatIsChangedLeavesItsLease) {
  const LeaseId lease = wait(registry_->grant(Milliseconds(5000))).value();
  const Swap made = swap("node/n3", kAbsent, "here", lease).value();
  ASSERT_TRUE(swap("node/n3", made.version, "for good")->written);
  EXPECT_TRUE(wait(registry_->revoke(lease)));
  EXPECT_TRUE(get("node/n3"));
}

TEST_P(RegistryTest, OwnersDecideOnce) {
  Owners owners(*registry_, kLimit);
  ASSERT_TRUE(wait(owners.claim("hpl-0", "hpl", "n1")));
  EXPECT_EQ(wait(owners.claim("hpl-0", "hpl", "n2")).error().code, Errc::kConflict);
  const OwnerRecord record = **wait(owners.find("hpl-0"));
  const OwnerRecord right = wait(owners.offer(record, {"n1-a", "n1", "n2"})).value();
  EXPECT_EQ(owner_record_from(to_json(right))->ownership, right.ownership);
  const auto first = [&](bool commits) -> awaitable<Result<decision::Written>> {
    if (commits) co_return co_await owners.commit(right, "n1-a");
    co_return co_await owners.abort(right, "n1-a");
  };
  EXPECT_EQ(wait(first(true)).value(), decision::Written::kYes);
  EXPECT_EQ(wait(first(false)).value(), decision::Written::kConflict);
  EXPECT_EQ((**wait(owners.find("hpl-0"))).ownership.owner, "n2");
  ASSERT_TRUE(wait(owners.end("hpl-0", "n1"))) << "not its owner: nothing to do";
  EXPECT_FALSE((**wait(owners.find("hpl-0"))).ownership.ended);
  ASSERT_TRUE(wait(owners.end_anywhere("hpl-0")));
  EXPECT_TRUE((**wait(owners.find("hpl-0"))).ownership.ended);
  EXPECT_EQ(wait(owners.claim("hpl-0", "hpl", "n3"))->ownership.epoch, 3U);
}

// Of a source that keeps no lease.
TEST_P(RegistryTest, ATargetSavesOnlyWhatItCanRunAlone) {
  Owners owners(*registry_, kLimit);
  const auto next = [&](OwnerRecord right) {
    decision::Target target;
    target.staged(right.version);
    target.source_lost();
    Decision decision(std::move(right));
    const auto step = [&]() -> awaitable<Status> {
      co_await step_at_target(owners, decision, target);
      co_return Status{};
    };
    EXPECT_TRUE(wait(step()));
    return target.next();
  };
  OwnedMigration migration{"n1-a", "n1", "n2"};
  const OwnerRecord whole =
      wait(owners.offer(wait(owners.claim("hpl-0", "hpl", "n1")).value(), migration)).value();
  EXPECT_EQ(next(whole), decision::Target::Do::kWriteCommit);
  migration.needs_source = true;
  const OwnerRecord part =
      wait(owners.offer(wait(owners.claim("hpl-1", "hpl", "n1")).value(), migration)).value();
  EXPECT_EQ(next(part), decision::Target::Do::kLook);
}

TEST_P(RegistryTest, ASourceThatStartsAgainWithoutThePagesOfAPostCopyGivesTheContainerUp) {
  Owners owners(*registry_, kLimit);
  OwnedMigration migration{"n1-a", "n1", "n2"};
  migration.needs_source = true;
  ASSERT_TRUE(wait(owners.offer(wait(owners.claim("hpl-0", "hpl", "n1")).value(), migration)));
  const auto lost = [&]() -> awaitable<Result<bool>> {
    // The target holds what it has, for ever if nobody tells it.
    AskTarget ask = []() -> awaitable<decision::Word> { co_return decision::Word::kUndecided; };
    co_return co_await give_up(owners, "n1", "hpl-0", "n1-a", std::move(ask));
  };
  const auto over = wait(lost());
  ASSERT_TRUE(over);
  EXPECT_TRUE(*over);
  const auto record = wait(owners.find("hpl-0")).value();
  ASSERT_TRUE(record);
  EXPECT_TRUE(record->ownership.ended);
  EXPECT_EQ(judge_for_target(record->ownership, "n1-a"), Verdict::kAborted);
}

TEST_P(RegistryTest, EmbeddedKeepsEverythingAndGivesLeasesAFullTermAfterARestart) {
  if (GetParam() != Kind::kEmbedded) GTEST_SKIP() << "of the embedded registry only";
  const LeaseId lease = wait(registry_->grant(Milliseconds(5000))).value();
  const Swap made = swap("node/n1", kAbsent, "here", lease).value();
  pass(Milliseconds(4000));
  open_embedded();
  EXPECT_EQ(get("node/n1"), (Entry{"node/n1", "here", made.version}));
  pass(Milliseconds(4000));
  EXPECT_TRUE(get("node/n1"));
  EXPECT_GT(swap("b", kAbsent, "v")->version, made.version);
  EXPECT_NE(wait(registry_->grant(Milliseconds(5000))).value(), lease);
  pass(Milliseconds(2000));
  EXPECT_FALSE(get("node/n1"));
}

TEST_P(RegistryTest, RemoteMakesSureOfASwapWhoseAnswerWasLost) {
  if (GetParam() != Kind::kRemote) GTEST_SKIP() << "of another daemon's registry only";
  const Swap made = swap("a", kAbsent, "one").value();
  server_->drop_connections();
  EXPECT_EQ(get("a"), (Entry{"a", "one", made.version}));
  server_->drop_connections();
  // Its answer was lost, though it was written.
  ASSERT_TRUE(wait(embedded_->try_swap({"a", made.version, "two", kNoLease}))->written);
  EXPECT_TRUE(swap("a", made.version, "two")->written);
  EXPECT_FALSE(swap("a", made.version, "three")->written);
}

TEST_P(RegistryTest, EtcdWorksOnWithoutAnyOneMember) {
  if (GetParam() != Kind::kEtcd) GTEST_SKIP() << "of etcd only";
  Swap last = swap("a", kAbsent, "0").value();
  for (int member = 0; member < EtcdCluster::kMembers; ++member) {
    EtcdCluster::shared().kill(member);
    for (int i = 0; i < 5; ++i) {
      auto next = swap("a", last.version, std::to_string(member) + "/" + std::to_string(i));
      ASSERT_TRUE(next) << next.error().message;
      ASSERT_TRUE(next->written);
      last = *next;
    }
    EXPECT_EQ(get("a")->version, last.version);
    EtcdCluster::shared().start(member);
    EtcdCluster::shared().wait_until_ready();
  }
}

TEST_P(RegistryTest, NobodyThereMeansNothingWritten) {
  if (GetParam() == Kind::kEmbedded) GTEST_SKIP() << "it is in this process";
  std::unique_ptr<Registry> nobody;
  if (GetParam() == Kind::kRemote) {
    RemoteRegistry::Settings settings;
    settings.addresses = {{"f", "127.0.0.1"}};
    settings.port = 1;
    settings.node = "head";
      settings.self = {"c", "n1", nullptr};
    nobody = std::make_unique<RemoteRegistry>(context_.get_executor(), settings);
  } else {
    EtcdHttp::Settings settings = EtcdCluster::shared().settings();
    settings.endpoints = {{"127.0.0.1", "1", true}};
    const auto executor = context_.get_executor();
    nobody = std::make_unique<EtcdRegistry>(executor,
                                            EtcdHttp::create(executor, std::move(settings)).value(), "p/");
  }
  EXPECT_EQ(wait(nobody->get("a")).error().code, Errc::kUnavailable);
  SwapRequest request{"a", kAbsent, "v", kNoLease};
  EXPECT_EQ(wait(nobody->swap(std::move(request), Milliseconds(300))).error().code, Errc::kUnavailable);
}

std::string name_of(const ::testing::TestParamInfo<Kind>& kind) {
  switch (kind.param) {
    case Kind::kEmbedded: return "embedded";
    case Kind::kRemote: return "remote";
    case Kind::kEtcd: return "etcd";
  }
  return "unknown";
}

INSTANTIATE_TEST_SUITE_P(All, RegistryTest, ::testing::Values(Kind::kEmbedded, Kind::kRemote, Kind::kEtcd),
                         name_of);

}  // namespace
}  // namespace lifeboat
