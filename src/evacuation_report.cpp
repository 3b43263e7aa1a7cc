#include "evacuation_report.hpp"

#include <cstdio>
#include <utility>

#include "table.hpp"

namespace lifeboat::evacuation {
namespace {

std::string seconds_text(double seconds) {
  char text[32];
  if (seconds < 1) {
    std::snprintf(text, sizeof text, "%.0f ms", seconds * 1000);
  } else {
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  }
  return text;
}

std::string steps_text(const Plan& plan) {
  if (plan.steps.empty()) return "nothing to move\n";
  Table table(
      {"step", "container", "from -> to", "fabric", "mode", "start", "takes", "downtime", "why"});
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const Step& step = plan.steps[i];
    std::string start = seconds_text(step.start_s);
    if (step.after > 0) start += " (after " + std::to_string(step.after) + ")";
    table.add({std::to_string(i + 1), step.container, step.from + " -> " + step.to, step.fabric,
               to_string(step.mode), std::move(start), seconds_text(step.duration_s),
               seconds_text(step.downtime_s), step.why});
  }
  return table.text() + plan.why + "\n";
}

std::string verdict(const NodeForecast& node) {
  if (node.fits) return "in time";
  if (node.unplaced > 0) return std::to_string(node.unplaced) + " stay";
  if (node.in_time == node.leaving) return "in time, with no margin";
  return std::to_string(node.in_time) + " of " + std::to_string(node.leaving) + " in time";
}

std::string nodes_text(const Plan& plan) {
  if (plan.nodes.empty()) return {};
  Table table({"node", "because", "lead", "leaving", "empty after", "start by", "verdict"});
  for (const NodeForecast& node : plan.nodes) {
    const bool window = node.reason == Reason::kMaintenance && node.lead_s;
    table.add({node.node, to_string(node.reason),
               node.lead_s ? seconds_text(*node.lead_s) : "unknown", std::to_string(node.leaving),
               seconds_text(node.end_s), window ? seconds_text(node.latest_start_s) : "now",
               verdict(node)});
  }
  return "\n" + table.text();
}

}  // namespace

std::string to_text(const Plan& plan) {
  std::string text = steps_text(plan) + nodes_text(plan);
  if (plan.jobs > 0) {
    text += "jobs on failing nodes that get away in time: " + std::to_string(plan.jobs_saved) +
            " of " + std::to_string(plan.jobs) + "\n";
  }
  for (const Unplaced& unplaced : plan.unplaced) {
    text += "STAYS: " + unplaced.container + " on " + unplaced.node + ": " + unplaced.why + "\n";
  }
  for (const Cancel& cancel : plan.cancel) {
    text +=
        "CANCEL: " + cancel.container + " on its way to " + cancel.to + ": " + cancel.why + "\n";
  }
  return text;
}

json::object to_json(const Plan& plan) {
  json::array steps;
  for (const Step& step : plan.steps) {
    json::object item{{"step", steps.size() + 1},
                      {"container", step.container},
                      {"from", step.from},
                      {"to", step.to},
                      {"fabric", step.fabric},
                      {"mode", to_string(step.mode)},
                      {"after", step.after},
                      {"wave", step.wave},
                      {"start_s", step.start_s},
                      {"duration_s", step.duration_s},
                      {"downtime_s", step.downtime_s},
                      {"why", step.why}};
    steps.push_back(std::move(item));
  }
  json::array nodes;
  for (const NodeForecast& node : plan.nodes) {
    json::object item{{"node", node.node},
                      {"reason", to_string(node.reason)},
                      {"leaving", node.leaving},
                      {"unplaced", node.unplaced},
                      {"in_time", node.in_time},
                      {"start_s", node.start_s},
                      {"end_s", node.end_s},
                      {"fits", node.fits},
                      {"latest_start_s", node.latest_start_s}};
    if (node.lead_s) item["lead_s"] = *node.lead_s;
    nodes.push_back(std::move(item));
  }
  json::array unplaced;
  for (const Unplaced& one : plan.unplaced) {
    json::object item{{"container", one.container}, {"node", one.node}, {"why", one.why}};
    unplaced.push_back(std::move(item));
  }
  json::array cancel;
  for (const Cancel& one : plan.cancel) {
    json::object item{{"container", one.container}, {"to", one.to}, {"why", one.why}};
    cancel.push_back(std::move(item));
  }
  return json::object{{"steps", std::move(steps)},
                      {"nodes", std::move(nodes)},
                      {"unplaced", std::move(unplaced)},
                      {"cancel", std::move(cancel)},
                      {"streams_per_wire", plan.streams_per_wire},
                      {"end_s", plan.end_s},
                      {"jobs", plan.jobs},
                      {"jobs_saved", plan.jobs_saved},
                      {"why", plan.why}};
}

}  // namespace lifeboat::evacuation
