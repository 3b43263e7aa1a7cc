#include "slurm/text.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <optional>

#include "base/text.hpp"

namespace lifeboat::slurm {

using predictor::Cause;
using predictor::Reason;

namespace {

constexpr std::string_view kOurs = "lifeboat: ";
constexpr std::string_view kClosed[] = {"drain", "fail", "down"};  // drained, draining, failing, ...
constexpr std::size_t kReasonMax = 160;  // of what is said; tools cut longer ones off

// What follows "`key`=" up to `end`; nothing if there is no such key.
std::optional<std::string_view> value_of(std::string_view text, std::string_view key, char end) {
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    const bool begins = at == 0 || std::isspace(static_cast<unsigned char>(text[at - 1])) != 0;
    const std::size_t value = at + key.size();
    if (!begins || value >= text.size() || text[value] != '=') continue;
    const std::string_view rest = text.substr(value + 1);
    return rest.substr(0, std::min(rest.find(end), rest.find('\n')));
  }
  return std::nullopt;
}

// "broken [root@2026-01-31T12:00:00]" -> "broken".
std::string_view without_author(std::string_view reason) {
  const std::size_t at = reason.rfind(" [");
  const bool author = at != std::string_view::npos && reason.back() == ']' &&
                      reason.find('@', at) != std::string_view::npos;
  return author ? reason.substr(0, at) : reason;
}

// One line that passes through a shell's, Slurm's and a table's hands.
std::string plain(std::string_view text) {
  std::string out(text.substr(0, kReasonMax));
  // No half of a character at its end.
  while (text.size() > kReasonMax && !out.empty() && (static_cast<unsigned char>(text[out.size()]) & 0xc0) == 0x80) {
    out.pop_back();
  }
  std::replace_if(out.begin(), out.end(), [](unsigned char c) { return std::iscntrl(c) != 0 || c == '"'; }, ' ');
  return out;
}

// "[CLUSTER/NODE/".
std::string mark_of(const Owner& owner) { return "[" + owner.cluster + "/" + owner.node + "/"; }

std::string reason_text(const Reason& reason, const Owner& owner) {
  const auto since = std::chrono::duration_cast<std::chrono::seconds>(reason.since.time_since_epoch());
  return std::string(kOurs) + plain(reason.text) + " " + mark_of(owner) + std::to_string(since.count()) + "]";
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Whether the script's own options, which end with its first command, have this one.
bool script_says_no_kill(std::string_view script) {
  for (std::string_view line : split(script, '\n')) {
    if (!line.empty() && line.front() != '#') return false;
    if (!line.starts_with("#SBATCH")) continue;
    for (const std::string_view word : split(line, ' ')) {
      if (word == "-k" || word == "--no-kill") return true;
    }
  }
  return false;
}

}  // namespace

Result<NodeShown> node_from(std::string_view text) {
  const auto states = value_of(text, "State", ' ');
  if (!states || states->empty()) return fail(Errc::kProtocol, "scontrol show node printed no State");
  NodeShown node;
  for (std::string_view word : split(*states, '+')) {
    while (!word.empty() && std::isalpha(static_cast<unsigned char>(word.back())) == 0) word.remove_suffix(1);
    node.fail = node.fail || is_one_of(word, {"FAIL", "FAILING"});
    node.drain = node.drain || is_one_of(word, {"DRAIN", "DRAINED", "DRAINING"});
    node.down = node.down || word == "DOWN";
  }
  if (const auto reason = value_of(text, "Reason", '\n')) node.reason = without_author(*reason);
  return node;
}

bool is_ours(std::string_view reason, const Owner& owner) {
  const std::size_t at = reason.rfind(mark_of(owner));
  if (!reason.starts_with(kOurs) || at == std::string_view::npos || reason.back() != ']') return false;
  const std::string_view number = reason.substr(at + mark_of(owner).size());
  return number.size() > 1 && std::all_of(number.begin(), number.end() - 1,
                                          [](unsigned char c) { return std::isdigit(c) != 0; });
}

NodeWanted wanted_for(const predictor::NodeState& state, const Owner& owner) {
  const Reason* shown = state.reason();
  if (shown == nullptr) return {};
  // What is expected says more of the node than that somebody empties it.
  if (const Reason* expected = state.reason(Cause::kPredictor)) shown = expected;
  const bool word = shown->cause == Cause::kOperator || shown->cause == Cause::kMaintenance;
  return {word ? NodeWish::kDrain : NodeWish::kFail, reason_text(*shown, owner)};
}

NodeStep next_step(const NodeWanted& wanted, const NodeShown& shown, const Owner& owner) {
  const bool ours = is_ours(shown.reason, owner);
  if (wanted.state == NodeWish::kNothing) {
    return ours && (shown.fail || shown.drain) ? NodeStep::kClear : NodeStep::kNothing;
  }
  const bool closed = shown.fail || shown.drain || shown.down;
  if (closed && !ours) return NodeStep::kForeign;
  const bool set = wanted.state == NodeWish::kFail ? shown.fail : shown.drain;
  return set && shown.reason == wanted.reason ? NodeStep::kNothing : NodeStep::kSet;
}

Result<std::vector<JobListed>> jobs_from(std::string_view text) {
  std::vector<JobListed> jobs;
  for (const std::string& line : lines_of(text)) {
    const std::vector<std::string_view> parts = split(line, '|');
    JobListed job;
    const std::string_view id = parts[0];
    const auto parsed = std::from_chars(id.data(), id.data() + id.size(), job.id);
    if (parts.size() != 3 || parsed.ec != std::errc() || parsed.ptr != id.data() + id.size()) {
      return fail(Errc::kProtocol, "squeue printed '" + line.substr(0, 200) + "'");
    }
    job.has_nodes = is_one_of(parts[1], {"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"});
    job.nodes = parts[2];
    jobs.push_back(std::move(job));
  }
  return jobs;
}

Result<NodesListed> nodes_from(std::string_view text, const std::string& cluster) {
  NodesListed nodes;
  for (const std::string& line : lines_of(text)) {
    const std::size_t first = line.find('|');
    const std::size_t second = first == std::string::npos ? first : line.find('|', first + 1);
    if (second == std::string::npos || first == 0) {
      return fail(Errc::kProtocol, "sinfo printed '" + line.substr(0, 200) + "'");
    }
    const std::string name = line.substr(0, first);
    const std::string state = line.substr(first + 1, second - first - 1);  // "idle", "down*"
    if (state == "idle") nodes.idle.insert(name);
    const bool closed = std::any_of(std::begin(kClosed), std::end(kClosed),
                                    [&](std::string_view word) { return state.starts_with(word); });
    if (closed && !is_ours(std::string_view(line).substr(second + 1), {cluster, name})) nodes.closed.insert(name);
  }
  return nodes;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  for (const std::string_view line : split(text, '\n')) {
    if (!line.empty()) lines.emplace_back(line);
  }
  return lines;
}

std::vector<std::string> warnings_for(const JobEnvironment& job, std::string_view script) {
  std::vector<std::string> warnings;
  if (job.job_id.empty()) return warnings;
  if (!job.no_kill && !script_says_no_kill(script)) {
    warnings.push_back("Slurm ends job " + job.job_id +
                       " with the first of its nodes that fails, although its ranks have left it, unless it was "
                       "submitted with --no-kill, which Slurm does not tell; write '#SBATCH --no-kill' into its "
                       "script, or export SALLOC_NO_KILL=1 before salloc");
  }
  if (!job.step_nodes.empty() && job.step_nodes != "1") {
    warnings.push_back("srun has started this on " + job.step_nodes +
                       " nodes, and Slurm ends it with the first of them that fails; call lifeboat run without "
                       "srun, or with srun -k -N1 -n1");
  }
  return warnings;
}

}  // namespace lifeboat::slurm
