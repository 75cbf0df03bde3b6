// The runtime's program. Commands that train live in linnet-train, which this one starts.
#include "cli/commands.h"

namespace linnet::cli {
namespace {

constexpr Command kCommands[] = {
    {"attention", "one attention applied to the tensors of a file", describe_attention},
    {"bench", "how fast a model runs, and how far that is from what the machine can do", describe_bench},
    {"inspect", "what a model folder is, and what is wrong with it", describe_inspect},
    {"merge", "a full folder from a sidecar or LoRA and its base", describe_merge},
    {"pretrain", "a model from nothing", nullptr},
    {"tokenizer", "train a tokenizer, encode, decode", describe_tokenizer},
    {"finetune", "next-token loss on a model, softmax or linear", nullptr},
    {"linearize", "a softmax model with linear attention", nullptr},
};

}  // namespace
}  // namespace linnet::cli

int main(int argc, char** argv) { return linnet::cli::run_commands(linnet::cli::kCommands, argc, argv); }
