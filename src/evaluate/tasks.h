// The tasks of `linnet evaluate` as data: where their records lie, how a record becomes a prompt with its
// choices, and what is computed from the choices' log-likelihoods. Prompts and metrics are those of
// lm-evaluation-harness 0.4 (docs/evaluate.md says where they are not).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

enum class Metric {
  kAccuracy,            // the likeliest choice is the right one
  kNormalizedAccuracy,  // the same, log-likelihoods divided by the choices' lengths in code points
  kF1,                  // of the second choice
  kMatthews,            // Matthews' correlation coefficient
  kExactMatch,          // the written answer is the right one, letter by letter
};
/// As the harness names it: "acc", "acc_norm", "f1", "mcc", "exact_match".
std::string_view name_of(Metric metric);

/// One form in which a task's records come. Templates are text with `{field}`, `{field.member}` and
/// `{field|change}` (render_template() lists the changes); `{list.*}`, `{list.*.member}` in a template of
/// `choices` or `labels` stands for as many as the list has.
struct Layout {
  std::string_view field;  // a record that has it is of this form
  std::string_view text;
  std::vector<std::string_view> choices;
  std::string_view gold;                 // the right choice, as `labels` name it
  std::vector<std::string_view> labels;  // of the choices, once or more often over; empty: 0, 1, …
};

/// How an answer that is written, not chosen, is asked for and read out of its
/// text.
struct Writing {
  int64_t tokens = 0;                   // at most
  std::vector<std::string_view> stops;  // end the text, beside the end token
  std::string_view before;              // the answer follows it: the rest of its line but
                                        // the last character
  std::string_view otherwise;           // the answer of a text without one
  std::string_view filter;              // what the harness calls this way of reading
};

struct Task {
  std::string_view name;  // the harness's
  std::string_view title;
  std::vector<std::string_view> files;  // scored, one after another; without .jsonl.xz
  std::string_view shots_file;          // few-shot examples; empty: of the scored files
  std::vector<Layout> layouts;          // the first that fits a record counts
  std::vector<Metric> metrics;
  int shots = 0;                        // where --shots does not say
  std::string_view description = {};    // template; begins every prompt
  std::string_view subject = {};        // field: each of its values is a task by itself
  bool choices_first = false;           // the choice is the context, the text what is scored after it
  bool wikihow = false;                 // brackets of WikiHow are taken out of text and choices
  std::string_view group = {};          // a name for several tasks at once
  std::optional<Writing> writing = {};  // of a task without choices; its layouts' `gold` is the answer
  /// Of the few-shot file's records, one a subject: the field with description
  /// and worked examples.
  std::string_view worked = {};
  double version = 1.0;  // the harness's
};

std::span<const Task> all_tasks();

/// The rows that a name stands for, and which subject of them (empty: all). Throws Error (where: --tasks) on
/// an unknown one, listing those known. A subject is known where its records are read.
struct TaskChoice {
  const Task* task;
  std::string subject;
};
std::vector<TaskChoice> choose_tasks(std::span<const std::string> names);

}  // namespace linnet
