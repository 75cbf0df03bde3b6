// linnet leak: what a training form that sees the future looks like, beside one that does not
// (docs/methods/causality.md).
#include "cli/leak.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/count.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/output.h"

namespace linnet::cli {
namespace {

constexpr int64_t kHeadSize = 32;
constexpr int kMostFuture = 64;  // as taps
/// By so many standard errors the loss must lie below ln V to count: 1 in 30,000 by chance.
constexpr double kErrors = 4.0;
/// Steps whose loss is judged: the last quarter of those that are taken, in which it varies by chance alone.
constexpr int64_t kJudged = 8;

/// Every row that is linear, or those named.
std::vector<std::string> methods_of(const LeakOptions& options) {
  if (!options.methods.empty()) return options.methods;
  std::vector<std::string> names;
  for (const Method* method : methods())
    if (!method->grows) names.emplace_back(method->name);
  return names;
}

struct RandomRow {
  std::string method;
  int future = 0;
  Mean loss;
  bool below = false;  // ln V, by more than chance

  bool as_expected() const { return below == (future > 0); }
};

nlohmann::ordered_json random_json(const LeakOptions& options, const std::vector<RandomRow>& rows,
                                   bool holds) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const RandomRow& row : rows)
    list.push_back({{"method", row.method},
                    {"future_taps", row.future},
                    {"loss", row.loss.mean},
                    {"standard_error", row.loss.error},
                    {"below_ln_vocabulary", row.below}});
  return {{"vocabulary", *options.random},
          {"ln_vocabulary", std::log(static_cast<double>(*options.random))},
          {"tokens", options.training.numbers.tokens},
          {"seed", options.training.shared.seed},
          {"rows", list},
          {"holds", holds}};
}

}  // namespace

nlohmann::json small_config(const LeakOptions& options, int64_t vocabulary) {
  if (options.hidden % kHeadSize != 0)
    throw Error("--hidden", fmt::format("{}", options.hidden), fmt::format("a multiple of {}", kHeadSize));
  const int64_t heads = options.hidden / kHeadSize;
  return {{"model_type", "llama"},
          {"vocab_size", vocabulary},
          {"hidden_size", options.hidden},
          {"intermediate_size", 3 * options.hidden},
          {"num_hidden_layers", options.layers},
          {"num_attention_heads", heads},
          {"num_key_value_heads", heads},
          {"head_dim", kHeadSize},
          {"max_position_embeddings", *options.training.numbers.context},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", true}};
}

AttentionConfig leaking(const std::string& name, int future) {
  const Method& method = find_method(name, "--method");
  if (method.grows) throw Error("--method", name, "a linear method (`linnet methods`)");
  nlohmann::json object = {{"method", name}, {"group", 16}};
  if (method.defaults.local == LocalWeight::kNone) object["local"] = "softmax";
  if (method.defaults.taps == 0) object["taps"] = 4;
  AttentionConfig config = parse_layer_attention(object, "--method");
  config.future_taps = future;
  return config;
}

void check_steps(const train::Hyperparameters& numbers) {
  const int64_t step = *numbers.batch * *numbers.context;
  if (numbers.tokens > (4 * kJudged - 1) * step) return;
  throw Error(
      "--tokens",
      fmt::format("{}, {} of {} × {} tokens", numbers.tokens,
                  counted((numbers.tokens + step - 1) / step, "step"), *numbers.batch, *numbers.context),
      fmt::format("at least {} to judge by, {} tokens", counted(4 * kJudged, "step"), 4 * kJudged * step));
}

LeakRun train_small(const LeakOptions& options, const nlohmann::json& config,
                    const AttentionConfig& attention, const train::TokenizedText& text) {
  const TrainingOptions& training = options.training;
  const ModelConfig parsed = ModelConfig::parse(config, "linnet leak");
  LeakRun run{.module = train::Module(parsed, training.shared.seed, module_options(training))};
  run.module.set_attention(std::vector<AttentionConfig>(static_cast<size_t>(options.layers), attention),
                           training.shared.seed);
  std::vector<train::Phase> phases = train::pretrain_recipe(numbers_of(training), place_of(training, parsed));
  phases.front().name = fmt::format("{}, F = {}", attention.name(), attention.future_taps);
  std::vector<double> losses;
  const train::RunResult result =
      train::run_phases(run.module, text, nullptr, phases,
                        {.seed = training.shared.seed,
                         .on_line = [&](const train::LogLine& line) { losses.push_back(line.loss); }});
  if (result.interrupted) stop_if_interrupted();
  run.loss = mean_of(std::span(losses).last((losses.size() + 3) / 4));
  return run;
}

ExitStatus leak_on_random_tokens(const LeakOptions& options) {
  const TrainingOptions& training = options.training;
  const JsonResult json(training.shared);
  refuse_given(*training.shared.app,
               {"--data", "--valid", "--field", "--judge", "--out", "--plot", "--windows", "--prompts",
                "--prompt-tokens", "--new-tokens", "--samples"},
               "given with --random, which reads and writes no text", "one of the two");
  check_steps(training.numbers);
  const nlohmann::json config = small_config(options, *options.random);
  std::vector<AttentionConfig> attentions;
  for (const std::string& method : methods_of(options))
    for (const int future : options.future.empty() ? std::vector{0, 1} : options.future)
      attentions.push_back(leaking(method, future));
  module_options(training);  // throws on what cannot be, before anything is said
  train::set_threads(training.shared.threads);
  // As many tokens as are trained on: none comes twice, so that nothing can be learned by heart.
  const train::Hyperparameters& numbers = training.numbers;
  const int64_t tokens = std::max(numbers.tokens, *numbers.batch * *numbers.context);
  const train::TokenizedText text{.tokens = random_tokens(tokens, *options.random, training.shared.seed),
                                  .starts = {0}};
  const double bound = std::log(static_cast<double>(*options.random));
  std::vector<RandomRow> rows;
  print(fmt::format("ln {} = {:.4f} nats\n{:<24}{:>4}  {:<18} below ln V\n", *options.random, bound, "method",
                    "F", "training loss"));
  for (const AttentionConfig& attention : attentions) {
    RandomRow row{.method = std::string(attention.name()), .future = attention.future_taps};
    row.loss = train_small(options, config, attention, text).loss;
    row.below = row.loss.mean + kErrors * row.loss.error < bound;
    print(fmt::format("{:<24}{:>4}  {:<18} {}{}\n", row.method, row.future, text_of(row.loss),
                      row.below ? "yes" : "no",
                      row.as_expected() ? ""
                      : row.below       ? ": IT LEAKS"
                                        : ": the planted leak was not learned; more --tokens"));
    rows.push_back(std::move(row));
  }
  const bool holds = std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row.as_expected(); });
  json.write(random_json(options, rows, holds));
  return holds ? ExitStatus::kDone : ExitStatus::kFailed;
}

void describe_leak(CLI::App& app, Work& work) {
  const auto options = std::make_shared<LeakOptions>();
  TrainingOptions& training = options->training;
  train::Hyperparameters& numbers = training.numbers;
  numbers.tokens = 262144;
  numbers.context = 256;
  numbers.batch = 16;
  numbers.learning_rate = 3e-3;
  training.shared.dtype = "float32";
  app.add_option(
         "--random", options->random,
         "Train on uniformly random tokens of a vocabulary of this many: no causal model's loss falls "
         "below its logarithm")
      ->transform(whole(2, 65536))
      ->type_name("VOCABULARY");
  app.add_option("--method", options->methods,
                 "Method to train; the default is every linear one, on text elu1")
      ->type_name("NAME");
  comma_list(
      app.add_option("--future", options->future, "Taps that look ahead, F; default 0,1, on text 0,1,2,31")
          ->transform(whole(0, kMostFuture)));
  add_texts(app, "--data", training.data, "Training text");
  add_texts(app, "--valid", training.valid, "Held-out text, scored, and whose beginnings are continued");
  add_field(app, training.shared);
  app.add_option("--judge", training.shared.model,
                 "Model folder that scores what is written; its tokenizer is the small models' too")
      ->type_name("MODEL");
  output_folder(
      app.add_option("-o,--out", training.out, "Folder for the models trained on text, future-F each"))
      ->type_name("FOLDER");
  output_file(app.add_option("--plot", options->plot, "Draw the losses into this file as SVG"))
      ->type_name("FILE");
  app.add_option("--tokens", numbers.tokens, "Tokens to train each model on")
      ->transform(count(1, int64_t{1} << 40))
      ->type_name("TOKENS");
  app.add_option("--context", numbers.context, "Tokens per row")->transform(whole(2, 4096));
  app.add_option("--batch", numbers.batch, "Rows a step")->transform(whole(1, 4096));
  app.add_option("--lr", numbers.learning_rate, "Peak learning rate")->check(from_to(0, 10));
  app.add_option("--layers", options->layers, "Layers of the small model")->transform(whole(1, 64));
  app.add_option("--hidden", options->hidden, "Its width, in heads of 32")->transform(whole(32, 4096));
  app.add_option("--windows", options->windows, "Windows of --context tokens of --valid that are scored")
      ->transform(whole(1, 65536));
  app.add_option("--prompts", options->prompts, "How many of them are continued")->transform(whole(1, 65536));
  app.add_option("--prompt-tokens", options->prompt_tokens, "Tokens of a prompt")->transform(whole(1, 4096));
  app.add_option("--new-tokens", options->new_tokens, "Tokens that are written, at temperature 1")
      ->transform(whole(1, 4096));
  app.add_option("--samples", options->samples, "Texts that are printed of each model")
      ->transform(whole(0, 65536));
  app.add_option("--dtype", training.shared.dtype, "Arithmetic of training: float32, bfloat16 or float64");
  add_threads(app, training.shared);
  add_seed(app, training.shared);
  add_json(app, training.shared);
  app.callback([options, &work] {
    work = [options] {
      refuse_repeated("--future", options->future);
      refuse_repeated("--method", options->methods);
      return options->random ? leak_on_random_tokens(*options) : leak_on_text(*options);
    };
  });
}

}  // namespace linnet::cli
