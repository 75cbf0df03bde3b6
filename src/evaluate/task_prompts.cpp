#include "evaluate/task_prompts.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "text/chat_template.h"
#include "text/unicode.h"

namespace linnet {
namespace {

constexpr std::string_view kDelimiter = " ", kShotDelimiter = "\n\n";

std::string joined(const Task& task, const TaskExample& example) {
  if (task.writing) return example.text;  // worked to its end
  const std::string& choice = example.choices[example.gold];
  return task.choices_first ? fmt::format("{}{}{}", choice, kDelimiter, example.text)
                            : fmt::format("{}{}{}", example.text, kDelimiter, choice);
}

using Json = nlohmann::ordered_json;

Json turn(const char* role, const std::string& text) { return {{"role", role}, {"content", text}}; }

/// The few-shot examples that stand before an example.
std::vector<const TaskExample*> shots_of(const TaskSet& set, const TaskExample& example) {
  std::vector<const TaskExample*> shots;
  for (const TaskExample& shot : set.shot_pool) {
    if (std::ssize(shots) == set.shots) break;
    if (!set.shots_from_examples || shot.record != example.record) shots.push_back(&shot);
  }
  return shots;
}

/// As the harness asks with a chat template: the description is the system's message, each worked example a
/// question and an answer, and no space stands before what is scored. A template that takes no system's
/// message is given none.
std::vector<TaskPrompt> chat_prompts_of(const TaskSet& set, const TaskExample& example) {
  const bool first = set.task->choices_first;
  Json before = Json::array();
  if (!example.description.empty()) before.push_back(turn("system", example.description));
  for (const TaskExample* shot : shots_of(set, example)) {
    const std::string& choice = shot->choices[shot->gold];
    before.push_back(turn("user", first ? choice : shot->text));
    before.push_back(turn("assistant", first ? shot->text : choice));
  }
  const auto render = [&](const std::string& question) {
    Json messages = before;
    messages.push_back(turn("user", question));
    try {
      return set.chat->render(messages, /*answer=*/true);
    } catch (const Error&) {
      if (example.description.empty()) throw;
      messages.erase(0);
      return set.chat->render(messages, /*answer=*/true);
    }
  };
  std::vector<TaskPrompt> prompts;
  const std::string question = first ? "" : render(example.text);
  for (const std::string& choice : example.choices)
    prompts.push_back(first ? TaskPrompt{render(choice), example.text} : TaskPrompt{question, choice});
  return prompts;
}

}  // namespace

std::vector<TaskPrompt> prompts_of(const TaskSet& set, size_t index) {
  const TaskExample& example = set.examples[index];
  if (set.chat != nullptr) return chat_prompts_of(set, example);
  std::string before = example.description;
  for (const TaskExample* shot : shots_of(set, example)) {
    before += joined(*set.task, *shot);
    before += kShotDelimiter;
  }
  if (set.task->writing) return {{before + example.text, ""}};
  std::vector<TaskPrompt> prompts;
  for (const std::string& choice : example.choices) {
    const bool first = set.task->choices_first;
    prompts.push_back({before + (first ? choice : example.text),
                       std::string(kDelimiter) + (first ? example.text : choice)});
  }
  return prompts;
}

PromptEncoder::PromptEncoder(const Tokenizer& tokenizer, int32_t prefix, int64_t positions)
    : tokenizer_(tokenizer),
      prefix_(prefix),
      bos_(tokenizer.text_of(prefix)),
      positions_(static_cast<size_t>(positions)) {}

std::vector<int32_t> PromptEncoder::ids_of(std::string_view text) const {
  return tokenizer_.encode(text, bos_.empty() || !text.starts_with(bos_));
}

LikelihoodRequest PromptEncoder::encode(const TaskPrompt& prompt, const std::string& where) const {
  LikelihoodRequest request;
  std::vector<int32_t>& tokens = request.tokens;
  if (prompt.context.empty()) {
    tokens = tokenizer_.encode(prompt.continuation);
    if (tokens.empty() || tokens.front() != prefix_) tokens.insert(tokens.begin(), prefix_);
    request.first = 1;
  } else {
    const size_t spaces = space_suffix(prompt.context);
    const std::string_view context(prompt.context.data(), prompt.context.size() - spaces);
    tokens = ids_of(prompt.context + prompt.continuation);
    const std::vector<int32_t> alone = ids_of(context);
    std::copy_n(alone.begin(), std::min(alone.size(), tokens.size()), tokens.begin());
    request.first = alone.size();
  }
  const size_t all = tokens.size();
  if (request.first == 0 || request.first >= all || all - request.first > positions_)
    throw Error(
        where,
        fmt::format("{} tokens after {} of context", all - std::min(request.first, all), request.first),
        fmt::format("1 to {} after at least one", positions_));
  if (all > positions_ + 1) {
    const size_t lost = all - positions_ - 1;
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(lost));
    request.first -= lost;
  }
  return request;
}

std::vector<int32_t> PromptEncoder::encode_before(std::string_view context, int64_t tokens,
                                                  const std::string& where) const {
  if (tokens >= static_cast<int64_t>(positions_))
    throw Error(where,
                fmt::format("answers of up to {} tokens, of a model of {} positions", tokens, positions_),
                "more positions");
  std::vector<int32_t> ids = ids_of(context);
  const size_t most = positions_ - static_cast<size_t>(tokens);
  if (ids.size() > most) ids.erase(ids.begin(), ids.end() - static_cast<ptrdiff_t>(most));
  return ids;
}

}  // namespace linnet
