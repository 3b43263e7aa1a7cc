// commands.hpp - the subcommands of lifeboat-predict. Each gets its own name as argv[0] and returns
// the program's exit status: 0, 1 for a failure, 2 for wrong use.
#pragma once

namespace lifeboat::predictor {

int evaluate_command(int argc, char** argv);
int replay_command(int argc, char** argv);
int bench_command(int argc, char** argv);

}  // namespace lifeboat::predictor
