#include "cli/evaluate_classifier.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/timing.h"

namespace linnet::cli {
namespace {

constexpr std::string_view kGlue = "glue_";  // before a task's name: by a classifier

/// The texts of a task's files; of a limit the first.
std::vector<LabeledText> texts_of(const Task& task, const EvaluateOptions& options) {
  std::vector<LabeledText> texts;
  for (const std::string_view name : task.files) {
    const auto file = task_file(options.how.data, name);
    if (!file)
      throw Error((options.how.data / std::string(name)).string() + ".jsonl.xz", "not there",
                  fmt::format("the records of {} (--data FOLDER)", task.title));
    for (LabeledText& text : read_labeled(*file, {}, /*labeled=*/true)) texts.push_back(std::move(text));
  }
  const auto limit = static_cast<size_t>(options.how.limit.value_or(std::ssize(texts)));
  if (limit < texts.size()) texts.resize(limit);
  return texts;
}

std::vector<const Task*> chosen_tasks(const EvaluateOptions& options) {
  std::vector<std::string> names = options.tasks;
  for (std::string& name : names)
    if (name.starts_with(kGlue)) name.erase(0, kGlue.size());
  if (std::ranges::count(names, "glue") > 0)
    throw Error("--tasks", "glue by a classifier, whose labels are one task's",
                "that task, such as glue_sst2");
  std::vector<const Task*> tasks;
  for (const TaskChoice& choice : choose_tasks(names)) {
    if (text_task_of(std::filesystem::path(choice.task->files.front())) == nullptr)
      throw Error("--tasks", fmt::format("{} by a classifier", choice.task->name),
                  "cola, sst2, mrpc, qnli, rte or ag_news");
    tasks.push_back(choice.task);
  }
  return tasks;
}

}  // namespace

std::optional<std::vector<Classified>> classify_all(TextClassifier& classifier,
                                                    std::span<const LabeledText> texts,
                                                    const std::string& title) {
  classifier.check(texts);
  Progress progress(title, "texts", static_cast<double>(texts.size()), 0,
                    Progress::Output::standard_error(kPatience));
  auto taken = classifier.classify(texts, [&](int64_t done) {
    progress.update(static_cast<double>(done));
    return !interrupted();
  });
  progress.finish();
  if (taken.size() == texts.size()) return taken;
  note("interrupted; nothing written");
  return std::nullopt;
}

bool is_by_head(const std::string& task) { return task.starts_with(kGlue); }

ExitStatus evaluate_classifier(const EvaluateOptions& options, const std::shared_ptr<const Model>& model) {
  refuse_given(*options.app,
               {"--shots", "--samples", "--alone", "--weights", "--device", "--apply-chat-template"},
               "given for a classifier", "a language model");
  const JsonResult json(options);
  const Stopwatch watch;
  TextClassifier classifier(model, {.compute = compute_type(options.dtype), .threads = options.threads});
  const std::vector<const Task*> tasks = chosen_tasks(options);
  ThreadPool pool(options.threads);
  std::vector<TaskSet> sets;
  std::vector<SetResult> results;
  sets.reserve(tasks.size());
  LikelihoodReader::Counts counts;
  for (const Task* task : tasks) {
    const std::vector<LabeledText> texts = texts_of(*task, options);
    std::vector<size_t> right;
    for (const LabeledText& text : texts) right.push_back(label_id(text, classifier.labels()));
    const std::string name = fmt::format("{}{}", kGlue, task->name);
    const auto taken = classify_all(classifier, texts, name);
    if (!taken) return ExitStatus::kInterrupted;
    std::vector<TaskAnswer> answers;
    for (size_t i = 0; i < texts.size(); ++i)
      answers.push_back({right[i], (*taken)[i].label, (*taken)[i].label});
    sets.push_back(
        {.task = task, .name = name, .subject = {}, .documents = std::ssize(texts), .examples = {}});
    sets.back().examples.resize(texts.size());
    results.push_back({&sets.back(), {}});
    for (const Metric metric : task->metrics)
      results.back().values.push_back(value_of(metric, answers, options.bootstrap, pool));
    counts.requests += std::ssize(texts);
    for (const Classified& one : *taken) counts.tokens += one.tokens;
    counts.all_tokens = counts.tokens;
  }
  auto out = evaluation_json(options, results, counts, watch.seconds());
  for (const TaskSet& set : sets) {
    out["configs"][set.name]["output_type"] = "classification";
    out["configs"][set.name].erase("forms");
  }
  json.write(out);
  if (!options.html.empty()) write_file(options.html, evaluation_page(out));
  print(evaluation_table(out));
  return ExitStatus::kDone;
}

}  // namespace linnet::cli
