// Tasks of classifiers: files of JSON objects, one a line, each a text or two and a label. The fields of
// known tasks are a table; of other files they are named.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evaluate/task_scores.h"
#include "evaluate/tasks.h"
#include "text/tokenizer.h"

namespace linnet {

/// A task that is known by the beginning of its files' names: "sst2" by sst2-train.jsonl.xz.
struct TextTask {
  std::string_view name, title;
  struct Fields {
    std::vector<std::string_view> texts;  // one or two
    std::string_view label;
    int64_t first = 0;  // what a record writes for the first label, where it writes numbers
  };
  std::vector<Fields> forms;             // the first whose texts a record has counts
  std::vector<std::string_view> labels;  // by id
  std::vector<Metric> metrics;           // as GLUE has them; the first chooses the best epoch
};
std::span<const TextTask> text_tasks();
/// The known task of a file; null where it is none.
const TextTask* text_task_of(const std::filesystem::path& file);

/// Fields by name. Empty: those of the known task.
struct TextFields {
  std::vector<std::string> texts;
  std::string label;
};

struct LabeledText {
  std::vector<std::string> texts;  // one or two
  std::string label;               // of a known task: its name in the table; empty: none
  std::string where;               // file and line, for errors
};

/// Records of a file; `labeled`: each must have a label. Throws Error on a record that is no JSON object or
/// lacks a field, on a known task's label outside its set, on fewer than one record, and on a file of no
/// known task whose fields are not named.
std::vector<LabeledText> read_labeled(const std::filesystem::path& file, const TextFields& fields,
                                      bool labeled);

/// The labels of texts, which become their ids: a known task's in its order, else those that stand in the
/// texts, numbers by size, words by the alphabet. Throws Error where there are fewer than two.
std::vector<std::string> labels_of(const TextTask* task, std::span<const LabeledText> texts,
                                   const std::string& where);

/// The id of a text's label: by name, or, where it is a number and no name, as the id itself. Throws Error on
/// a label outside the set.
size_t label_id(const LabeledText& text, std::span<const std::string> labels);

/// Metrics of texts of these tasks: the known task's, else accuracy, and of two labels F1 too.
std::vector<Metric> metrics_of(const TextTask* task, size_t labels);
/// The metric of this name: "acc", "f1", "mcc"; throws Error (where: `where`) on another, and on one of two
/// labels where there are more.
Metric text_metric(std::string_view name, size_t labels, const std::string& where);
/// Whether a classifier's metric is of two labels alone.
bool is_of_two(Metric metric);

/// Texts as a classifier's tokens.
class TextEncoder {
 public:
  /// `length`: longer ones lose their ends, of two the longer one first, as transformers truncates; 0: none
  /// does. `positions`: what the model reads at most; 0: any number. `ends`: the tokens one of which has to
  /// stand behind a text; none: any may.
  TextEncoder(const Tokenizer& tokenizer, int64_t length, int64_t positions, std::vector<int64_t> ends = {});

  /// Throws Error on a text without a token or without its end, and on one longer than the model's positions.
  Tokenizer::Framed encode(const LabeledText& text) const;
  /// Whether encode() cut the text.
  bool cuts(const LabeledText& text) const;

 private:
  std::vector<std::vector<int32_t>> parts_of(const LabeledText& text) const;
  Tokenizer::Framed framed(std::span<const std::vector<int32_t>> parts) const;

  const Tokenizer& tokenizer_;
  size_t length_, positions_;
  std::vector<int64_t> ends_;
};

}  // namespace linnet
