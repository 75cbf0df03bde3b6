// The runtime's program. Commands that train live in linnet-train, which this one starts.
#include "cli/commands.h"

namespace linnet::cli {
namespace {

constexpr Command kCommands[] = {
    {"generate", "text from a prompt", describe_generate},
    {"chat", "turns at a terminal, the history kept in the state", describe_chat},
    {"serve", "the OpenAI API over HTTP, for any of its clients", describe_serve},
    {"perplexity", "how well a model predicts text", describe_perplexity},
    {"embed", "a vector for each text", describe_embed},
    {"evaluate", "scores on tasks, of multiple choice and written answers", describe_evaluate},
    {"classify", "what a classifier takes texts for, and how well", describe_classify},
    {"reach", "which key-value heads of a softmax model look far", describe_reach},
    {"recall", "what a model recalls of the text that it has read, by distance", describe_recall},
    {"inspect", "what a model folder is, and what is wrong with it", describe_inspect},
    {"check", "causality, forms, state and trees of a model with its own weights", describe_check},
    {"bench", "how fast a model runs, and how far that is from what the machine can do", describe_bench,
     "--training"},
    {"tune-tree", "the tree of guesses that pays most for a drafter on this machine", describe_tune_tree},
    {"tokenizer", "train a tokenizer, encode, decode", describe_tokenizer},
    {"methods", "the attention methods: what each learns and keeps", describe_methods},
    {"attention", "one attention applied to the tensors of a file", describe_attention, "--form=parallel"},
    {"pretrain", "a model from nothing", nullptr},
    {"finetune", "a model trained on, softmax or linear: on text, or with --task as a classifier", nullptr},
    {"linearize", "a softmax model with linear attention", nullptr},
    {"compare", "methods, variants and recipes trained alike, as one table", nullptr},
    {"train-heads", "draft heads for a model, which speculation guesses with", nullptr},
    {"leak", "what a model that sees the future looks like", nullptr},
    {"import", "a Hugging Face folder from a GGUF file", describe_import},
    {"quantize", "a model folder with its matrices in 8 or 4 bits", describe_quantize},
    {"merge", "a full folder from a sidecar or LoRA and its base", describe_merge},
};

}  // namespace
}  // namespace linnet::cli

int main(int argc, char** argv) { return linnet::cli::run_commands(linnet::cli::kCommands, argc, argv); }
