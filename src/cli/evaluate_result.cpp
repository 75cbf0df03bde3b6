#include "cli/evaluate_result.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/plot.h"
#include "evaluate/task_prompts.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

/// How the harness calls the way from a model's answers to the scored ones.
std::string_view filter_of(const Task& task) { return task.writing ? task.writing->filter : "none"; }

void add_value(Json& entry, const Task& task, Metric metric, const MetricValue& value) {
  const std::string_view name = name_of(metric), filter = filter_of(task);
  entry[fmt::format("{},{}", name, filter)] = value.value;
  entry[fmt::format("{}_stderr,{}", name, filter)] = value.error ? Json(*value.error) : Json("N/A");
}

Json generation_of(const Writing& writing) {
  return {
      {"until", writing.stops}, {"max_gen_toks", writing.tokens}, {"do_sample", false}, {"temperature", 0.0}};
}

Json entry_of(const SetResult& result) {
  Json entry = {{"alias", result.set->name}};
  for (size_t i = 0; i < result.values.size(); ++i)
    add_value(entry, *result.set->task, result.set->task->metrics[i], result.values[i]);
  return entry;
}

Json config_of(const TaskSet& set) {
  const Task& task = *set.task;
  Json metrics = Json::array();
  for (const Metric metric : task.metrics) metrics.push_back({{"metric", name_of(metric)}});
  Json layouts = Json::array();
  for (const Layout& layout : task.layouts)
    layouts.push_back({{"doc_to_text", layout.text}, {"doc_to_choice", layout.choices}});
  Json config = {{"task", set.name},
                 {"files", task.files},
                 {"fewshot_file", set.shots_from_examples ? task.files[0] : task.shots_file},
                 {"fewshot_config", {{"sampler", "first_n"}}},
                 {"forms", layouts},
                 {"description", set.examples.empty() ? "" : set.examples[0].description},
                 {"target_delimiter", task.writing || set.chat != nullptr ? "" : " "},
                 {"fewshot_as_multiturn", set.chat != nullptr},
                 {"fewshot_delimiter", "\n\n"},
                 {"num_fewshot", set.shots},
                 {"output_type", task.writing ? "generate_until" : "multiple_choice"},
                 {"metric_list", metrics}};
  if (task.writing) config["generation_kwargs"] = generation_of(*task.writing);
  return config;
}

/// Sets of one task, each a subject, together.
void add_groups(Json& out, const std::vector<SetResult>& results) {
  for (size_t begin = 0; begin < results.size();) {
    const Task& task = *results[begin].set->task;
    size_t end = begin;
    Json names = Json::array();
    std::vector<int64_t> sizes;
    while (end < results.size() && results[end].set->task == &task) {
      names.push_back(results[end].set->name);
      sizes.push_back(std::ssize(results[end].set->examples));
      ++end;
    }
    if (end - begin > 1) {
      const std::string name(task.name);
      Json entry = {{"alias", name}};
      for (size_t metric = 0; metric < task.metrics.size(); ++metric) {
        std::vector<MetricValue> values;
        for (size_t i = begin; i < end; ++i) values.push_back(results[i].values[metric]);
        add_value(entry, task, task.metrics[metric], pooled(values, sizes));
      }
      out["results"][name] = entry;
      out["groups"][name] = entry;
      out["group_subtasks"][name] = names;
      out["n-shot"][name] = results[begin].set->shots;
    }
    begin = end;
  }
}

/// A value of the table.
struct Row {
  std::string task, metric, error;
  int shots;
  int64_t examples;
  double value;
};

std::vector<Row> rows_of(const Json& result) {
  std::vector<Row> rows;
  const auto groups = result.value("group_subtasks", Json::object());
  for (const auto& [name, entry] : result["results"].items()) {
    int64_t examples = 0;
    for (const Json& part : groups.value(name, Json::array({name})))
      examples += result["n-samples"][part.get<std::string>()]["effective"].get<int64_t>();
    for (const auto& [key, value] : entry.items()) {
      const size_t comma = std::min(key.find(','), key.size());
      const std::string metric = key.substr(0, comma);
      if (!value.is_number() || metric.ends_with("_stderr")) continue;
      const Json& error = entry[metric + "_stderr" + key.substr(comma)];
      rows.push_back({.task = name,
                      .metric = metric,
                      .error = error.is_number() ? fmt::format("± {:.4f}", error.get<double>()) : "",
                      .shots = result["n-shot"][name].get<int>(),
                      .examples = examples,
                      .value = value.get<double>()});
    }
  }
  return rows;
}

std::string reading_line(const Json& result) {
  const Json& reading = result["reading"];
  const auto read = reading["tokens"].get<int64_t>(), alone = reading["tokens_alone"].get<int64_t>();
  const double fewer = static_cast<double>(alone) / static_cast<double>(std::max<int64_t>(read, 1));
  return fmt::format("{} requests, {} tokens read{}{}, {:.1f} s", reading["requests"].get<int64_t>(), read,
                     read == alone ? "" : fmt::format(" of {} in them", alone),
                     fewer < 1.05 ? "" : fmt::format(" ({:.1f} times fewer)", fewer),
                     reading["seconds"].get<double>());
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

Json evaluation_json(const EvaluateOptions& options, const std::vector<SetResult>& results,
                     const LikelihoodReader::Counts& counts, double seconds) {
  Json out = {{"results", Json::object()}};
  for (const SetResult& result : results) {
    const std::string& name = result.set->name;
    out["results"][name] = entry_of(result);
    out["configs"][name] = config_of(*result.set);
    out["versions"][name] = result.set->task->version;
    out["n-shot"][name] = result.set->shots;
    for (const Metric metric : result.set->task->metrics)
      out["higher_is_better"][name][std::string(name_of(metric))] = true;
    out["n-samples"][name] = {{"original", result.set->documents},
                              {"effective", result.set->examples.size()}};
  }
  add_groups(out, results);
  out["config"] = {{"model", "linnet"},
                   {"model_args", options.model},
                   {"device", options.device},
                   {"dtype", options.dtype},
                   {"weights", options.weights},
                   {"limit", options.how.limit ? Json(*options.how.limit) : Json()},
                   {"bootstrap_iters", options.bootstrap}};
  out["total_evaluation_time_seconds"] = fmt::format("{}", seconds);
  out["reading"] = {{"requests", counts.requests},
                    {"tokens", counts.tokens},
                    {"tokens_alone", counts.all_tokens},
                    {"seconds", seconds}};
  return out;
}

Json sample_json(const TaskSet& set, size_t index, const std::vector<Likelihood>& choices,
                 const TaskAnswer& answer) {
  const TaskExample& example = set.examples[index];
  Json out = {{"task", set.name}, {"doc_id", index}, {"doc", example.record}, {"target", answer.gold}};
  for (const TaskPrompt& prompt : prompts_of(set, index))
    out["arguments"].push_back({prompt.context, prompt.continuation});
  for (const Likelihood& choice : choices) out["filtered_resps"].push_back({choice.nats, choice.greedy});
  for (const Metric metric : set.task->metrics) {
    const std::string name(name_of(metric));
    out["metrics"].push_back(name);
    if (metric == Metric::kF1 || metric == Metric::kMatthews) {
      out[name] = {answer.gold, answer.chosen};
    } else {
      const size_t chosen = metric == Metric::kAccuracy ? answer.chosen : answer.chosen_normalized;
      out[name] = chosen == answer.gold ? 1.0 : 0.0;
    }
  }
  return out;
}

Json sample_json(const TaskSet& set, size_t index, std::string_view text, const TaskAnswer& answer) {
  const TaskExample& example = set.examples[index];
  const Writing& writing = *set.task->writing;
  const bool right = answer.chosen == answer.gold;
  return {{"task", set.name},
          {"doc_id", index},
          {"doc", example.record},
          {"target", example.target},
          {"arguments",
           Json::array({Json::array({prompts_of(set, index).front().context, generation_of(writing)})})},
          {"resps", Json::array({Json::array({text})})},
          {"filtered_resps", Json::array({answer_in(text, writing)})},
          {"metrics", {name_of(Metric::kExactMatch)}},
          {std::string(name_of(Metric::kExactMatch)), right ? 1.0 : 0.0}};
}

std::string evaluation_table(const Json& result) {
  const std::vector<Row> rows = rows_of(result);
  size_t width = 40;
  for (const Row& row : rows) width = std::max(width, row.task.size());
  std::string table = fmt::format("{:<{}}{:>6}{:>10}  {:<11}{:>8}   {}\n", "task", width, "shots", "examples",
                                  "metric", "value", "± error");
  for (const Row& row : rows)
    table += fmt::format("{:<{}}{:>6}{:>10}  {:<11}{:>8.4f}   {}\n", row.task, width, row.shots, row.examples,
                         row.metric, row.value, row.error);
  return table + reading_line(result) + "\n";
}

std::string evaluation_page(const Json& result) {
  const auto parts = result.value("group_subtasks", Json::object());
  const auto is_part = [&](const std::string& task) {
    for (const auto& [group, names] : parts.items())
      if (std::find(names.begin(), names.end(), Json(task)) != names.end()) return true;
    return false;
  };
  Bars bars{.title = "First metric of each task", .series = {"value"}};
  std::string table =
      "<table><tr><th>task<th>shots<th>examples<th>metric<th>"
      "value<th>± error</tr>\n";
  for (const Row& row : rows_of(result)) {
    table += fmt::format("<tr><td>{}<td>{}<td>{}<td>{}<td>{:.4f}<td>{}</tr>\n", escaped(row.task), row.shots,
                         row.examples, row.metric, row.value, row.error);
    const bool drawn = !bars.groups.empty() && bars.groups.back().name == row.task;
    if (!drawn && !is_part(row.task)) bars.groups.push_back({row.task, {std::max(row.value, 0.0)}});
  }
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><meta "
      "charset=\"utf-8\"><title>linnet evaluate</title>\n"
      "<style>body{{font:14px sans-serif;max-width:900px;margin:2em "
      "auto}}td,th{{padding:2px 12px;"
      "text-align:right}}td:first-child,th:first-child{{text-align:left}}</"
      "style>\n"
      "<h1>{}</h1>\n{}\n{}</table>\n<p>{}</p>\n</html>\n",
      escaped(result["config"]["model_args"].get<std::string>()), bars_svg(bars), table,
      escaped(reading_line(result)));
}

}  // namespace linnet::cli
