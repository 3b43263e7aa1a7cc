// lifeboat-predict: tries the failure predictor on recorded logs.
#include <cstdio>
#include <string_view>

#include "predictor/main/commands.hpp"
#include "predictor/record.hpp"

namespace {

struct Command {
  const char* name;
  int (*run)(int argc, char** argv);
  const char* about;
};

constexpr Command kCommands[] = {
    {"evaluate", lifeboat::predictor::evaluate_command, "score predictions on a log of failures"},
    {"replay", lifeboat::predictor::replay_command, "show what the predictor says to a log"},
    {"record", lifeboat::predictor::record, "write what this node's sources tell to a replay file"},
    {"bench", lifeboat::predictor::bench_command, "measure events per second, delay, memory"},
};

int usage() {
  (void)std::fputs(
      "usage: lifeboat-predict COMMAND [OPTION]...; COMMAND --help tells its options\n", stderr);
  for (const Command& command : kCommands) {
    (void)std::fprintf(stderr, "  %-10s %s\n", command.name, command.about);
  }
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return usage();
  for (const Command& command : kCommands) {
    if (std::string_view(argv[1]) == command.name) return command.run(argc - 1, argv + 1);
  }
  return usage();
}
