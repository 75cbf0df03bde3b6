// The commands, one a file src/cli/<command>.cpp, listed by main.cpp.
#pragma once

#include "cli/command.h"

namespace linnet::cli {

void describe_attention(CLI::App& app, Work& work);
void describe_attention_parallel(CLI::App& app, Work& work);
void describe_bench(CLI::App& app, Work& work);
void describe_bench_training(CLI::App& app, Work& work);
void describe_chat(CLI::App& app, Work& work);
void describe_check(CLI::App& app, Work& work);
void describe_classify(CLI::App& app, Work& work);
void describe_compare(CLI::App& app, Work& work);
void describe_embed(CLI::App& app, Work& work);
void describe_evaluate(CLI::App& app, Work& work);
void describe_finetune(CLI::App& app, Work& work);
void describe_generate(CLI::App& app, Work& work);
void describe_import(CLI::App& app, Work& work);
void describe_inspect(CLI::App& app, Work& work);
void describe_leak(CLI::App& app, Work& work);
void describe_linearize(CLI::App& app, Work& work);
void describe_merge(CLI::App& app, Work& work);
void describe_methods(CLI::App& app, Work& work);
void describe_perplexity(CLI::App& app, Work& work);
void describe_pretrain(CLI::App& app, Work& work);
void describe_quantize(CLI::App& app, Work& work);
void describe_reach(CLI::App& app, Work& work);
void describe_recall(CLI::App& app, Work& work);
void describe_serve(CLI::App& app, Work& work);
void describe_tokenizer(CLI::App& app, Work& work);
void describe_train_heads(CLI::App& app, Work& work);
void describe_tune_tree(CLI::App& app, Work& work);

}  // namespace linnet::cli
