// The workshop's program: the commands that train, started by `linnet`.
#include "cli/train_commands.h"
#include "train/tensor_memory.h"

int main(int argc, char** argv) {
  linnet::train::keep_tensor_memory();
  return linnet::cli::run_train_commands(argc, argv);
}
