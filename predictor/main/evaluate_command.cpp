// lifeboat-predict evaluate: how good the predictions are on a log of real failures.
#include <algorithm>
#include <cstdio>

#include "predictor/evaluate/report.hpp"
#include "predictor/main/commands.hpp"
#include "predictor/main/options.hpp"

namespace lifeboat::predictor {
namespace {

constexpr const char* kUsage =
    R"(usage: lifeboat-predict evaluate --format FORMAT --train FILE... --test FILE... [OPTION]...
Learns from the training files, then predicts through the test files, still learning, and scores
that. What the training files have from the test's first event on is passed over.
  --format FORMAT      lanl, mira, alibaba, bgl, kmsg, replay
  --label reservations FILE...
                       Mira: the failures are the hardware reservations that name a board
                       (otherwise: its next FATAL event)
  --nodes NAME         LANL: only smp, numa or other systems (all: each scored apart, then added up)
  --window TIME        horizon of a prediction; an alarm is held for so long. 7d
  --lead-min TIME      an alarm that comes later than this before the failure is a miss. 120s
  --precision-min X    choose thresholds for at least this precision. 0: for the best F1
  --strict X           precision of the second operating point. 0.6
  --checkpoint TIME    cost model: writing a checkpoint. 5min
  --downtime TIME      after a failure. 10min
  --recovery TIME      reading a checkpoint. 5min
  --stall TIME         of the job by a migration. 30s
  --job-nodes N        nodes of one job. 128
  --spare X            share of degraded nodes that are idle spares anyway, 0 to 1. 1
  --config FILE        a mapping as section `predictor` of lifeboat.yaml
  --weights            show the learned weights of the failure history
  --json               JSON instead of tables
)";

struct Request {
  std::string format;
  Options::Values train;
  Options::Values test;
  Options::Values labels;
  std::string nodes = "all";
  std::string config;
  bool json = false;
  bool weights = false;
  bool help = false;
  Trial trial;
};

void cost_option(Options& options, const char* name, double& out) {
  options.add(name, [&out](const Options::Values& values) -> Status {
    if (values.size() != 1) return fail(Errc::kInvalid, "needs one value");
    TRY(const Duration duration, duration_from(values[0]));
    out = std::chrono::duration<double>(duration).count();
    return {};
  });
}

Status parse(int argc, char** argv, Request& out) {
  Options options;
  options.text("--format", out.format);
  options.texts("--train", out.train);
  options.texts("--test", out.test);
  options.texts("--label", out.labels);
  options.text("--nodes", out.nodes);
  options.text("--config", out.config);
  options.duration("--window", out.trial.window);
  options.duration("--lead-min", out.trial.lead_min);
  options.number("--precision-min", out.trial.precision_min);
  options.number("--strict", out.trial.strict_precision);
  cost_option(options, "--checkpoint", out.trial.cost.checkpoint_s);
  cost_option(options, "--downtime", out.trial.cost.downtime_s);
  cost_option(options, "--recovery", out.trial.cost.recovery_s);
  cost_option(options, "--stall", out.trial.cost.migration_s);
  options.number("--job-nodes", out.trial.cost.job_nodes);
  options.number("--spare", out.trial.cost.spare);
  options.flag("--json", out.json);
  options.flag("--weights", out.weights);
  options.flag("--help", out.help);
  CHECK_OK(options.parse(argc, argv));
  if (out.help) return {};
  if (out.format.empty()) return fail(Errc::kInvalid, "--format is missing");
  if (out.test.empty()) return fail(Errc::kInvalid, "--test is missing");
  if (out.trial.window <= Duration{0}) return fail(Errc::kInvalid, "--window must be above 0");
  if (out.trial.cost.job_nodes < 1) return fail(Errc::kInvalid, "--job-nodes must be at least 1");
  if (out.trial.cost.checkpoint_s <= 0) return fail(Errc::kInvalid, "--checkpoint must be above 0");
  if (out.trial.cost.spare > 1) return fail(Errc::kInvalid, "--spare must be at most 1");
  if (!out.labels.empty()) {
    if (out.labels[0] != "reservations" || out.labels.size() < 2) {
      return fail(Errc::kInvalid, "--label: expected 'reservations FILE'");
    }
    std::erase(out.labels, "reservations");
  }
  if (out.nodes != "all") out.trial.population = out.nodes;
  return {};
}

Result<std::vector<Input>> read_inputs(const Options::Values& paths) {
  std::vector<Input> inputs;
  for (const std::string& path : paths) {
    TRY(Input input, read_input(path));
    inputs.push_back(std::move(input));
  }
  return inputs;
}

Result<std::string> run(Request& request) {
  TRY(const Format format, format_from(request.format));
  if (!request.config.empty()) {
    CHECK_OK(yaml::read_file(request.config, [&](yaml::Reader& m) {
      read_predictor(m, request.trial.config);
    }));
  }
  TRY(std::vector<Input> inputs, read_inputs(request.train));
  TRY(const std::vector<Input> test, read_inputs(request.test));
  TRY(const std::vector<Input> labels, read_inputs(request.labels));
  TRY(const Log alone, read_log(format, test, {}));
  const Time begin = begin_of(alone);
  const std::size_t limited = inputs.size();
  inputs.insert(inputs.end(), test.begin(), test.end());
  TRY(const Log log, read_log(format, inputs, labels, limited, begin));
  if (log.rejected > 0) {
    (void)std::fprintf(stderr,
                       "evaluate: %zu lines are not of the format, ignoring; the first is %s\n",
                       log.rejected, log.first_rejected.c_str());
  }
  TRY(const Evaluation evaluation, evaluate(format, request.trial, log, begin));
  if (evaluation.units == 0) {
    return fail(Errc::kInvalid,
                "no nodes to score" + (request.trial.population.empty()
                                           ? std::string()
                                           : " of '" + request.trial.population + "'"));
  }
  std::string out = request.json ? to_json_text(request.trial, evaluation)
                                 : to_table(request.trial, evaluation);
  if (request.weights) {
    for (const auto& [name, weights] : evaluation.weights) {
      out += name + ":";
      for (const double weight : weights) out += " " + std::to_string(weight);
      out += "\n";
    }
  }
  return out;
}

}  // namespace

int evaluate_command(int argc, char** argv) {
  Request request;
  if (const Status parsed = parse(argc, argv, request); !parsed) {
    (void)std::fprintf(stderr, "evaluate: %s\n%s", parsed.error().message.c_str(), kUsage);
    return 2;
  }
  if (request.help) {
    (void)std::fputs(kUsage, stdout);
    return 0;
  }
  const Result<std::string> report = run(request);
  if (!report) {
    (void)std::fprintf(stderr, "evaluate: %s\n", report.error().message.c_str());
    return 1;
  }
  (void)std::fwrite(report->data(), 1, report->size(), stdout);
  return 0;
}

}  // namespace lifeboat::predictor
