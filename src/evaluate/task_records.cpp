#include "evaluate/task_records.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/nearest.h"
#include "text/corpus.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kRecordBytes = size_t{1} << 24;  // far more than any task's longest
constexpr size_t kMostChoices = 256;              // of our own choice

std::vector<std::string> split(std::string_view text, char by) {
  std::vector<std::string> parts;
  for (size_t at = 0;;) {
    const size_t end = std::min(text.find(by, at), text.size());
    parts.emplace_back(text.substr(at, end - at));
    if (end == text.size()) return parts;
    at = end + 1;
  }
}

std::string_view strip(std::string_view text) {
  text.remove_prefix(space_prefix(text));
  text.remove_suffix(space_suffix(text));
  return text;
}

char ascii_case(char c, char from, char to, int by) {
  return c >= from && c <= to ? static_cast<char>(c + by) : c;
}
char upper(char c) { return ascii_case(c, 'a', 'z', -32); }
char lower(char c) { return ascii_case(c, 'A', 'Z', 32); }

std::string lower_all(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) append_utf8(out, lower_case(next_code_point(text, at)));
  return out;
}

std::string change(std::string text, std::string_view how, const std::string& field,
                   const std::string& where) {
  if (how == "strip") return std::string(strip(text));
  if (how == "chop") return text.empty() ? text : text.substr(0, last_code_point(text));
  if (how == "uncapitalize" && !text.empty()) text[0] = lower(text[0]);
  if (how == "capitalize" && !text.empty()) {
    text = lower_all(text);
    text[0] = upper(text[0]);
  }
  if (how == "words") std::replace(text.begin(), text.end(), '_', ' ');
  if (how == "connector") {
    if (text == "cause") return "because";
    if (text == "effect") return "therefore";
    throw Error(where, fmt::format("the field `{}` is \"{}\"", field, printable(text, 60)),
                "cause or effect");
  }
  if (how == "before_blank" || how == "after_blank") {
    const size_t blank = text.find('_');
    if (blank == text.npos)
      throw Error(where, fmt::format("no blank in the field `{}`", field), "a `_` in its place");
    return how == "before_blank" ? text.substr(0, blank) : text.substr(blank + 1);
  }
  return text;
}

/// A member of an object or an element of a list; null where there is none.
const json* member(const json& value, const std::string& name) {
  if (value.is_object()) {
    const auto found = value.find(name);
    return found == value.end() ? nullptr : &*found;
  }
  if (value.is_array() && name.size() == 1 && name[0] >= '0' && name[0] <= '9') {
    const auto index = static_cast<size_t>(name[0] - '0');
    return index < value.size() ? &value[index] : nullptr;
  }
  return nullptr;
}

const json* find(const json& record, std::span<const std::string> names) {
  const json* value = &record;
  for (const std::string& name : names)
    if ((value = member(*value, name)) == nullptr) return nullptr;
  return value;
}

std::string text_of(const json& value, const std::string& field, const std::string& where) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  throw Error(where, fmt::format("the field `{}` is {}", field, value.type_name()), "a string or an integer");
}

/// Every value that a path with at most one `*` stands for.
std::vector<std::string> values_of(const json& record, const std::string& field, const std::string& where) {
  const std::vector<std::string> names = split(field, '.');
  const auto star = std::find(names.begin(), names.end(), "*");
  const std::span all(names);
  const auto before = static_cast<size_t>(star - names.begin());
  const json* value = find(record, all.first(before));
  const auto missing = [&] { return Error(where, fmt::format("no field `{}`", field), "a record with it"); };
  if (value == nullptr) throw missing();
  if (star == names.end()) return {text_of(*value, field, where)};
  if (!value->is_array() || value->empty() || value->size() > kMostChoices)
    throw Error(where, fmt::format("the field `{}` is no list of choices", field.substr(0, field.find(".*"))),
                fmt::format("a list of 1 to {}", kMostChoices));
  std::vector<std::string> values;
  for (const json& element : *value) {
    const json* inner = find(element, all.subspan(before + 1));
    if (inner == nullptr) throw missing();
    values.push_back(text_of(*inner, field, where));
  }
  return values;
}

/// As render_template(), once for each value of a list.
std::vector<std::string> render_all(std::string_view text, const json& record, const std::string& where) {
  std::vector<std::string> out = {""};
  for (size_t at = 0; at < text.size();) {
    const size_t open = std::min(text.find('{', at), text.size());
    for (std::string& one : out) one += text.substr(at, open - at);
    if (open == text.size()) break;
    const size_t close = text.find('}', open);
    const auto parts = split(text.substr(open + 1, close - open - 1), '|');
    std::vector<std::string> values = values_of(record, parts[0], where);
    for (std::string& value : values)
      for (size_t i = 1; i < parts.size(); ++i) value = change(std::move(value), parts[i], parts[0], where);
    if (values.size() > 1 && out.size() == 1) out.assign(values.size(), out[0]);
    for (size_t i = 0; i < out.size(); ++i) out[i] += values[std::min(i, values.size() - 1)];
    at = close + 1;
  }
  return out;
}

std::vector<std::string> render_each(const std::vector<std::string_view>& templates, const json& record,
                                     const std::string& where) {
  std::vector<std::string> out;
  for (const std::string_view text : templates)
    for (std::string& one : render_all(text, record, where)) out.push_back(std::move(one));
  return out;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at; (at = text.find(from)) != text.npos; text.remove_prefix(at + from.size()))
    out.append(text.substr(0, at)).append(to);
  return out.append(text);
}

/// Brackets are artifacts of HellaSwag's WikiHow part.
std::string without_wikihow(std::string_view text) {
  const std::string titled = replaced(strip(text), " [title]", ". ");
  std::string out;
  for (size_t at = 0; at < titled.size();) {
    const size_t open = std::min(titled.find('[', at), titled.size());
    out += titled.substr(at, open - at);
    const size_t close = titled.find(']', open);
    if (open == titled.size()) break;
    if (close == titled.npos || titled.find('\n', open) < close) {  // `.` is no line end
      out += '[';
      at = open + 1;
    } else {
      at = close + 1;
    }
  }
  return replaced(out, "  ", " ");
}

const Layout& layout_of(const Task& task, const json& record, const std::string& where) {
  std::string fields;
  for (const Layout& layout : task.layouts) {
    if (find(record, split(layout.field, '.')) != nullptr) return layout;
    fields += fmt::format("{}`{}`", fields.empty() ? "" : " or ", layout.field);
  }
  throw Error(where, fmt::format("no record of {}", task.title), "one with the field " + fields);
}

/// The index of the choice that `gold` names among `choices`. Throws Error (where: `where`) on a label
/// outside its set, and on labels that fit no choices.
size_t gold_of(const Layout& layout, const json& record, const std::string& gold, size_t choices,
               const std::string& where) {
  std::vector<std::string> labels = render_each(layout.labels, record, where);
  if (labels.empty())
    for (size_t i = 0; i < choices; ++i) labels.push_back(std::to_string(i));
  const auto found = std::find(labels.begin(), labels.end(), gold);
  if (found == labels.end()) {
    const std::vector<std::string_view> known(labels.begin(), labels.end());
    throw Error(where, fmt::format("the label is \"{}\"", printable(gold, 60)), one_of(gold, known));
  }
  // A list of a task's own may name each choice twice, as A or as 1; a record's names each once.
  const bool of_record = std::any_of(layout.labels.begin(), layout.labels.end(),
                                     [](std::string_view text) { return text.find('*') != text.npos; });
  if (std::find(found + 1, labels.end(), gold) != labels.end())
    throw Error(where, fmt::format("two choices have the label \"{}\"", printable(gold, 60)), "one");
  if (of_record ? labels.size() != choices : labels.size() % choices != 0)
    throw Error(where, fmt::format("{} labels of {} choices", labels.size(), choices), "as many of both");
  return static_cast<size_t>(found - labels.begin()) % choices;
}

std::vector<TaskExample> read_examples(const Task& task, const fs::path& file) {
  std::vector<TaskExample> examples;
  for_each_task_record(file, [&](const json& record, const std::string& where) {
    examples.push_back(example_of(task, record, where));
  });
  return examples;
}

std::string field_of(std::string_view field, const json& record, const std::string& where) {
  return render_template(fmt::format("{{{}}}", field), record, where);
}

/// The worked examples of each subject, as examples without choices.
std::vector<TaskExample> read_worked(const Task& task, const fs::path& file) {
  std::vector<TaskExample> examples;
  for_each_task_record(file, [&](const json& record, const std::string& where) {
    if (!record.is_object())
      throw Error(where, "no JSON object", fmt::format("worked examples of {}", task.title));
    const WorkedExamples worked = worked_examples(field_of(task.worked, record, where), where);
    for (const std::string& text : worked.examples)
      examples.push_back({.record = record,
                          .text = text,
                          .description = worked.description,
                          .subject = field_of(task.subject, record, where)});
  });
  return examples;
}

std::vector<TaskExample> read_scored(const Task& task, const fs::path& data) {
  std::vector<TaskExample> examples;
  for (const std::string_view name : task.files) {
    const auto file = task_file(data, name);
    if (!file)
      throw Error((data / std::string(name)).string() + ".jsonl.xz", "not there",
                  fmt::format("the records of {} (--data FOLDER; .jsonl, "
                              ".jsonl.gz and .jsonl.zst will do)",
                              task.title));
    for (TaskExample& example : read_examples(task, *file)) examples.push_back(std::move(example));
  }
  if (examples.empty()) throw Error((data / std::string(task.files[0])).string(), "no record", "one a line");
  return examples;
}

/// The few-shot examples of a set; throws Error if there are too few.
void add_shots(TaskSet& set, const std::vector<TaskExample>& pool, bool own, const fs::path& data) {
  set.shots_from_examples = own;
  for (const TaskExample& example : pool)
    if (example.subject == set.subject) set.shot_pool.push_back(example);
  const size_t most = set.shot_pool.size() - (own ? 1 : 0);
  if (static_cast<size_t>(set.shots) > most)
    throw Error("--shots", fmt::format("{} examples before each prompt of {}", set.shots, set.name),
                fmt::format("at most {}, which {} has", most,
                            (data / std::string(own ? set.task->files[0] : set.task->shots_file)).string()));
  if (!own) set.shot_pool.resize(static_cast<size_t>(set.shots));
}

/// Gives the set's examples the description that stands before its worked ones.
void describe(TaskSet& set, const std::vector<TaskExample>& pool, const fs::path& file) {
  const auto worked = std::find_if(
      pool.begin(), pool.end(), [&](const TaskExample& example) { return example.subject == set.subject; });
  if (worked == pool.end())
    throw Error(file.string(), fmt::format("no record of {}", printable(set.subject, 60)), "one a subject");
  for (TaskExample& example : set.examples) example.description = worked->description;
}

}  // namespace

std::optional<fs::path> task_file(const fs::path& folder, std::string_view name) {
  for (const char* ending : {".jsonl.xz", ".jsonl", ".jsonl.gz", ".jsonl.zst"}) {
    const fs::path file = folder / (std::string(name) + ending);
    std::error_code ignored;
    if (fs::exists(file, ignored)) return file;
  }
  return {};
}

void for_each_task_record(const fs::path& file,
                          const std::function<void(const json&, const std::string&)>& take) {
  for_each_line(
      file,
      [&](std::string_view line, size_t number) {
        if (strip(line).empty()) return true;
        const std::string where = fmt::format("{}:{}", file.string(), number);
        take(parse_json(line, where, {.bytes = kRecordBytes}), where);
        return true;
      },
      kRecordBytes);
}

std::string render_template(std::string_view text, const json& record, const std::string& where) {
  return render_all(text, record, where).front();
}

TaskExample example_of(const Task& task, const json& record, const std::string& where) {
  if (!record.is_object()) throw Error(where, "no JSON object", fmt::format("a record of {}", task.title));
  const Layout& layout = layout_of(task, record, where);
  TaskExample example;
  example.text = render_template(layout.text, record, where);
  example.choices = render_each(layout.choices, record, where);
  if (task.wikihow) {
    example.text = without_wikihow(example.text);
    for (std::string& choice : example.choices) choice = without_wikihow(choice);
  }
  const std::string gold = render_template(layout.gold, record, where);
  if (task.writing) {
    example.target = gold;
  } else {
    example.gold = gold_of(layout, record, gold, example.choices.size(), where);
  }
  example.description = render_template(task.description, record, where);
  if (!task.subject.empty()) example.subject = field_of(task.subject, record, where);
  example.record = record;
  return example;
}

WorkedExamples worked_examples(std::string_view text, const std::string& where) {
  constexpr std::string_view kNoticeEnd = "\n-----\n",
                             kQuestion = "\nQ: ", kThink = "\nA: Let's think step by step.";
  const auto without_ends = [](std::string_view part) {
    while (part.ends_with('\n')) part.remove_suffix(1);
    return part;
  };
  if (const size_t notice = text.rfind(kNoticeEnd); notice != text.npos)
    text.remove_prefix(notice + kNoticeEnd.size());
  WorkedExamples worked;
  size_t at = text.find(kQuestion);
  worked.description = fmt::format("{}\n\n", without_ends(text.substr(0, at)));
  while (at != text.npos) {
    const size_t next = text.find(kQuestion, at + 1);
    std::string example(without_ends(text.substr(at + 1, next == text.npos ? next : next - at - 1)));
    const size_t think = example.find(kThink), reasoning = think + kThink.size();
    if (think == example.npos || reasoning >= example.size())
      throw Error(where, "a worked example without reasoning",
                  "\"A: Let's think step by step.\" and what follows it");
    example[reasoning] = '\n';  // the file has a space there in one task
    worked.examples.push_back(std::move(example));
    at = next;
  }
  if (worked.examples.empty()) throw Error(where, "no worked example", "lines that begin with \"Q: \"");
  return worked;
}

std::vector<TaskSet> read_task(const TaskChoice& choice, const TaskOptions& options) {
  const Task& task = *choice.task;
  const auto examples = read_scored(task, options.data);
  std::vector<std::string> subjects;
  for (const TaskExample& example : examples) {
    const bool wanted = choice.subject.empty() || choice.subject == example.subject;
    if (wanted && std::find(subjects.begin(), subjects.end(), example.subject) == subjects.end())
      subjects.push_back(example.subject);
  }
  if (subjects.empty())
    throw Error(
        "--tasks", fmt::format("no record of {}_{}", task.name, printable(choice.subject, 60)),
        fmt::format("a `{}` of {}", task.subject, (options.data / std::string(task.files[0])).string()));
  const int shots = options.shots.value_or(task.shots);
  const bool asks_file = shots > 0 || !task.worked.empty();  // it has the description too
  const auto shots_file = asks_file ? task_file(options.data, task.shots_file) : std::nullopt;
  if (asks_file && !shots_file && task.shots > 0)  // a task that always has them has its own file
    throw Error((options.data / std::string(task.shots_file)).string() + ".jsonl.xz", "not there",
                fmt::format("the few-shot examples of {}{}", task.title,
                            task.worked.empty() ? " (--shots 0: none)" : ""));
  std::vector<TaskExample> pool;
  if (shots_file)
    pool = task.worked.empty() ? read_examples(task, *shots_file) : read_worked(task, *shots_file);
  std::vector<TaskSet> sets;
  for (const std::string& subject : subjects) {
    TaskSet set{.task = &task,
                .name = std::string(task.name) + (subject.empty() ? "" : "_" + subject),
                .subject = subject,
                .shots = shots};
    if (asks_file) add_shots(set, shots_file ? pool : examples, !shots_file, options.data);
    for (const TaskExample& example : examples) {
      if (example.subject != subject) continue;
      if (set.documents < options.limit.value_or(INT64_MAX)) set.examples.push_back(example);
      ++set.documents;
    }
    if (!task.worked.empty()) describe(set, pool, *shots_file);
    sets.push_back(std::move(set));
  }
  return sets;
}

}  // namespace linnet
