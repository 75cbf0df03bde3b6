// `linnet leak` on text: training loss, teacher-forced loss, what the runtime's decoding scores and what it
// writes, side by side for each number of future taps.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/plot.h"
#include "base/progress.h"
#include "cli/bench.h"
#include "cli/leak.h"
#include "cli/output.h"
#include "evaluate/perplexity.h"
#include "evaluate/score.h"
#include "generate/engine.h"
#include "train/output.h"

namespace linnet::cli {
namespace {

using Ids = std::vector<int32_t>;

constexpr int kSideBySide = 16;  // sequences decoded, and rows computed, at once

/// Held-out text as every model is asked about it.
struct Questions {
  std::vector<Ids> windows;  // of context + 1 tokens
  size_t prompts, prompt_tokens, new_tokens;

  Ids prompt(size_t i) const { return {windows[i].begin(), windows[i].begin() + prompt_tokens}; }
  Ids continuation(size_t i) const {
    const auto from = windows[i].begin() + prompt_tokens;
    return {from, from + new_tokens};
  }
};

Questions ask(const LeakOptions& options, const train::TokenizedText& valid) {
  const int64_t size = *options.training.numbers.context + 1, tokens = std::ssize(valid.tokens);
  if (tokens < size)
    throw Error("--valid", fmt::format("{} tokens", tokens), fmt::format("at least {}, a window", size));
  const int64_t count = std::min(options.windows, tokens / size);
  Questions questions{.prompts = static_cast<size_t>(std::min(options.prompts, count)),
                      .prompt_tokens = static_cast<size_t>(options.prompt_tokens),
                      .new_tokens = static_cast<size_t>(options.new_tokens)};
  for (int64_t i = 0; i < count; ++i) {  // evenly over the text
    const auto from = valid.tokens.begin() + i * (tokens / count);
    questions.windows.emplace_back(from, from + size);
  }
  return questions;
}

/// Mean −ln p of the training form, future taps and all, over every token of the windows.
double teacher_forced(const train::Module& module, const at::Tensor& windows) {
  at::NoGradGuard off;
  const int64_t length = windows.size(1) - 1;
  at::Tensor sum = at::zeros({}, at::kDouble);
  for (const at::Tensor& rows : windows.split(kSideBySide)) {
    const at::Tensor hidden = module.hidden({.tokens = rows.narrow(1, 0, length).contiguous()});
    sum += module.token_losses(hidden, rows.narrow(1, 1, length).contiguous()).to(at::kDouble).sum();
  }
  return sum.item<double>() / static_cast<double>(windows.size(0) * length);
}

/// The same form where the text ends before the token that is scored: what a loop that computes the whole
/// text anew for each token would see, at 16 places of each window.
double cut_off(const train::Module& module, const at::Tensor& windows) {
  at::NoGradGuard off;
  constexpr int64_t kPlaces = 16;
  const int64_t context = windows.size(1) - 1, places = std::min(kPlaces, context);
  double sum = 0;
  for (int64_t i = 1; i <= places; ++i) {
    const int64_t length = context * i / places;
    for (const at::Tensor& rows : windows.split(kSideBySide)) {
      const at::Tensor hidden = module.hidden({.tokens = rows.narrow(1, 0, length).contiguous()});
      sum += module.token_losses(hidden.narrow(1, length - 1, 1), rows.narrow(1, length, 1).contiguous())
                 .sum()
                 .item<double>();
    }
  }
  return sum / static_cast<double>(places * windows.size(0));
}

/// Mean −ln p where the runtime reads the windows token by token.
double decoded(Decoder& decoder, const std::vector<Ids>& windows) {
  double sum = 0;
  int64_t tokens = 0;
  Progress progress("decoding the held-out text", "tokens",
                    static_cast<double>(windows.size() * (windows.front().size() - 1)));
  for (size_t first = 0; first < windows.size(); first += kSideBySide) {
    const size_t count = std::min<size_t>(kSideBySide, windows.size() - first);
    for (size_t slot = 0; slot < count; ++slot) decoder.reset(static_cast<int>(slot));
    for (size_t t = 0; t + 1 < windows[first].size(); ++t) {
      stop_if_interrupted();
      std::vector<TokenTree> trees;
      for (size_t slot = 0; slot < count; ++slot)
        trees.push_back(TokenTree::single(windows[first + slot][t]));
      std::vector<Decoder::Branch> branches;
      for (size_t slot = 0; slot < count; ++slot) branches.push_back({static_cast<int>(slot), &trees[slot]});
      decoder.step(branches);
      for (size_t slot = 0; slot < count; ++slot)
        sum += negative_log_likelihood(decoder.logits(static_cast<int>(slot)), windows[first + slot][t + 1]);
      const int32_t path[] = {0};
      for (size_t slot = 0; slot < count; ++slot) decoder.commit(static_cast<int>(slot), path);
      progress.update(static_cast<double>(tokens += static_cast<int64_t>(count)));
    }
  }
  return sum / static_cast<double>(tokens);
}

/// Continuations of the prompts, drawn at temperature 1.
std::vector<Ids> written(const Runtime& runtime, const Tokenizer& tokenizer, const Questions& questions,
                         uint64_t seed) {
  std::vector<Request> requests(questions.prompts);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = questions.prompt(i);
    requests[i].sampling.temperature = 1.0;
    requests[i].seed = seed;
    requests[i].sequence = i;
    requests[i].max_new_tokens = static_cast<int64_t>(questions.new_tokens);
  }
  const auto drafter = make_no_drafter();
  Engine engine(*runtime.decoder, tokenizer, *drafter, {.slots = kSideBySide, .max_nodes = kSideBySide});
  std::vector<Ids> texts;
  for (Generation& text : engine.run(requests, {}, interrupted)) texts.push_back(std::move(text.tokens));
  stop_if_interrupted();
  return texts;
}

/// The judge's −ln p per token of continuations of the prompts.
class Judge {
 public:
  Judge(const SharedOptions& options, const Questions& questions)
      : runtime_(open_runtime(options)),
        tokenizer_(Tokenizer::load(runtime_.model->tokenizer_folder())),
        questions_(questions) {}

  Mean operator()(const std::vector<Ids>& continuations) const {
    std::vector<double> nats;
    for (size_t i = 0; i < continuations.size(); ++i) {
      stop_if_interrupted();
      Ids inputs{first_input(*runtime_.model, tokenizer_)};
      for (const Ids& part : {questions_.prompt(i), continuations[i]})
        inputs.insert(inputs.end(), part.begin(), part.end());
      const auto end = static_cast<int64_t>(inputs.size()) - 1;
      const Window window{0, end - std::ssize(continuations[i]), end};
      const auto losses = score_windows(*runtime_.decoder, runtime_.decoder->vocabulary(), inputs,
                                        std::span(&window, 1), *runtime_.pool);
      nats.push_back(mean_of(losses).mean);
    }
    return mean_of(nats);
  }

 private:
  Runtime runtime_;
  Tokenizer tokenizer_;
  const Questions& questions_;
};

struct TextRow {
  int future = 0;
  Mean training, judged;
  double teacher_forced = 0, cut_off = 0, decoded = 0;
  std::vector<Ids> texts;
};

/// Texts, the tokenizer and the judge's view of them.
struct TextExperiment {
  const LeakOptions& options;
  Tokenizer tokenizer;
  std::filesystem::path tokenizer_folder;
  nlohmann::json config;
  train::TokenizedText data, valid;
};

TextExperiment read_experiment(const LeakOptions& options) {
  const TrainingOptions& training = options.training;
  const auto judge = open_model(training.shared);
  TextExperiment result{.options = options,
                        .tokenizer = Tokenizer::load(judge->tokenizer_folder()),
                        .tokenizer_folder = judge->tokenizer_folder(),
                        .config = small_config(options, judge->config().vocabulary)};
  const int32_t start = first_input(*judge, result.tokenizer);
  result.config["bos_token_id"] = start;
  result.config["eos_token_id"] = result.tokenizer.eos().value_or(start);
  ThreadPool pool(training.shared.threads);
  std::unordered_set<std::string> held_out;
  result.valid = train::tokenize_files(
      training.valid, result.tokenizer, start, pool,
      [&](const Document& document) {
        held_out.insert(document.text);
        return false;
      },
      training.shared.texts);
  result.data = train::tokenize_files(
      training.data, result.tokenizer, start, pool,
      [&](const Document& document) { return held_out.contains(document.text); }, training.shared.texts);
  if (result.data.dropped > 0) warn(left_out(result.data.dropped));
  return result;
}

TextRow run_text(const TextExperiment& experiment, const Questions& questions, const at::Tensor& windows,
                 const AttentionConfig& attention) {
  const LeakOptions& options = experiment.options;
  TextRow row{.future = attention.future_taps};
  const LeakRun run = train_small(options, experiment.config, attention, experiment.data);
  row.training = run.loss;
  row.teacher_forced = teacher_forced(run.module, windows);
  row.cut_off = cut_off(run.module, windows);
  SharedOptions shared = options.training.shared;
  const std::filesystem::path folder = options.training.out / fmt::format("future-{}", row.future);
  std::filesystem::create_directories(folder);
  train::write_pretrained(folder, run.module, experiment.config, experiment.tokenizer_folder, kShardBytes);
  shared.model = folder.string();
  const Runtime runtime = open_runtime(shared, {.slots = kSideBySide, .max_nodes = kSideBySide});
  row.decoded = decoded(*runtime.decoder, questions.windows);
  row.texts = written(runtime, experiment.tokenizer, questions, shared.seed);
  return row;
}

nlohmann::ordered_json mean_json(const Mean& mean) {
  return {{"nats", mean.mean}, {"standard_error", mean.error}};
}

struct TextResult {
  std::vector<TextRow> rows;
  Mean real, random;  // judged continuations: the text's own, and random tokens
};

nlohmann::ordered_json result_json_of(const TextExperiment& experiment, const std::string& method,
                                      const Questions& questions, const TextResult& result) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  const auto decode = [&](const Ids& ids) { return experiment.tokenizer.decode(ids); };
  for (const TextRow& row : result.rows) {
    nlohmann::ordered_json texts = nlohmann::ordered_json::array();
    for (size_t i = 0; i < row.texts.size(); ++i)
      texts.push_back({{"prompt", decode(questions.prompt(i))}, {"text", decode(row.texts[i])}});
    rows.push_back({{"future_taps", row.future},
                    {"training_loss", mean_json(row.training)},
                    {"teacher_forced_loss", row.teacher_forced},
                    {"cut_off_loss", row.cut_off},
                    {"decoded_loss", row.decoded},
                    {"judged", mean_json(row.judged)},
                    {"texts", texts}});
  }
  const TrainingOptions& training = experiment.options.training;
  return {{"method", method},
          {"judge", training.shared.model},
          {"tokens", training.numbers.tokens},
          {"seed", training.shared.seed},
          {"scored_tokens", questions.windows.size() * (questions.windows.front().size() - 1)},
          {"prompts", questions.prompts},
          {"rows", rows},
          {"judged_real", mean_json(result.real)},
          {"judged_random", mean_json(result.random)}};
}

std::string table_of_text(const TextResult& result) {
  std::string table = fmt::format("nats per token\n{:>4}  {:<18} {:>14} {:>9} {:>9}   {}\n", "F", "training",
                                  "teacher-forced", "cut off", "decoded", "its texts, judged");
  for (const TextRow& row : result.rows)
    table +=
        fmt::format("{:>4}  {:<18} {:>14.4f} {:>9.4f} {:>9.4f}   {}\n", row.future, text_of(row.training),
                    row.teacher_forced, row.cut_off, row.decoded, text_of(row.judged));
  table += fmt::format("real continuations, judged: {}; random tokens: {}\n", text_of(result.real),
                       text_of(result.random));
  return table;
}

void print_texts(const TextExperiment& experiment, const Questions& questions, const TextResult& result) {
  for (const TextRow& row : result.rows) {
    const size_t count = std::min(row.texts.size(), static_cast<size_t>(experiment.options.samples));
    for (size_t i = 0; i < count; ++i)
      print(fmt::format("\n==> F = {} <==\n{}|{}\n", row.future,
                        experiment.tokenizer.decode(questions.prompt(i)),
                        experiment.tokenizer.decode(row.texts[i])));
  }
}

std::string picture_of(const std::string& method, const TextResult& result) {
  Bars bars{.title = fmt::format("{} with F future taps: nats per token", method),
            .series = {"training", "teacher-forced", "decoded step by step", "its texts, judged"}};
  for (const TextRow& row : result.rows)
    bars.groups.push_back({fmt::format("F = {}", row.future),
                           {row.training.mean, row.teacher_forced, row.decoded, row.judged.mean}});
  bars.levels = {{"real text, judged", result.real.mean}, {"random tokens, judged", result.random.mean}};
  return bars_svg(bars);
}

/// What must be given, and what does not fit together, before anything long is begun.
void check_text_options(const LeakOptions& options) {
  const TrainingOptions& training = options.training;
  if (training.data.empty()) throw Error("--data", "is missing", "training text, or --random VOCABULARY");
  if (training.valid.empty()) throw Error("--valid", "is missing", "held-out text");
  if (training.shared.model.empty()) throw Error("--judge", "is missing", "a model folder that scores texts");
  if (training.out.empty()) throw Error("--out", "is missing", "a folder for the models");
  if (options.methods.size() > 1) throw Error("--method", "several methods on text", "one");
  for (const std::filesystem::path& file : training.valid)
    if (std::find(training.data.begin(), training.data.end(), file) != training.data.end())
      throw Error(file.string(), "stands in --data and in --valid", "held-out text in --valid alone");
  if (options.prompt_tokens + options.new_tokens > *training.numbers.context)
    throw Error("--new-tokens",
                fmt::format("{} after a prompt of {}", options.new_tokens, options.prompt_tokens),
                fmt::format("at most --context {} together", *training.numbers.context));
  check_steps(training.numbers);
  module_options(training);
  check_training(training);
}

}  // namespace

ExitStatus leak_on_text(const LeakOptions& options) {
  const TrainingOptions& training = options.training;
  const JsonResult json(training.shared);
  check_text_options(options);
  const std::string method = options.methods.empty() ? "elu1" : options.methods.front();
  std::vector<AttentionConfig> attentions;
  for (const int future : options.future.empty() ? std::vector{0, 1, 2, 31} : options.future)
    attentions.push_back(leaking(method, future));
  const TextExperiment experiment = read_experiment(options);
  const Questions questions = ask(options, experiment.valid);
  train::set_threads(training.shared.threads);
  at::Tensor windows =
      at::empty({std::ssize(questions.windows), std::ssize(questions.windows.front())}, at::kLong);
  for (size_t i = 0; i < questions.windows.size(); ++i)
    std::copy(questions.windows[i].begin(), questions.windows[i].end(),
              windows.data_ptr<int64_t>() + static_cast<int64_t>(i) * windows.size(1));

  TextResult result;
  for (const AttentionConfig& attention : attentions)
    result.rows.push_back(run_text(experiment, questions, windows, attention));
  SharedOptions judging = training.shared;
  judging.dtype = "auto";
  const Judge judge(judging, questions);
  std::vector<Ids> real, random;
  for (size_t i = 0; i < questions.prompts; ++i) {
    real.push_back(questions.continuation(i));
    random.push_back(
        random_tokens(options.new_tokens, experiment.tokenizer.vocabulary(), training.shared.seed + i));
  }
  for (TextRow& row : result.rows) row.judged = judge(row.texts);
  result.real = judge(real);
  result.random = judge(random);

  if (!options.plot.empty()) write_file(options.plot, picture_of(method, result));
  json.write(result_json_of(experiment, method, questions, result));
  print(table_of_text(result));
  print_texts(experiment, questions, result);
  return ExitStatus::kDone;
}

}  // namespace linnet::cli
