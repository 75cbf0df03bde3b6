// linnet generate: text from a prompt. Standard output carries the generated text alone.
#include "generate/engine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "text/tokenizer.h"

namespace linnet::cli {
namespace {

struct GenerateOptions : SharedOptions {
  std::optional<std::string> prompt, prompt_file;
  std::optional<int64_t> max_new_tokens, top_k;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::vector<std::string> stop;
  bool ignore_eos = false;
};

std::string prompt_text(const GenerateOptions& options) {
  if (options.prompt.has_value() == options.prompt_file.has_value()) {
    throw Error("--prompt", options.prompt ? "given together with --prompt-file" : "absent",
                "one of --prompt TEXT and --prompt-file FILE");
  }
  std::string text = options.prompt ? *options.prompt : read_whole(*options.prompt_file);
  if (text.empty()) {
    throw Error(options.prompt ? "--prompt" : *options.prompt_file, "an empty prompt", "some text");
  }
  return text;
}

/// Options first, then generation_config.json; greedy unless either asks for sampling.
Sampling sampling_of(const GenerateOptions& options, const GenerationConfig& config) {
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

std::vector<int32_t> end_tokens(const Model& model, const Tokenizer& tokenizer) {
  const auto& eos = model.generation().eos.empty() ? model.config().eos : model.generation().eos;
  std::vector<int32_t> ids(eos.begin(), eos.end());
  if (ids.empty() && tokenizer.eos()) ids.push_back(*tokenizer.eos());
  return ids;
}

const char* ended_by(Finish finish) {
  switch (finish) {
    case Finish::kLength:
      return "the token limit";
    case Finish::kEnd:
      return "the end-of-text token";
    case Finish::kStop:
      return "a stop string";
    case Finish::kInterrupted:
      return "an interrupt";
  }
  return "";
}

void report(const Request& request, const Generation& result, const JsonResult& json) {
  const auto prompt = static_cast<double>(request.prompt.size());
  const auto generated = static_cast<double>(result.tokens.size());
  std::optional<double> prefill_rate, decode_rate;
  if (result.prefill_seconds > 0) prefill_rate = prompt / result.prefill_seconds;
  if (generated > 1 && result.decode_seconds > 0) decode_rate = (generated - 1) / result.decode_seconds;
  note(fmt::format(
      "prefill {} tokens, {:.1f} tokens/s; decode {} tokens, {:.1f} tokens/s; state {} bytes; ended by {}",
      prompt, prefill_rate.value_or(0), generated, decode_rate.value_or(0), result.state_bytes,
      ended_by(result.finish)));
  const auto number = [](const std::optional<double>& x) {
    return x ? nlohmann::json(*x) : nlohmann::json();
  };
  json.write({{"text", result.text},
              {"prompt_tokens", request.prompt.size()},
              {"generated_tokens", result.tokens.size()},
              {"prefill_tokens_per_second", number(prefill_rate)},
              {"decode_tokens_per_second", number(decode_rate)},
              {"state_bytes", result.state_bytes}});
}

ExitStatus generate(const GenerateOptions& options) {
  const JsonResult json(options);
  const std::string text = prompt_text(options);
  // Before the model is opened, for a quick answer; what its generation_config.json adds is checked later.
  sampling_of(options, {}).check();
  const Runtime runtime = open_runtime(options, {.max_nodes = 1});
  const Tokenizer tokenizer = Tokenizer::load(runtime.model->tokenizer_folder());
  const GenerationConfig& config = runtime.model->generation();
  Request request;
  request.prompt = tokenizer.encode(text, /*special=*/true);
  request.sampling = sampling_of(options, config);
  request.seed = options.seed;
  request.max_new_tokens = options.max_new_tokens.value_or(config.max_new_tokens.value_or(256));
  if (!options.ignore_eos) request.end = end_tokens(*runtime.model, tokenizer);
  request.stop = options.stop;

  const auto drafter = make_no_drafter();
  Engine engine(*runtime.decoder, limits_of(*runtime.model), tokenizer, *drafter, {.max_nodes = 1});
  const auto results = engine.run(
      std::span(&request, 1), [](size_t, std::string_view piece) { print(piece); }, interrupted);
  if (::isatty(STDOUT_FILENO) == 1) print("\n");
  report(request, results.front(), json);
  return results.front().finish == Finish::kInterrupted ? ExitStatus::kInterrupted : ExitStatus::kDone;
}

}  // namespace

void describe_generate(CLI::App& app, Work& work) {
  const auto options = std::make_shared<GenerateOptions>();
  add_runtime(app, *options);
  app.add_option("--prompt", options->prompt, "Text to continue")->type_name("TEXT");
  app.add_option("--prompt-file", options->prompt_file,
                 "File with the text to continue, as it stands; -: standard input")
      ->type_name("FILE");
  app.add_option("--max-new-tokens", options->max_new_tokens,
                 "Most tokens to generate, at least 1 (default: generation_config.json's, else 256)");
  app.add_option(
      "--temperature", options->temperature,
      "0: greedy; above: logits are divided by it, then a token drawn (default: generation_config.json's, "
      "else 0, or 1 where --top-k, --top-p or --min-p is given)");
  app.add_option("--top-k", options->top_k,
                 "Draw from the K likeliest tokens alone; 0: all (default: "
                 "generation_config.json's, else 0)");
  app.add_option("--top-p", options->top_p,
                 "Draw from the fewest likeliest tokens whose probabilities reach P, 0 to 1 "
                 "(default: generation_config.json's, else 1)");
  app.add_option("--min-p", options->min_p,
                 "Draw from tokens at least P times as likely as the likeliest, 0 to 1 "
                 "(default: generation_config.json's, else 0)");
  app.add_option(
      "--repetition-penalty", options->repetition_penalty,
      "Divides positive logits of tokens that were there before, multiplies negative ones (default: "
      "generation_config.json's, else 1)");
  app.add_option("--stop", options->stop, "Text that ends the generation and is not printed; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", options->ignore_eos, "Go on past the end-of-text token, for measuring");
  app.callback([&work, options] { work = [options] { return generate(*options); }; });
}

}  // namespace linnet::cli
