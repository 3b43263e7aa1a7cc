// record.hpp - `lifeboat-predict record`: writes what the sources of this node tell to a replay file,
// one line an event (event.hpp), until it is told to stop.
#pragma once

namespace lifeboat::predictor {

// argv[0] is the subcommand's own name. Returns the exit status: 0 also after SIGINT and SIGTERM, 1 if
// the file could not be written, CLI11's for arguments that make no sense.
int record(int argc, char** argv);

}  // namespace lifeboat::predictor
