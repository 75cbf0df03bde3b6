// linnet evaluate: a model's scores on tasks by the log-likelihoods of their choices (docs/evaluate.md says
// exactly what is computed).
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/timing.h"
#include "cli/commands.h"
#include "cli/evaluate_classifier.h"
#include "cli/evaluate_result.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/sampling.h"
#include "evaluate/likelihood.h"
#include "evaluate/perplexity.h"
#include "evaluate/task_prompts.h"
#include "generate/engine.h"
#include "model/classifier.h"
#include "model/encoder.h"
#include "text/chat_template.h"

namespace linnet::cli {
namespace {

constexpr size_t kPrefixes = size_t{1} << 30;  // bytes of states of what prompts to write after begin with

std::vector<TaskSet> read_sets(const EvaluateOptions& options) {
  std::vector<TaskSet> sets;
  for (const TaskChoice& choice : choose_tasks(options.tasks))
    for (TaskSet& set : read_task(choice, options.how)) sets.push_back(std::move(set));
  return sets;
}

int64_t requests_of(const std::vector<TaskSet>& sets) {
  int64_t requests = 0;
  for (const TaskSet& set : sets)
    for (const TaskExample& example : set.examples)
      requests += set.task->writing ? 1 : std::ssize(example.choices);
  return requests;
}

/// The requests of each example, one a choice, one example after the other.
std::vector<LikelihoodRequest> encode(const TaskSet& set, const PromptEncoder& encoder, ThreadPool& pool) {
  std::vector<size_t> begins = {0};
  for (const TaskExample& example : set.examples) begins.push_back(begins.back() + example.choices.size());
  std::vector<LikelihoodRequest> requests(begins.back());
  pool.run(set.examples.size(), [&](size_t i) {
    const auto prompts = prompts_of(set, i);
    for (size_t choice = 0; choice < prompts.size(); ++choice)
      requests[begins[i] + choice] =
          encoder.encode(prompts[choice], fmt::format("{}, example {}", set.name, i + 1));
  });
  return requests;
}

void check_memory(const std::vector<LikelihoodRequest>& requests, int64_t memory, const std::string& name) {
  size_t longest = 0;
  for (const LikelihoodRequest& request : requests) longest = std::max(longest, request.tokens.size());
  if (const int64_t most = memory / LikelihoodReader::kSlots; static_cast<int64_t>(longest) > most)
    throw Error(name, fmt::format("a prompt of {} tokens, whose states do not fit into memory", longest),
                fmt::format("at most {} (--shots)", most));
}

/// Asks what one set asks.
class Asker {
 public:
  Asker(const EvaluateOptions& options, Runtime& runtime, int64_t requests)
      : options_(options),
        runtime_(runtime),
        tokenizer_(Tokenizer::load(runtime.model->tokenizer_folder())),
        encoder_(tokenizer_, first_input(*runtime.model, tokenizer_), runtime.model->config().positions),
        reader_(*runtime.decoder, *runtime.pool, !options.alone),
        progress_("evaluate", "requests", static_cast<double>(requests)) {
    if (!options.samples.empty()) samples_.emplace(options.samples);
  }

  /// Nothing: interrupted.
  std::optional<SetResult> ask(const TaskSet& set) {
    const auto answers = set.task->writing ? written(set) : chosen(set);
    if (!answers || interrupted()) return {};
    SetResult result{.set = &set, .values = {}};
    for (const Metric metric : set.task->metrics)
      result.values.push_back(value_of(metric, *answers, options_.bootstrap, *runtime_.pool));
    return result;
  }

  LikelihoodReader::Counts finish() {
    progress_.finish();
    if (samples_) samples_->commit();
    LikelihoodReader::Counts counts = reader_.counts();
    counts.requests += written_.requests;
    counts.tokens += written_.tokens;
    counts.all_tokens += written_.all_tokens;
    return counts;
  }
  Progress& progress() { return progress_; }

 private:
  /// What the likelihoods of the choices make of each example.
  std::optional<std::vector<TaskAnswer>> chosen(const TaskSet& set) {
    const auto requests = encode(set, encoder_, *runtime_.pool);
    check_memory(requests, runtime_.decoder->info().memory, set.name);
    const auto likelihoods = reader_.read(requests, [&](int64_t more) {
      progress_.update(static_cast<double>(answered_ += more), set.name);
      return !interrupted();
    });
    if (likelihoods.size() != requests.size() || interrupted()) return {};
    std::vector<TaskAnswer> answers;
    size_t begin = 0;
    for (size_t i = 0; i < set.examples.size(); ++i) {
      const size_t count = set.examples[i].choices.size();
      const std::vector<Likelihood> choices(likelihoods.begin() + static_cast<ptrdiff_t>(begin),
                                            likelihoods.begin() + static_cast<ptrdiff_t>(begin + count));
      answers.push_back(answer_of(set.examples[i], choices));
      if (samples_) write_sample(sample_json(set, i, choices, answers.back()));
      begin += count;
    }
    return answers;
  }

  /// Texts that go on from the examples' prompts, several at once; what the
  /// prompts share is read once.
  std::optional<std::vector<TaskAnswer>> written(const TaskSet& set) {
    const Writing& writing = *set.task->writing;
    const auto drafter = make_no_drafter();
    Engine engine(*runtime_.decoder, tokenizer_, *drafter,
                  {.slots = LikelihoodReader::kSlots,
                   .max_nodes = LikelihoodReader::kSlots,
                   .prefix_cache = options_.alone ? 0 : kPrefixes});
    const auto requests = requests_of(set);
    const auto texts = engine.run(requests, {}, [&] {
      progress_.update(static_cast<double>(answered_), set.name);
      return interrupted();
    });
    answered_ += std::ssize(requests);
    std::vector<TaskAnswer> answers;
    for (size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].finish == Finish::kInterrupted) return {};
      answers.push_back(answer_of(set.examples[i], texts[i].text, writing));
      if (samples_) write_sample(sample_json(set, i, texts[i].text, answers.back()));
      const auto tokens = std::ssize(texts[i].tokens);
      ++written_.requests;
      written_.tokens += texts[i].prompt_read + tokens;
      written_.all_tokens += std::ssize(requests[i].prompt) + tokens;
    }
    return answers;
  }

  std::vector<Request> requests_of(const TaskSet& set) const {
    const Writing& writing = *set.task->writing;
    SamplingOptions greedy;
    greedy.temperature = 0;
    Request request = request_of(greedy, *runtime_.model, tokenizer_, writing.tokens, /*turns=*/true);
    request.max_new_tokens = writing.tokens;
    request.stop.assign(writing.stops.begin(), writing.stops.end());
    std::vector<Request> requests(set.examples.size(), request);
    for (size_t i = 0; i < requests.size(); ++i)
      requests[i].prompt = encoder_.encode_before(prompts_of(set, i).front().context, writing.tokens,
                                                  fmt::format("{}, example {}", set.name, i + 1));
    return requests;
  }

  void write_sample(const nlohmann::ordered_json& sample) {
    samples_->write(sample.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }

  const EvaluateOptions& options_;
  Runtime& runtime_;
  Tokenizer tokenizer_;
  PromptEncoder encoder_;
  LikelihoodReader reader_;
  Progress progress_;
  std::optional<AtomicFile> samples_;
  int64_t answered_ = 0;
  LikelihoodReader::Counts written_;  // of answers that were written
};

ExitStatus evaluate(const EvaluateOptions& options) {
  const JsonResult json(options);
  check_device(options);
  const bool by_head = std::ranges::any_of(options.tasks, is_by_head);
  const auto model = open_any_model(options, Stacks::kTwo);
  if (model->config().is_classifier()) return evaluate_classifier(options, model);
  require_one_stack(options, *model);
  if (by_head) Classifier{*model};  // says that it has no head
  require_decoder(*model);
  std::vector<TaskSet> sets = by_head ? std::vector<TaskSet>() : read_sets(options);
  for (const TaskSet& set : sets) {
    if (options.chat && set.task->writing)
      throw Error("--apply-chat-template",
                  fmt::format("given for {}, whose worked examples are texts", set.name),
                  "tasks of multiple choice");
  }
  Runtime runtime = make_runtime(options, {.slots = LikelihoodReader::kSlots}, model);
  std::optional<ChatTemplate> chat;
  if (options.chat)
    chat = ChatTemplate::load(runtime.model->tokenizer_folder(),
                              Tokenizer::load(runtime.model->tokenizer_folder()));
  for (TaskSet& set : sets) set.chat = chat ? &*chat : nullptr;
  const Stopwatch watch;
  Asker asker(options, runtime, requests_of(sets));
  std::vector<SetResult> results;
  for (const TaskSet& set : sets) {
    auto result = asker.ask(set);
    if (!result) {
      asker.progress().finish();
      note("interrupted; nothing written");
      return ExitStatus::kInterrupted;
    }
    results.push_back(std::move(*result));
  }
  const LikelihoodReader::Counts counts = asker.finish();
  const auto out = evaluation_json(options, results, counts, watch.seconds());
  json.write(out);
  if (!options.html.empty()) write_file(options.html, evaluation_page(out));
  print(evaluation_table(out));
  return ExitStatus::kDone;
}

}  // namespace

void describe_evaluate(CLI::App& app, Work& work) {
  const auto options = std::make_shared<EvaluateOptions>();
  options->app = &app;
  add_evaluation(app, *options);
  add_weights(app, *options);
  std::string known;
  for (const Task& task : all_tasks()) known += fmt::format("{}{}", known.empty() ? "" : ", ", task.name);
  comma_list(app.add_option("--tasks", options->tasks,
                            fmt::format("Tasks, such as piqa,copa: {}; glue is "
                                        "five of them, bbh the one of that "
                                        "name, mmlu_SUBJECT one subject; of a classifier, by its head, "
                                        "glue_sst2 and so on",
                                        known)))
      ->type_name("NAMES,…")
      ->required();
  app.add_option("--data", options->how.data, "Folder with the task files (docs/evaluate.md)")
      ->type_name("FOLDER")
      ->capture_default_str();
  app.add_option("--shots", options->how.shots,
                 "Examples before each prompt, the first N there are (default: "
                 "5 of mmlu, 3 of bbh, else 0)")
      ->transform(count(0, 1000))
      ->type_name("N");
  app.add_option("--limit", options->how.limit,
                 "Examples of each task, and of each subject of mmlu and bbh, "
                 "at most (default: all)")
      ->transform(count(1))
      ->type_name("N");
  app.add_option("--bootstrap", options->bootstrap, "Resamples for the errors of f1 and mcc; 0: none")
      ->transform(count(0, 10000000))
      ->type_name("N")
      ->capture_default_str();
  output_file(app.add_option("--samples", options->samples,
                             "Write each example's prompts and "
                             "log-likelihoods, one JSON object a line"))
      ->type_name("FILE");
  output_file(app.add_option("--html", options->html, "Write the table with bars as a page of its own"))
      ->type_name("FILE");
  app.add_flag("--apply-chat-template", options->chat,
               "Ask as a conversation, laid out by the model's chat template: worked examples as turns");
  app.add_flag("--alone", options->alone,
               "Read each request by itself, not what several share once: to "
               "see what sharing saves");
  app.callback([&work, options] { work = [options] { return evaluate(*options); }; });
}

}  // namespace linnet::cli
