#include "cli/sampling.h"

#include <fmt/format.h>

#include <algorithm>

namespace linnet::cli {
namespace {

std::vector<int32_t> end_tokens(const Model& model, const Tokenizer& tokenizer, bool turns) {
  const auto& eos = model.generation().eos.empty() ? model.config().eos : model.generation().eos;
  std::vector<int32_t> ids(eos.begin(), eos.end());
  const auto own = tokenizer.eos();
  if (own && (ids.empty() || (turns && std::find(ids.begin(), ids.end(), *own) == ids.end()))) {
    ids.push_back(*own);
  }
  return ids;
}

}  // namespace

void add_sampling(CLI::App& app, SamplingOptions& options, int64_t most) {
  options.app = &app;
  app.add_option("-n,--max-new-tokens", options.max_new_tokens,
                 fmt::format("Most tokens to generate (default: generation_config.json's, else {})", most))
      ->transform(count(1))
      ->type_name("TOKENS");
  app.add_option(
         "--temperature", options.temperature,
         "0: greedy; above: logits are divided by it, then a token drawn (default: generation_config.json's, "
         "else 0, or 1 where --top-k, --top-p or --min-p is given)")
      ->check(at_least(0));
  app.add_option("--top-k", options.top_k,
                 "Draw from the K likeliest tokens alone; 0: all (default: "
                 "generation_config.json's, else 0)")
      ->transform(whole(0));
  app.add_option("--top-p", options.top_p,
                 "Draw from the fewest likeliest tokens whose probabilities reach P "
                 "(default: generation_config.json's, else 1)")
      ->check(from_to(0, 1));
  app.add_option("--min-p", options.min_p,
                 "Draw from tokens at least P times as likely as the likeliest "
                 "(default: generation_config.json's, else 0)")
      ->check(from_to(0, 1));
  app.add_option(
         "--repetition-penalty", options.repetition_penalty,
         "Divides positive logits of tokens that were there before, multiplies negative ones (default: "
         "generation_config.json's, else 1)")
      ->check(from_to(Sampling::kLeastPenalty, Sampling::kMostPenalty));
  app.add_option("--stop", options.stop,
                 "Text or special token that ends the text and is not printed; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", options.ignore_eos, "Go on past the end-of-text token, for measuring");
}

void check_sampling(const SamplingOptions& options) {
  if (options.temperature.value_or(1) > 0) return;
  refuse_given(*options.app, {"--top-k", "--top-p", "--min-p", "--accept"}, "given with --temperature 0",
               "a temperature above 0: at 0 the likeliest token is taken");
}

Sampling sampling_of(const SamplingOptions& options, const GenerationConfig& config) {
  Sampling sampling;
  const bool asked = options.top_k || options.top_p || options.min_p;
  const double warm = config.temperature.value_or(1.0);
  sampling.temperature = options.temperature.value_or(asked || config.do_sample.value_or(false) ? warm : 0.0);
  sampling.top_k = options.top_k.value_or(config.top_k.value_or(0));
  sampling.top_p = options.top_p.value_or(config.top_p.value_or(1.0));
  sampling.min_p = options.min_p.value_or(config.min_p.value_or(0.0));
  sampling.repetition_penalty = options.repetition_penalty.value_or(config.repetition_penalty.value_or(1.0));
  return sampling;
}

Request request_of(const SamplingOptions& options, const Model& model, const Tokenizer& tokenizer,
                   int64_t most, bool turns) {
  const GenerationConfig& config = model.generation();
  Request request;
  request.sampling = sampling_of(options, config);
  request.seed = options.seed;
  request.max_new_tokens = options.max_new_tokens.value_or(config.max_new_tokens.value_or(most));
  if (!options.ignore_eos) request.end = end_tokens(model, tokenizer, turns);
  request.stop = options.stop;
  return request;
}

Ending ending_of(Finish finish) {
  switch (finish) {
    case Finish::kLength:
      return {"length", "the token limit"};
    case Finish::kEnd:
      return {"end", "the end-of-text token"};
    case Finish::kStop:
      return {"stop", "a stop string"};
    case Finish::kPositions:
      return {"positions", "the end of the model's positions"};
    case Finish::kInterrupted:
      return {"interrupted", "an interrupt"};
  }
  return {};
}

}  // namespace linnet::cli
