// lifeboatd - one per node: looks after the containers here and moves them.
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "agent.hpp"
#include "api.hpp"
#include "base/log.hpp"
#include "base/notify.hpp"
#include "base/process.hpp"
#include "base/starter.hpp"
#include "config.hpp"
#include "criu_glue/inject.hpp"
#include "criu_glue/perf_hold.hpp"
#include "page_server.hpp"

namespace {

using namespace lifeboat;

awaitable<void> reap_now_and_then() {
  for (;;) {
    co_await sleep_for(Milliseconds(5000));
    reap_strangers();
  }
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// On SIGHUP. Certificates need none: each connection looks for newer ones.
void reload(Agent& agent, const std::string& path) {
  auto newer = load_config(path);
  if (!newer) {
    log::error("the configuration has errors; the one before stays in force", {{"reason", newer.error().message}});
    return;
  }
  const ConfigChanges changes = agent.node().reload(std::move(*newer));
  log::info("read the configuration again", {{"taken", listed(changes.taken)}});
  if (!changes.need_restart.empty()) {
    log::warn("what has changed here is taken at the next start; containers do not notice it",
              {{"sections", listed(changes.need_restart)}});
  }
}

awaitable<void> run(Agent& agent, std::string config_path, std::string socket, int& exit_code) {
  auto executor = co_await asio::this_coro::executor;
  auto& context = static_cast<asio::io_context&>(executor.context());
  auto started = co_await agent.start();
  if (started) {
    const SecurityConfig& security = agent.node().config().security;
    auto access = ApiAccess::make(security.admin_group, security.read_group);
    if (!access) {
      started = tl::unexpected<Error>(access.error());
    } else {
      started = co_await serve_api(agent, socket, std::move(*access));
    }
  }
  if (started) started = co_await serve_page(agent);
  if (!started) {
    log::error("cannot start", {{"reason", started.error().message}});
    exit_code = 1;
    context.stop();
    co_return;
  }
  run_detached(executor, "reaping", reap_now_and_then());
  run_detached(executor, "feeding the watchdog", feed_watchdog());
  log::info("ready", {{"node", agent.node().name()}, {"socket", socket}});
  notify_service_manager("READY=1");
  asio::signal_set signals(executor, SIGTERM, SIGINT, SIGHUP);
  int number = SIGHUP;
  while (number == SIGHUP) {
    auto [error, received] = co_await signals.async_wait(use_tuple);
    number = received;
    if (number == SIGHUP) reload(agent, config_path);
  }
  log::info("stopping; containers and jobs run on", {{"signal", std::to_string(number)}});
  notify_service_manager("STOPPING=1");
  // What is held here for a source must not be undone: it may be the only copy. If its decision takes long,
  // this ends as by SIGKILL: the next daemon finds everything as it is.
  constexpr int kTries = 500;  // of 10 ms
  for (int i = 0; agent.node().undecided(); ++i) {
    if (i == kTries) {
      log::warn("a container is held here whose migration is not decided; the next lifeboatd goes on with it");
      std::_Exit(0);
    }
    co_await sleep_for(Milliseconds(10));
  }
  context.stop();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Lifeboat's service on one node: keeps its containers and moves them"};
  std::string config_path = "/etc/lifeboat/lifeboat.yaml";
  std::string name;
  std::string starter;
  bool check = false;
  app.set_version_flag("--version", LIFEBOAT_VERSION);
  app.add_option("--config", config_path, "configuration file")->capture_default_str();
  app.add_option("--node", name, "this node's name (default: the host name)");
  app.add_option("--starter", starter, "socket of lifeboat-starter: it starts processes, not this daemon");
  app.add_flag("--check-config", check, "read the configuration, say what is wrong, and end");
  CLI11_PARSE(app, argc, argv);

  auto config = load_config(config_path);
  if (!config) {
    std::cerr << config.error().message << "\n";
    return 2;
  }
  if (!name.empty()) config->node = name;
  if (config->find_node(config->node) == nullptr) {
    std::cerr << config_path << ": nodes: this node, '" << config->node
              << "', is not listed; add it or start with --node NAME\n";
    return 2;
  }
  if (check) {
    std::cout << config_path << ": ok\n";
    return 0;
  }

  if (!starter.empty()) {
    if (const Status there = use_starter(starter); !there) {
      std::cerr << there.error().message << "\n";
      return 1;
    }
  }
  // Without a starter containers whose runtime has ended become our children, so we learn how they end.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  // Neither keys nor pages get into a core dump, and no other process but root's reads this one.
  ::prctl(PR_SET_DUMPABLE, 0);
  std::signal(SIGPIPE, SIG_IGN);
  raise_priority();

  const PerfHold perf_hold;
  if (!perf_hold.held()) {
    log::info("freezes take some milliseconds more", {{"reason", perf_hold.reason()}});
  }
  auto context = std::make_unique<asio::io_context>(1);
  const std::string socket = config->paths.run_dir + "/api.sock";
  std::string node_name = config->node;
  Agent agent(context->get_executor(), std::move(*config), std::move(node_name));
  use_injector(agent.node().libexec() + "/lifeboat-inject");
  int exit_code = 0;
  asio::co_spawn(*context, run(agent, config_path, socket, exit_code), [&](std::exception_ptr e) {
    if (!e) return;
    log::error("the service failed");
    exit_code = 1;
    context->stop();
  });
  context->run();
  agent.end();
  context.reset();  // unfinished migrations are undone here, while the agent is still there
  return exit_code;
}
