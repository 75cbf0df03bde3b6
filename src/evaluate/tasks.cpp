#include "evaluate/tasks.h"

#include <algorithm>

#include "base/error.h"
#include "base/nearest.h"

namespace linnet {
namespace {

using enum Metric;

// {"choices.text"} is the form of the published sets; the others are those of collections without the
// original nesting.
const std::vector<Layout> kArc = {{"choices.text",
                                   "Question: {question}\nAnswer:",
                                   {"{choices.text.*}"},
                                   "{answerKey}",
                                   {"{choices.label.*}"}},
                                  {"question.stem",
                                   "Question: {question.stem}\nAnswer:",
                                   {"{question.choices.*.text}"},
                                   "{answerKey}",
                                   {"{question.choices.*.label}"}},
                                  {"query", "{query}\nAnswer:", {"{choices.*}"}, "{gold}", {}},
                                  {"A",
                                   "Question: {question}\nAnswer:",
                                   {"{A}", "{B}", "{C}", "{D}"},
                                   "{answer}",
                                   {"A", "B", "C", "D", "1", "2", "3", "4"}}};

const std::vector<std::string_view> kBinary = {"0", "1"};

const std::vector<Task> kTasks = {
    {.name = "piqa",
     .title = "PIQA",
     .files = {"piqa-validation"},
     .shots_file = "piqa-train",
     .layouts = {{"goal", "Question: {goal}\nAnswer:", {"{sol1}", "{sol2}"}, "{label}", {}}},
     .metrics = {kAccuracy, kNormalizedAccuracy}},
    // The harness's choices begin with a space of their own after the delimiter.
    {.name = "copa",
     .title = "COPA",
     .files = {"copa-test"},
     .shots_file = "copa-validation",
     .layouts = {{"p",
                  "{p|strip|chop} {asks-for|connector}",
                  {" {a1|uncapitalize}", " {a2|uncapitalize}"},
                  "{most-plausible-alternative}",
                  {"1", "2"}},
                 {"premise",
                  "{premise|strip|chop} {question|connector}",
                  {" {choice1|uncapitalize}", " {choice2|uncapitalize}"},
                  "{label}",
                  {}}},
     .metrics = {kAccuracy}},
    {.name = "arc_challenge",
     .title = "ARC-Challenge",
     .files = {"arc-challenge-test"},
     .shots_file = "arc-challenge-train",
     .layouts = kArc,
     .metrics = {kAccuracy, kNormalizedAccuracy}},
    {.name = "arc_easy",
     .title = "ARC-Easy",
     .files = {"arc-easy-test"},
     .shots_file = "arc-easy-train",
     .layouts = kArc,
     .metrics = {kAccuracy, kNormalizedAccuracy}},
    {.name = "hellaswag",
     .title = "HellaSwag",
     .files = {"hellaswag-validation"},
     .shots_file = "hellaswag-train",
     .layouts = {{"ctx_a", "{activity_label}: {ctx_a} {ctx_b|capitalize}", {"{endings.*}"}, "{label}", {}},
                 {"query", "{query}", {"{endings.*}"}, "{label}", {}}},
     .metrics = {kAccuracy, kNormalizedAccuracy},
     .wikihow = true},
    {.name = "winogrande",
     .title = "WinoGrande",
     .files = {"winogrande-validation"},
     .shots_file = "winogrande-train",
     .layouts = {{"context_options", "{continuation|strip}", {"{context_options.*}"}, "{gold}", {}},
                 {"sentence",
                  "{sentence|after_blank|strip}",
                  {"{sentence|before_blank}{option1}", "{sentence|before_blank}{option2}"},
                  "{answer}",
                  {"1", "2"}}},
     .metrics = {kAccuracy},
     .choices_first = true},
    // The harness has this set only through a collection of prompts of its own: the words here are Linnet's.
    {.name = "ag_news",
     .title = "AG News",
     .files = {"agnews-test"},
     .shots_file = "agnews-train",
     .layouts = {{"title",
                  "{title} {description}\nQuestion: Is this news about the "
                  "world, sports, business or "
                  "technology?\nAnswer:",
                  {"world", "sports", "business", "technology"},
                  "{class}",
                  {"1", "2", "3", "4"}},
                 {"text",
                  "{text}\nQuestion: Is this news about the world, sports, "
                  "business or technology?\nAnswer:",
                  {"world", "sports", "business", "technology"},
                  "{label}",
                  {"World", "Sports", "Business", "Sci/Tech", "0", "1", "2", "3"}}},
     .metrics = {kAccuracy}},
    {.name = "mmlu",
     .title = "MMLU",
     .files = {"mmlu-test"},
     .shots_file = "mmlu-dev",
     .layouts = {{"A",
                  "{question|strip}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\nAnswer:",
                  {"A", "B", "C", "D"},
                  "{answer}",
                  {"A", "B", "C", "D"}},
                 {"choices",
                  "{question|strip}\nA. {choices.0}\nB. {choices.1}\nC. "
                  "{choices.2}\nD. {choices.3}\nAnswer:",
                  {"A", "B", "C", "D"},
                  "{answer}",
                  {}}},
     .metrics = {kAccuracy},
     .shots = 5,
     .description = "The following are multiple choice questions (with "
                    "answers) about {subject|words}.\n\n",
     .subject = "subject"},
    // The harness has the few-shot examples in its configurations; these are
    // the authors' own file.
    {.name = "bbh_cot_fewshot",
     .title = "BBH",
     .files = {"bbh-test"},
     .shots_file = "bbh-cot-prompts",
     .layouts = {{"input", "Q: {input}\nA: Let's think step by step.\n", {}, "{target}", {}}},
     .metrics = {kExactMatch},
     .shots = 3,
     .subject = "task",
     .group = "bbh",
     .writing = Writing{.tokens = 1024,
                        .stops = {"</s>", "Q", "\n\n"},
                        .before = "the answer is ",
                        .otherwise = "[invalid]",
                        .filter = "get-answer"},
     .worked = "prompt",
     .version = 4.0},
    {.name = "cola",
     .title = "CoLA",
     .files = {"cola-validation-in-domain", "cola-validation-out-of-domain"},
     .shots_file = "cola-train",
     .layouts = {{"sentence",
                  "{sentence}\nQuestion: Does this sentence make sense?\nAnswer:",
                  {"no", "yes"},
                  "{label}",
                  kBinary}},
     .metrics = {kMatthews},
     .group = "glue"},
    {.name = "sst2",
     .title = "SST-2",
     .files = {"sst2-validation"},
     .shots_file = "sst2-train",
     .layouts = {{"sentence",
                  "{sentence}\nQuestion: Is this sentence positive or "
                  "negative?\nAnswer:",
                  {"negative", "positive"},
                  "{label}",
                  kBinary}},
     .metrics = {kAccuracy},
     .group = "glue"},
    {.name = "mrpc",
     .title = "MRPC",
     .files = {"mrpc-validation"},
     .shots_file = "mrpc-train",
     .layouts = {{"sentence1",
                  "Sentence 1: {sentence1}\nSentence 2: {sentence2}\nQuestion: "
                  "Do both sentences mean the "
                  "same thing?\nAnswer:",
                  {"no", "yes"},
                  "{label}",
                  kBinary}},
     .metrics = {kAccuracy, kF1},
     .group = "glue"},
    {.name = "qnli",
     .title = "QNLI",
     .files = {"qnli-validation"},
     .shots_file = "qnli-train",
     .layouts = {{"question",
                  "{question}\n{sentence}\nQuestion: Does this response answer "
                  "the question?\nAnswer:",
                  {"yes", "no"},
                  "{label}",
                  {"entailment", "not_entailment", "0", "1"}}},
     .metrics = {kAccuracy},
     .group = "glue"},
    {.name = "rte",
     .title = "RTE",
     .files = {"rte-validation"},
     .shots_file = "rte-train",
     .layouts = {{"sentence1",
                  "{sentence1}\nQuestion: {sentence2} True or False?\nAnswer:",
                  {"True", "False"},
                  "{label}",
                  kBinary}},
     .metrics = {kAccuracy},
     .group = "glue"},
};

/// The task that `name` is, or is a subject of: "mmlu_anatomy".
std::vector<TaskChoice> choices_of(const std::string& name) {
  std::vector<TaskChoice> chosen;
  for (const Task& task : kTasks) {
    const std::string before = std::string(task.name) + "_";
    if (task.name == name || (!task.group.empty() && task.group == name)) {
      chosen.push_back({&task, {}});
    } else if (!task.subject.empty() && name.size() > before.size() && name.starts_with(before)) {
      chosen.push_back({&task, name.substr(before.size())});
    }
  }
  return chosen;
}

}  // namespace

std::string_view name_of(Metric metric) {
  switch (metric) {
    case kAccuracy:
      return "acc";
    case kNormalizedAccuracy:
      return "acc_norm";
    case kF1:
      return "f1";
    case kMatthews:
      return "mcc";
    case kExactMatch:
      return "exact_match";
  }
  return {};
}

std::span<const Task> all_tasks() { return kTasks; }

std::vector<TaskChoice> choose_tasks(std::span<const std::string> names) {
  std::vector<TaskChoice> chosen;
  for (const std::string& name : names) {
    const auto choices = choices_of(name);
    if (choices.empty()) {
      std::vector<std::string_view> known;
      for (const Task& task : kTasks) known.push_back(task.name);
      for (const char* group : {"bbh", "glue"}) known.emplace_back(group);
      throw Error("--tasks", "unknown task \"" + printable(name, 60) + "\"", one_of(name, known));
    }
    for (const TaskChoice& choice : choices) {
      const auto same = std::find_if(chosen.begin(), chosen.end(), [&](const TaskChoice& other) {
        return other.task == choice.task &&
               (other.subject.empty() || choice.subject.empty() || other.subject == choice.subject);
      });
      if (same != chosen.end()) {
        const std::string& subject = choice.subject.empty() ? same->subject : choice.subject;
        throw Error(
            "--tasks",
            printable(std::string(choice.task->name) + (subject.empty() ? "" : "_" + subject), 60) + " twice",
            "each once");
      }
      chosen.push_back(choice);
    }
  }
  return chosen;
}

}  // namespace linnet
