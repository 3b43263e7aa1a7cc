// The agent's work for other nodes' daemons: who they are, what they may ask, and the answers.
#include <algorithm>

#include "agent.hpp"
#include "base/log.hpp"
#include "events.hpp"
#include "migration/target.hpp"
#include "registry/embedded.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

double steady_s() {
  return std::chrono::duration<double>(SteadyClock::now().time_since_epoch()).count();
}

}  // namespace

Status Agent::load_credentials() {
  const Config& config = node_.config();
  if (config.security.insecure) {
    log::warn("nothing between nodes is encrypted, and nobody is sure who is who (security.insecure)");
    return {};
  }
  CertificateName self;
  self.cluster = config.cluster;
  self.node = node_.name();
  self.role = node_.self().role;
  auto credentials = Credentials::load(config.security, std::move(self));
  if (!credentials) {
    return tl::unexpected<Error>(Error(
        credentials.error().code, credentials.error().message + "; `lifeboat pki` makes certificates"));
  }
  node_.set_credentials(std::move(*credentials));
  return {};
}

// What is wrong with this node's certificate is told when it begins, and when it is over.
awaitable<void> Agent::watch_certificate() {
  constexpr std::chrono::minutes kPause{1};
  constexpr std::chrono::hours kSoon{24 * 14};
  const std::shared_ptr<Credentials> credentials = node_.credentials();
  std::string told;
  for (;;) {
    std::string problem = credentials->problem();
    const predictor::Time end(std::chrono::seconds(credentials->expires()));
    if (problem.empty() && end - health_now() < kSoon) problem = "it expires at " + timestamp(end);
    if (!problem.empty() && problem != told) {
      log::warn(events::kCertificateProblem, "this node's certificate must be seen to", {{"reason", problem}});
    } else if (problem.empty() && !told.empty()) {
      log::info(events::kCertificateGood, "this node's certificate is good again",
                {{"expires", timestamp(end)}});
    }
    told = std::move(problem);
    co_await sleep_for(kPause);
  }
}

Result<Asking> Agent::identify(const PeerName& peer) const {
  const NodeConfig* const known = node_.config().find_node(peer.node);
  if (known == nullptr) {
    return fail(Errc::kRefused, "node " + peer.node + " is not configured (nodes)");
  }
  if (peer.role && *peer.role != known->role) {
    return fail(Errc::kRefused, "node " + peer.node + " has a certificate for the role " +
                                    to_string(*peer.role) + ", but is configured as " +
                                    to_string(known->role));
  }
  const std::vector<std::string> listeners = heartbeat_listeners(node_.config());
  Asking asking;
  asking.node = peer.node;
  asking.role = known->role;
  asking.listener = std::find(listeners.begin(), listeners.end(), peer.node) != listeners.end();
  return asking;
}

// Whether `node` is at the other end of the migration, or the last one of the container, or in the Slurm job, that
// is asked about.
bool Agent::is_party(const std::string& method, const json::object& params, const std::string& node) const {
  const std::string id = string_or(params, "id");
  if (method == "migration.outcome") return is_migration_of(id, node);
  if (method == "migration.cancel") {
    const auto at = node_.migrations().find(id);
    return at != node_.migrations().end() && at->second->target == node;
  }
  if (method == "migrate") {  // back to where it came from: a node that is well again (evacuation.bring_back)
    const auto here = node_.find(string_or(params, "container"));
    return here && here->origin().node == node && string_or(params, "to") == node;
  }
  // In a Slurm job of which that node is one; Jobs::run asks Slurm for it.
  if (method == "job.run") return node_.config().slurm.enabled && params.contains("slurm_job");
  if (method == "job.logs" || method == "job.kill") return jobs_.was_asked_by(string_or(params, "name"), node);
  const auto container = node_.find(id);
  return container && is_migration_of(container->migration(), node);
}

awaitable<void> Agent::serve_peer(Stream::Socket socket) {
  Link link(std::move(socket));
  auto pass = gate_.enter(link.remote());
  if (!pass) co_return;  // the connection closes
  auto peer = co_await link.accept_hello(node_.link_self(), node_.config().timeouts.connect);
  if (!peer) {
    log::warn("refused a peer", {{"from", link.remote()}, {"reason", peer.error().message}});
    co_return;
  }
  auto asking = identify(*peer);
  if (asking && !gate_.admit(*pass, peer->node)) {
    asking = fail(Errc::kConflict, "node " + peer->node + " has too many connections here "
                                       "(security.connections_per_peer)");
  }
  if (!asking) {
    log::warn("refused a peer", {{"from", link.remote()}, {"reason", asking.error().message}});
    json::object body = failed_body(asking.error(), "");
    (void)co_await link.send(Kind::kFailed, std::move(body), node_.config().timeouts.connect);
    co_return;
  }
  co_await serve_requests(std::move(link), std::move(*asking));
}

awaitable<void> Agent::serve_requests(Link link, Asking peer) {
  const Timeouts& timeouts = node_.config().timeouts;
  for (;;) {
    auto frame = co_await link.receive(timeouts.idle);
    if (!frame) co_return;
    const double delay_s = gate_.delay_s(peer.node, steady_s());
    if (delay_s > 0) co_await sleep_for(Milliseconds(static_cast<long>(delay_s * 1000) + 1));
    auto body = parse_object(frame->text());
    if (!body) co_return;
    if (frame->kind == Kind::kRequest) {
      auto answered = co_await answer_request(link, peer, std::move(*body));
      if (!answered) co_return;
      continue;
    }
    if (frame->kind != Kind::kOffer && frame->kind != Kind::kPages) co_return;
    const Status allowed = frame->kind == Kind::kOffer
                               ? check_offer(peer, string_or(*body, "source"), string_or(*body, "migration"))
                               : check_pages(peer, string_or(*body, "migration"));
    if (!allowed) {
      log::warn("refused a peer", {{"from", link.remote()}, {"reason", allowed.error().message}});
      json::object refusal = failed_body(allowed.error(), "");
      (void)co_await link.send(Kind::kFailed, std::move(refusal), timeouts.request);
      co_return;
    }
    if (frame->kind == Kind::kOffer) {
      co_await serve_migration(node_, std::move(link), std::move(*body));
      co_return;
    }
    auto taken = co_await take_page_connection(node_, std::move(link), std::move(*body), timeouts.request);
    if (!taken) log::warn("refused a page connection", {{"reason", taken.error().message}});
    co_return;
  }
}

// As check_swap(). A change that is not from the version there is does not happen.
awaitable<Status> Agent::check_change(const Asking& peer, const json::object& swap) {
  if (served_ == nullptr) co_return Status{};  // refused later
  CO_TRY(std::string key, get_string(swap, "key"));
  CO_TRY(const std::uint64_t version, get_u64(swap, "version"));
  std::optional<std::string> next;
  if (swap.contains("value")) {
    CO_TRY(next, get_string(swap, "value"));
  }
  CO_TRY(const std::optional<Entry> now, co_await served_->get(key));
  if ((now ? now->version : kAbsent) != version) co_return Status{};
  std::optional<std::string> before;
  if (now) before = now->value;
  co_return check_swap(peer, key, before, next);
}

awaitable<Status> Agent::answer_request(Link& link, Asking peer, json::object request) {
  const std::string method = string_or(request, "method");
  const json::value* params = request.if_contains("params");
  json::object arguments =
      params != nullptr && params->is_object() ? params->get_object() : json::object{};
  peer.party = is_party(method, arguments, peer.node);
  if (method == "job.run") arguments["asked_by"] = peer.role == NodeRole::kHead ? "" : peer.node;
  Status allowed = check_right(method, peer);
  if (allowed && method == "registry.swap") allowed = co_await check_change(peer, arguments);
  Result<json::object> result = json::object{};
  if (allowed) {
    result = co_await handle(method, std::move(arguments), Caller::kPeer);
  } else {
    log::warn("refused a request", {{"from", link.remote()}, {"reason", allowed.error().message}});
    result = tl::unexpected<Error>(allowed.error());
  }
  const Kind kind = result ? Kind::kResponse : Kind::kFailed;
  json::object answer = result ? std::move(*result) : failed_body(result.error(), "");
  co_return co_await link.send(kind, std::move(answer), node_.config().timeouts.request);
}

}  // namespace lifeboat
