#include "cli/train_commands.h"

#include "cli/commands.h"

namespace linnet::cli {
namespace {

constexpr Command kCommands[] = {
    {"attention", "the training form of an attention, applied to the tensors of a file",
     describe_attention_parallel},
    {"bench", "how fast a model trains", describe_bench_training},
    {"pretrain", "a model from nothing", describe_pretrain},
    {"finetune", "a model trained on, softmax or linear: on text, or with --task as a classifier",
     describe_finetune},
    {"linearize", "a softmax model with linear attention", describe_linearize},
    {"compare", "methods, variants and recipes trained alike, as one table", describe_compare},
    {"train-heads", "draft heads for a model, which speculation guesses with", describe_train_heads},
    {"leak", "what a model that sees the future looks like", describe_leak},
};

}  // namespace

int run_train_commands(int argc, char** argv) { return run_commands(kCommands, argc, argv); }

}  // namespace linnet::cli
