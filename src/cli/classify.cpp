// linnet classify: what a classifier takes texts for, and how well where their labels are known.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/evaluate_classifier.h"
#include "cli/options.h"
#include "cli/output.h"
#include "evaluate/text_tasks.h"
#include "text/corpus.h"

namespace linnet::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct ClassifyOptions : SharedOptions {
  std::vector<fs::path> files, task;
  TextFields fields;
  int64_t length = 0;
};

bool is_records(const fs::path& file, const TextFields& fields) {
  if (file == "-") return !fields.texts.empty();
  const std::string name = file.filename().string();
  return name.find(".jsonl") != name.npos || name.find(".json") != name.npos;
}

/// A line is a text, or two with a tab between them: with more nobody knows where the second begins.
std::vector<LabeledText> read_lines(const fs::path& file) {
  std::vector<LabeledText> texts;
  for_each_text_line(file, [&](std::string_view line, size_t number) {
    LabeledText text{.texts = {}, .label = {}, .where = fmt::format("{}:{}", file.string(), number)};
    const auto tabs = std::ranges::count(line, '\t');
    if (tabs > 1)
      throw Error(text.where, fmt::format("{} tabs", tabs), "none, or one between the two texts of a pair");
    const size_t tab = line.find('\t');
    text.texts.emplace_back(line.substr(0, tab));
    if (tab != line.npos) text.texts.emplace_back(line.substr(tab + 1));
    texts.push_back(std::move(text));
    return true;
  });
  if (texts.empty()) throw Error(file.string(), "no text", "one a line");
  return texts;
}

std::vector<LabeledText> read_all(const ClassifyOptions& options) {
  std::vector<LabeledText> texts;
  const bool labeled = !options.task.empty();
  for (const fs::path& file : labeled ? options.task : options.files) {
    const bool records = labeled || is_records(file, options.fields);
    for (LabeledText& text : records ? read_labeled(file, options.fields, labeled) : read_lines(file))
      texts.push_back(std::move(text));
  }
  return texts;
}

Json line_of(const Classified& one, const std::vector<std::string>& labels) {
  Json probabilities = Json::object();
  for (size_t id = 0; id < labels.size(); ++id)
    probabilities[labels[id]] = std::exp(one.log_probabilities[id]);
  return {{"label", labels[one.label]}, {"probabilities", probabilities}};
}

Json scores_of(const std::vector<LabeledText>& texts, const std::vector<Classified>& taken,
               const std::vector<std::string>& labels, const TextTask* task) {
  std::vector<TaskAnswer> answers;
  double loss = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const size_t right = label_id(texts[i], labels);
    answers.push_back({right, taken[i].label, taken[i].label});
    loss -= taken[i].log_probabilities[right] / static_cast<double>(texts.size());
  }
  ThreadPool alone(1);
  Json scores = {{"loss", loss}};
  for (const Metric metric : metrics_of(task, labels.size()))
    scores[std::string(name_of(metric))] = value_of(metric, answers, 0, alone).value;
  return scores;
}

std::string table_of(const Json& scores, size_t texts) {
  std::string line = fmt::format("{} texts:", texts);
  for (const auto& [name, value] : scores.items())
    line += fmt::format(" {} {:.4f}", name, value.get<double>());
  return line + "\n";
}

/// Refuses fields that no file has, or that would not be read.
void check_fields(const ClassifyOptions& options) {
  const bool labeled = !options.task.empty();
  if (options.fields.texts.size() > 2)
    throw Error("--text-fields", fmt::format("{} fields", options.fields.texts.size()), "one or two");
  if (!labeled) refuse_given(*options.app, {"--label-field"}, "given without --task", "--task FILE too");
  if (options.fields.texts.empty())
    refuse_given(*options.app, {"--label-field"}, "given without --text-fields", "--text-fields too");
  const auto has_fields = [&](const fs::path& file) { return is_records(file, options.fields); };
  if (!labeled && !std::ranges::any_of(options.files, has_fields))
    refuse_given(*options.app, {"--text-fields"}, "given, and a line of the files is a text", "a .jsonl");
}

ExitStatus classify(const ClassifyOptions& options) {
  const JsonResult json(options);
  const bool labeled = !options.task.empty();
  if (labeled && !options.files.empty())
    throw Error("--task", "given with other files", "labelled files alone: both as --task");
  if (options.files.empty() && !labeled)
    throw Error("FILE", "is missing", "texts, - for standard input, or --task");
  check_fields(options);
  const auto model = open_any_model(options, Stacks::kTwo);
  if (!model->config().is_classifier()) Classifier{*model};  // says so before texts are read
  const std::vector<LabeledText> texts = read_all(options);
  TextClassifier classifier(
      model, {.length = options.length, .compute = compute_type(options.dtype), .threads = options.threads});
  const std::vector<std::string>& labels = classifier.labels();
  for (const LabeledText& text : texts)
    if (labeled) label_id(text, labels);  // before any work
  const auto taken = classify_all(classifier, texts, "classify");
  if (!taken) return ExitStatus::kInterrupted;
  Json result = {{"model", options.model}, {"labels", labels}, {"texts", texts.size()}};
  if (labeled) {
    const TextTask* task = options.fields.texts.empty() ? text_task_of(options.task.front()) : nullptr;
    result["scores"] = scores_of(texts, *taken, labels, task);
    print(table_of(result["scores"], texts.size()));
  } else {
    std::string lines;
    for (const Classified& one : *taken)
      lines += line_of(one, labels).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    print(lines);
  }
  if (!options.json.empty()) {
    result["answers"] = Json::array();
    for (const Classified& one : *taken) result["answers"].push_back(line_of(one, labels));
    json.write(result);
  }
  return ExitStatus::kDone;
}

}  // namespace

void describe_classify(CLI::App& app, Work& work) {
  const auto options = std::make_shared<ClassifyOptions>();
  options->app = &app;
  add_model(app, *options, "Folder of a classifier, as `linnet finetune --task` writes one");
  add_dtype(app, *options);
  add_threads(app, *options);
  add_instructions(app);
  add_json(app, *options);
  app.add_option(
         "FILE", options->files,
         "Texts, plain or packed: .jsonl (records), else one a line, a tab between two of a pair; - is "
         "standard input, of records with --text-fields")
      ->type_name("FILE");
  app.add_option("--task", options->task,
                 "Labelled texts, one JSON object a line: prints how many are taken for what they are")
      ->type_name("FILE");
  comma_list(
      app.add_option("--text-fields", options->fields.texts,
                     "The records' field with the text, or two of a pair (default: by the file's name, as "
                     "finetune --task)"))
      ->type_name("NAME,…");
  app.add_option("--label-field", options->fields.label, "The records' field with the label (default: label)")
      ->type_name("NAME")
      ->check(not_empty());
  app.add_option("--length", options->length,
                 "Tokens of a text, or of a pair, at most: longer ones are cut (default: none is)")
      ->transform(count(3, 1 << 20))
      ->type_name("TOKENS");
  app.callback([options, &work] { work = [options] { return classify(*options); }; });
}

}  // namespace linnet::cli
