// Records of task files (JSON objects, one a line) as examples: prompts, choices, the right one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evaluate/tasks.h"

namespace linnet {

class ChatTemplate;

/// `text` with every `{field|change|…}` replaced by that field of the record. Numbers are written as digits.
/// Changes: strip (white space at both ends), chop (the last character), connector (cause: because, effect:
/// therefore), capitalize, uncapitalize (the first letter; capitalize makes the others small), words (`_`
/// becomes a space), before_blank and after_blank (around the first `_`). Throws Error (where: `where`) on a
/// field that is not there or cannot be changed so.
std::string render_template(std::string_view text, const nlohmann::json& record, const std::string& where);

struct TaskExample {
  nlohmann::json record;
  std::string text;
  std::vector<std::string> choices;
  size_t gold = 0;          // index of the right choice
  std::string target;       // the right answer, where it is to be written
  std::string description;  // what the prompt begins with
  std::string subject;      // of a task that has them
};

/// Throws Error (where: `where`) on a record of none of the task's forms, one that lacks a field, or a label
/// outside its set.
TaskExample example_of(const Task& task, const nlohmann::json& record, const std::string& where);

/// A description and worked examples, as the file of BBH's authors has them in
/// one text: behind a notice that a line of dashes ends, what comes before the
/// first line that begins with "Q: ", then an example from each such line on.
/// Throws Error (where: `where`) where there is none.
struct WorkedExamples {
  std::string description;            // with the empty line behind it
  std::vector<std::string> examples;  // question, "A: Let's think step by
                                      // step.", a line's end, reasoning
};
WorkedExamples worked_examples(std::string_view text, const std::string& where);

/// A task, or one subject of it, ready to be asked.
struct TaskSet {
  const Task* task;
  std::string name;     // as the harness has it: "piqa", "mmlu_anatomy"
  std::string subject;  // empty: the task has none
  int shots = 0;
  int64_t documents = 0;  // in the files; `examples` has fewer with a limit
  std::vector<TaskExample> examples;
  std::vector<TaskExample> shot_pool;  // of which each example's first `shots` are taken
  bool shots_from_examples = false;    // the pool is the scored files' own: without the example itself
  const ChatTemplate* chat = nullptr;  // lays prompts out as a conversation; outlives the set
};

struct TaskOptions {
  std::filesystem::path data = "tasks";  // the folder with the task files
  std::optional<int> shots;              // else each task's own
  std::optional<int64_t> limit;          // examples of a task, or of each subject, at most
};

/// Reads what `choice` stands for: one set, or one for each subject in the order of the file. Throws Error as
/// above, on a file that is not there, and where there are fewer few-shot examples than asked for.
std::vector<TaskSet> read_task(const TaskChoice& choice, const TaskOptions& options);

}  // namespace linnet
