// Options of the commands that write text: how a token is chosen, where the text ends; each described once.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.h"
#include "generate/engine.h"

namespace linnet::cli {

struct SamplingOptions : SharedOptions {
  std::optional<int64_t> max_new_tokens, top_k;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::vector<std::string> stop;
  bool ignore_eos = false;
};

/// `most`: --max-new-tokens where neither it nor generation_config.json says.
void add_sampling(CLI::App& app, SamplingOptions& options, int64_t most);

/// Refuses options that would do nothing.
void check_sampling(const SamplingOptions& options);

/// Options first, then generation_config.json; greedy unless either asks for sampling.
Sampling sampling_of(const SamplingOptions& options, const GenerationConfig& config);

/// What the options and the model say of a request; the prompt is the caller's. `turns`: the tokenizer's own
/// end token ends a text too, as chat models mark their turns by it.
Request request_of(const SamplingOptions& options, const Model& model, const Tokenizer& tokenizer,
                   int64_t most, bool turns);

struct Ending {
  const char* name = "";   // `finished` in JSON: "length", "end", "stop", "positions", "interrupted"
  const char* words = "";  // "the token limit", …
};
Ending ending_of(Finish finish);

}  // namespace linnet::cli
