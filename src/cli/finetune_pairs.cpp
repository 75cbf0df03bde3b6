// linnet finetune --text-fields SOURCE,TARGET, or MESSAGES: a model of an encoder and a decoder on pairs of
// texts, or on the answers of conversations.
#include <fmt/format.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/finetune.h"
#include "evaluate/task_records.h"
#include "text/chat_template.h"

namespace linnet::cli {
namespace {

using Messages = nlohmann::ordered_json;  // a list of them, or one

/// Of sources that are held as text: a long conversation stands before each of its answers anew.
constexpr size_t kBytesAtOnce = 64 << 20;

struct Pair {
  std::string source, target, where;
  bool of_chat = false, laid_out = false;  // by a chat template, which writes the special tokens itself
};

/// Records of two fields: what is read, and what is to be written.
std::vector<Pair> read_fields(const std::filesystem::path& file, const TextFields& fields) {
  std::vector<Pair> pairs;
  for (LabeledText& text : read_labeled(file, fields, /*labeled=*/false))
    pairs.push_back({std::move(text.texts[0]), std::move(text.texts[1]), std::move(text.where)});
  return pairs;
}

/// What a message says.
std::string content_of(const Messages& message, const std::string& where) {
  if (!message.contains("content") || !message["content"].is_string())
    throw Error(where, "a message whose content is no text", "a string");
  return message["content"].get<std::string>();
}

/// The messages before an answer, as `generate` would give them to the encoder: laid out by the model's
/// template, or, where it has none, a line each.
Pair pair_of(const Messages& before, std::string answer, const std::optional<ChatTemplate>& layout,
             const std::string& where) {
  Pair pair{{}, std::move(answer), where, /*of_chat=*/true, layout.has_value()};
  if (layout) {
    try {
      pair.source = layout->render(before, /*answer=*/true);
    } catch (const Error& error) {  // which names the template's line alone
      throw Error(where, error.what(), {}, error.status());
    }
    return pair;
  }
  for (const Messages& message : before)
    pair.source += (pair.source.empty() ? "" : "\n") + content_of(message, where);
  return pair;
}

/// Records of one field, a conversation: each of its answers is to be written, and is what `take` is given.
void read_chats(const std::filesystem::path& file, const std::string& field,
                const std::optional<ChatTemplate>& layout, const std::function<void(Pair)>& take) {
  int64_t taken = 0;
  for_each_task_record(file, [&](const nlohmann::json& record, const std::string& where) {
    const std::string name = fmt::format("`{}`", printable(field, 60));
    if (!record.is_object() || !record.contains(field) || !record[field].is_array())
      throw Error(where, "no list of messages in " + name,
                  "one, or two names in --text-fields: what is read, and what is to be written");
    const Messages messages = read_messages(record[field].dump(), where + ": " + name);
    Messages before = Messages::array();
    const int64_t before_it = taken;
    for (const Messages& message : messages) {
      if (message["role"] == "assistant") {
        if (before.empty()) throw Error(where, "an answer that nothing stands before", "a message first");
        take(pair_of(before, content_of(message, where), layout, where));
        ++taken;
      }
      before.push_back(message);
    }
    if (taken == before_it) throw Error(where, "no answer", "a message of the role assistant");
  });
  if (taken == 0) throw Error(file.string(), "no record", "one a line");
}

/// The last tokens of a conversation, the special ones kept.
std::vector<int32_t> end_of_chat(const Pair& pair, const Tokenizer& tokenizer, int64_t length) {
  const int64_t room = length - (pair.laid_out ? 0 : static_cast<int64_t>(tokenizer.framing()));
  if (room < 1) throw Error("--length", fmt::format("{}", length), "room for a text's tokens");
  const std::vector<int32_t> ids = tokenizer.encode_end(pair.source, static_cast<size_t>(room));
  if (ids.empty()) throw Error(pair.where, "a conversation without a token", "words");
  return pair.laid_out ? ids : tokenizer.framed(ids).tokens;
}

/// Adds each source as `generate` gives it to the encoder, each target with the end token behind it; longer
/// ones are cut, the special tokens kept.
void encode(const std::vector<Pair>& texts, const Tokenizer& tokenizer, const Model& model, int64_t length,
            ThreadPool& pool, train::TokenPairs& pairs) {
  const int32_t end = end_token(model.config(), tokenizer, model.tokenizer_folder().string());
  const size_t known = pairs.sources.size();
  pairs.sources.resize(known + texts.size());
  pairs.targets.resize(known + texts.size());
  const TextEncoder sources(tokenizer, length, 0);
  pool.run(texts.size(), [&](size_t i) {
    const Pair& text = texts[i];
    pairs.sources[known + i] =
        text.of_chat ? end_of_chat(text, tokenizer, length)
                     : sources.encode({.texts = {text.source}, .label = {}, .where = text.where}).tokens;
    std::vector<int32_t>& target = pairs.targets[known + i];
    target = tokenizer.encode(text.target);
    if (target.empty()) throw Error(text.where, "nothing to write", "words to learn");
    target.resize(std::min(target.size(), static_cast<size_t>(length) - 1));
    target.push_back(end);
  });
}

}  // namespace

bool has_pairs(const FinetuneOptions& options) {
  return options.task.empty() && !options.fields.texts.empty();
}

FinetunePairs read_pairs(const FinetuneOptions& options, const Model& model) {
  const TrainingOptions& training = options.training;
  if (!model.encoder())
    throw Error("--text-fields",
                fmt::format("given without --task, and {} has no encoder", model.config().model_type),
                "--task FILE too, or a model of an encoder and a decoder (T5)");
  const std::vector<std::string>& fields = options.fields.texts;
  if (fields.size() > 2)
    throw Error("--text-fields", counted(std::ssize(fields), "field"),
                "two: what is read, and what is to be written; or one of messages");
  refuse_given(
      *training.shared.app,
      {"--tokens", "--context", "--field", "--packing", "--repeats", "--valid-bytes", "--valid-window"},
      "given with --text-fields", "--epochs and --length");
  check_data(training);
  const Tokenizer tokenizer = Tokenizer::load(model.tokenizer_folder());
  const auto layout = ChatTemplate::find(model.tokenizer_folder(), tokenizer);
  ThreadPool pool(training.shared.threads);
  const auto read = [&](const std::vector<std::filesystem::path>& files) {
    train::TokenPairs pairs{.start = static_cast<int32_t>(model.config().start)};
    std::vector<Pair> texts;
    size_t bytes = 0;
    const auto flush = [&] {
      encode(texts, tokenizer, model, options.length, pool, pairs);
      texts.clear();
      bytes = 0;
    };
    const auto take = [&](Pair pair) {
      bytes += pair.source.size();
      texts.push_back(std::move(pair));
      if (bytes >= kBytesAtOnce) flush();
    };
    for (const auto& file : files) {
      if (fields.size() == 1) {
        read_chats(file, fields.front(), layout, take);
      } else {
        for (Pair& pair : read_fields(file, options.fields)) take(std::move(pair));
      }
    }
    flush();
    return pairs;
  };
  FinetunePairs pairs{.train = read(training.data)};
  if (!training.valid.empty()) pairs.held_out = std::make_unique<train::PairValidation>(read(training.valid));
  return pairs;
}

}  // namespace linnet::cli
