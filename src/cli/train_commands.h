// What linnet-train does.
#pragma once

namespace linnet::cli {

/// Runs the command of a command line, one of those that train. Returns the exit status.
int run_train_commands(int argc, char** argv);

}  // namespace linnet::cli
