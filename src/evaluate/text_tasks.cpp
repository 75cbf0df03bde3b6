#include "evaluate/text_tasks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/count.h"
#include "base/error.h"
#include "base/nearest.h"
#include "evaluate/task_records.h"

namespace linnet {
namespace {

using nlohmann::json;
using enum Metric;

const std::vector<TextTask> kTextTasks = {
    {"sst2", "SST-2", {{{"sentence"}, "label"}}, {"negative", "positive"}, {kAccuracy}},
    {"cola", "CoLA", {{{"sentence"}, "label"}}, {"unacceptable", "acceptable"}, {kMatthews}},
    {"mrpc",
     "MRPC",
     {{{"sentence1", "sentence2"}, "label"}},
     {"not_equivalent", "equivalent"},
     {kAccuracy, kF1}},
    {"rte", "RTE", {{{"sentence1", "sentence2"}, "label"}}, {"entailment", "not_entailment"}, {kAccuracy}},
    {"qnli", "QNLI", {{{"question", "sentence"}, "label"}}, {"entailment", "not_entailment"}, {kAccuracy}},
    {"wnli", "WNLI", {{{"sentence1", "sentence2"}, "label"}}, {"not_entailment", "entailment"}, {kAccuracy}},
    {"qqp", "QQP", {{{"question1", "question2"}, "label"}}, {"not_duplicate", "duplicate"}, {kAccuracy, kF1}},
    {"mnli",
     "MNLI",
     {{{"premise", "hypothesis"}, "label"}},
     {"entailment", "neutral", "contradiction"},
     {kAccuracy}},
    // The training set here is without titles.
    {"agnews",
     "AG News",
     {{{"text"}, "label"}, {{"description"}, "class", 1}},
     {"World", "Sports", "Business", "Sci/Tech"},
     {kAccuracy}},
};

std::string known_names() {
  std::vector<std::string_view> names;
  for (const TextTask& task : kTextTasks) names.push_back(task.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string field_text(const json& record, std::string_view field, const std::string& where) {
  const auto found = record.find(field);
  const std::string shown = printable(std::string(field), 60);
  if (found == record.end()) throw Error(where, fmt::format("no field `{}`", shown), "a record with it");
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return found->dump();
  throw Error(where, fmt::format("the field `{}` is {}", shown, found->type_name()),
              "a string or a whole number");
}

/// The name of a known task's label, which a record has by name or number.
std::string known_label(const TextTask& task, const TextTask::Fields& form, const std::string& given,
                        const std::string& where) {
  for (size_t id = 0; id < task.labels.size(); ++id)
    if (given == task.labels[id] || given == std::to_string(form.first + static_cast<int64_t>(id)))
      return std::string(task.labels[id]);
  throw Error(where, fmt::format("the label is \"{}\"", printable(given, 60)), one_of(given, task.labels));
}

const TextTask::Fields& form_of(const TextTask& task, const json& record, const std::string& where) {
  std::string wanted;
  for (const TextTask::Fields& form : task.forms) {
    if (std::ranges::all_of(form.texts, [&](std::string_view field) { return record.contains(field); }))
      return form;
    wanted += fmt::format("{}`{}`", wanted.empty() ? "" : ", or ", fmt::join(form.texts, "` and `"));
  }
  throw Error(where, fmt::format("no record of {}", task.title), "one with " + wanted);
}

LabeledText known_record(const TextTask& task, const json& record, bool labeled, const std::string& where) {
  const TextTask::Fields& form = form_of(task, record, where);
  LabeledText text{.texts = {}, .label = {}, .where = where};
  for (const std::string_view field : form.texts) text.texts.push_back(field_text(record, field, where));
  if (labeled) text.label = known_label(task, form, field_text(record, form.label, where), where);
  return text;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == text.npos;
}

/// Numbers by size and before words.
bool before(const std::string& a, const std::string& b) {
  if (is_number(a) && is_number(b)) return std::stoll(a) < std::stoll(b);
  return is_number(a) != is_number(b) ? is_number(a) : a < b;
}

}  // namespace

std::span<const TextTask> text_tasks() { return kTextTasks; }

const TextTask* text_task_of(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  const std::string stem = name.substr(0, name.find_first_of("-_."));
  const auto found = std::ranges::find(kTextTasks, stem, &TextTask::name);
  return found == kTextTasks.end() ? nullptr : &*found;
}

std::vector<LabeledText> read_labeled(const std::filesystem::path& file, const TextFields& fields,
                                      bool labeled) {
  const TextTask* task = fields.texts.empty() ? text_task_of(file) : nullptr;
  if (task == nullptr && fields.texts.empty())
    throw Error(file.string(), "its name begins with no known task's, and --text-fields is not given",
                fmt::format("{}, or --text-fields and --label-field", known_names()));
  const std::string label = fields.label.empty() ? "label" : fields.label;
  std::vector<LabeledText> texts;
  for_each_task_record(file, [&](const json& record, const std::string& where) {
    if (!record.is_object()) throw Error(where, "no JSON object", "one a line");
    if (task != nullptr) return texts.push_back(known_record(*task, record, labeled, where));
    LabeledText text{.texts = {}, .label = {}, .where = where};
    for (const std::string& field : fields.texts) text.texts.push_back(field_text(record, field, where));
    if (labeled) text.label = field_text(record, label, where);
    texts.push_back(std::move(text));
  });
  if (texts.empty()) throw Error(file.string(), "no record", "one a line");
  return texts;
}

std::vector<std::string> labels_of(const TextTask* task, std::span<const LabeledText> texts,
                                   const std::string& where) {
  constexpr size_t kMost = 10'000;
  if (task != nullptr) return {task->labels.begin(), task->labels.end()};
  std::set<std::string> seen;
  for (const LabeledText& text : texts) {
    if (text.label.empty()) throw Error(text.where, "an empty label", "a name");
    seen.insert(text.label);
  }
  if (seen.size() < 2 || seen.size() > kMost)
    throw Error(where, counted(std::ssize(seen), "label"), fmt::format("2 to {}", kMost));
  std::vector<std::string> labels(seen.begin(), seen.end());
  std::ranges::sort(labels, before);
  return labels;
}

size_t label_id(const LabeledText& text, std::span<const std::string> labels) {
  const auto found = std::ranges::find(labels, text.label);
  if (found != labels.end()) return static_cast<size_t>(found - labels.begin());
  if (is_number(text.label) && std::stoull(text.label) < labels.size()) return std::stoull(text.label);
  const std::vector<std::string_view> known(labels.begin(), labels.end());
  throw Error(text.where, fmt::format("the label is \"{}\"", printable(text.label, 60)),
              one_of(text.label, known));
}

bool is_of_two(Metric metric) { return metric == kF1 || metric == kMatthews; }

std::vector<Metric> metrics_of(const TextTask* task, size_t labels) {
  if (task != nullptr) return task->metrics;
  return labels == 2 ? std::vector{kAccuracy, kF1} : std::vector{kAccuracy};
}

Metric text_metric(std::string_view name, size_t labels, const std::string& where) {
  constexpr std::array kKnown{kAccuracy, kF1, kMatthews};
  const auto found = std::ranges::find(kKnown, name, [](Metric metric) { return name_of(metric); });
  if (found == kKnown.end()) throw Error(where, printable(std::string(name), 60), "acc, f1 or mcc");
  if (is_of_two(*found) && labels != 2)
    throw Error(where, fmt::format("{} of {} labels", name, labels), "acc, or a task of two labels");
  return *found;
}

TextEncoder::TextEncoder(const Tokenizer& tokenizer, int64_t length, int64_t positions,
                         std::vector<int64_t> ends)
    : tokenizer_(tokenizer),
      length_(static_cast<size_t>(length)),
      positions_(static_cast<size_t>(positions)),
      ends_(std::move(ends)) {}

std::vector<std::vector<int32_t>> TextEncoder::parts_of(const LabeledText& text) const {
  std::vector<std::vector<int32_t>> parts;
  for (const std::string& part : text.texts) parts.push_back(tokenizer_.encode(part));
  return parts;
}

Tokenizer::Framed TextEncoder::framed(std::span<const std::vector<int32_t>> parts) const {
  return parts.size() == 1 ? tokenizer_.framed(parts[0]) : tokenizer_.framed(parts[0], parts[1]);
}

bool TextEncoder::cuts(const LabeledText& text) const {
  return length_ > 0 && framed(parts_of(text)).tokens.size() > length_;
}

Tokenizer::Framed TextEncoder::encode(const LabeledText& text) const {
  std::vector<std::vector<int32_t>> parts = parts_of(text);
  size_t own = 0;
  for (const auto& part : parts) own += part.size();
  Tokenizer::Framed all = framed(parts);
  if (all.tokens.empty()) throw Error(text.where, "a text without a token", "words");
  if (length_ > 0 && all.tokens.size() > length_) {
    const size_t added = all.tokens.size() - own, room = length_ > added ? length_ - added : 0;
    if (room < parts.size()) throw Error("--length", fmt::format("{}", length_), "room for a text's tokens");
    if (parts.size() == 1) {
      parts[0].resize(room);
    } else {
      // As transformers' longest_first: the longer one is cut down to what the other leaves, both to halves.
      size_t less = std::min(parts[0].size(), parts[1].size());
      size_t more = std::max(less, room > less ? room - less : 0);
      if (less + more > room) less = room / 2, more = less + room % 2;
      const bool swapped = parts[0].size() > parts[1].size();
      parts[swapped ? 1 : 0].resize(less);
      parts[swapped ? 0 : 1].resize(more);
    }
    all = framed(parts);
  }
  if (!ends_.empty() && std::ranges::count(ends_, all.tokens.back()) == 0)
    throw Error(text.where,
                fmt::format("a {}, behind which the tokenizer sets no end token of the model",
                            parts.size() == 1 ? "text" : "pair"),
                "one, as </s>, whose id is eos_token_id in config.json");
  if (positions_ > 0 && all.tokens.size() > positions_)
    throw Error(text.where, fmt::format("a text of {} tokens", all.tokens.size()),
                fmt::format("at most {}, the model's positions (--length {} cuts longer ones)", positions_,
                            positions_));
  return all;
}

}  // namespace linnet
